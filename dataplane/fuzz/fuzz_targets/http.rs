//! Answers to HTTP checks: what a probe finds does not depend on how an answer is split. The first byte says what the check
//! asks for, the second one how large the pieces are.
#![no_main]

use std::sync::LazyLock;

use dataplane::control::model::health::Http;
use dataplane::health::Finding;
use dataplane::health::http::HttpAnswer;
use dataplane::testing::choices::Choices;
use libfuzzer_sys::fuzz_target;
use regex::bytes::Regex;

static CHECKS: LazyLock<[Http; 3]> = LazyLock::new(|| {
    let check = |method: &str, body: Option<&str>| Http {
        method: method.into(),
        path: "/".into(),
        host: None,
        status: vec![200..=399],
        body: body.map(|text| Regex::new(text).expect("it is an expression")),
    };
    [check("GET", Some("well$")), check("GET", None), check("HEAD", Some("^$"))]
});

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let check = choices.of(&*CHECKS);
    let size = usize::from(choices.byte()).max(1);
    let answer = choices.take(usize::MAX);
    let whole = HttpAnswer::default().hear(check, answer, true).expect("the connection has ended");
    assert_eq!(in_pieces(check, answer.chunks(size)), whole);
    // The same, with a large body behind it.
    let large = [answer, &[b'x'; 70_000]].concat();
    let whole = HttpAnswer::default().hear(check, &large, true).expect("the connection has ended");
    assert_eq!(in_pieces(check, large.chunks(size * 100)), whole);
});

fn in_pieces<'p>(check: &Http, pieces: impl Iterator<Item = &'p [u8]>) -> Finding {
    let mut answer = HttpAnswer::default();
    for piece in pieces {
        if let Some(finding) = answer.hear(check, piece, false) {
            assert_eq!(answer.hear(check, piece, true), None, "it is judged once");
            return finding;
        }
    }
    answer.hear(check, b"", true).expect("the connection has ended")
}
