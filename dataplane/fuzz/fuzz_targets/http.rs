//! Answers to HTTP checks: what a probe finds does not depend on how an answer is split. The first byte says what the check
//! asks for, the second one how large the pieces are.
#![no_main]

use std::sync::{Arc, LazyLock};

use dataplane::control::model::health::{Ask, Http, checked};
use dataplane::health::Finding;
use dataplane::health::http::HttpAnswer;
use dataplane::testing::choices::Choices;
use libfuzzer_sys::fuzz_target;

static CHECKS: LazyLock<[Arc<Http>; 4]> = LazyLock::new(|| {
    ["http body=well$", "http", "http body=a*well", "http method=HEAD"].map(|text| {
        let service = "192.0.2.1:80".parse().expect("it is a service");
        let check = checked(&text.parse().expect("it is a check"), &service).expect("it is good");
        let Ask::Http(http) = check.ask else { panic!("{text}") };
        http
    })
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
