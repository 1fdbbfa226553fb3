//! Answers to DNS checks. The first byte says what the check asks for.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use dataplane::control::model::health::{Dns, DnsData};
use dataplane::health::dns::{judge, question};
use dataplane::testing::choices::Choices;
use libfuzzer_sys::fuzz_target;

const ID: u16 = 0x1234;

static CHECKS: LazyLock<[Dns; 5]> = LazyLock::new(|| {
    let check = |record, rcode, answer| Dns {
        labels: [&b"www"[..], b"example", b"org"].map(Vec::from).to_vec(),
        record,
        rcode,
        answer,
    };
    [
        check(1, 0, Some(DnsData::V4(Ipv4Addr::new(192, 0, 2, 1)))),
        check(28, 0, Some(DnsData::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)))),
        check(2, 0, Some(DnsData::Text("ns.example.org".into()))),
        check(16, 0, Some(DnsData::Text("all well".into()))),
        check(6, 3, None),
    ]
});

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let check = choices.of(&*CHECKS);
    let answer = choices.take(usize::MAX);
    if let Some(finding) = judge(check, ID, answer) {
        let words = finding.unwrap_or_else(|failure| failure.words);
        assert!(!words.is_empty() && words.len() < 200, "{words}");
    }
    assert_eq!(judge(check, !ID, &question(check, ID)), None);
});
