//! Sessions against a server of the same library, and against what is none.

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::control::model::health::{Ask, checked};

/// Shows a certificate for `a.example` that is valid in these years.
fn server(years: [i32; 2], versions: &[&'static SupportedProtocolVersion]) -> (ServerConnection, String) {
    let mut params = CertificateParams::new(["a.example".to_string()]).unwrap();
    [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(versions).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private);
    (ServerConnection::new(Arc::new(config.unwrap())).unwrap(), certificate.pem())
}

fn now() -> UnixTime {
    // 2030-01-01.
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_893_456_000))
}

fn session(check: &str) -> Session {
    let check = checked(&check.parse().unwrap(), &"[2001:db8::1]:443".parse().unwrap()).unwrap();
    let Ask::Https(https) = check.ask else { panic!() };
    Session::begin(&https, ("2001:db8::1".parse().unwrap(), 443), now()).unwrap()
}

fn said(finding: Finding) -> String {
    finding.unwrap_or_else(|failure| format!("{:?}: {failure}", failure.trouble))
}

/// Has both talk until there is a finding, or nothing more to be said. The server gives this answer to the first request, and closes
/// in order. Its bytes come in pieces of this size. Returns the finding, and the request.
fn talk(session: &mut Session, server: &mut ServerConnection, answer: &[u8], piece: usize) -> (Option<String>, String) {
    let mut request = Vec::new();
    for _ in 0..20 {
        let bytes = session.take_bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            let _ = server.process_new_packets();
        }
        let had = request.len();
        let _ = server.reader().read_to_end(&mut request);
        if had == 0 && !request.is_empty() {
            server.set_buffer_limit(None);
            server.writer().write_all(answer).unwrap();
            server.send_close_notify();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        for piece in bytes.chunks(piece) {
            if let Some(finding) = session.hear(piece, false) {
                assert_eq!(session.hear(b"more", true), None, "it is found once");
                return (Some(said(finding)), String::from_utf8(request).unwrap());
            }
        }
    }
    (None, String::from_utf8(request).unwrap())
}

#[test]
fn an_answer_over_tls_is_judged_as_one_without() {
    for versions in [[&TLS12], [&TLS13]] {
        for (check, answer, says) in [
            ("https host=a.example path=/health", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP 200"),
            ("https host=a.example", "HTTP/1.1 503 Oops\r\n\r\n", "Wrong: HTTP 503"),
            ("https body=well", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall well", "HTTP 200"),
            ("https body=^well$", "HTTP/1.1 200 OK\r\n\r\nwell", "HTTP 200"),
            ("https body=^well$", "HTTP/1.1 200 OK\r\n\r\nwell?", "Wrong: HTTP 200, but the body does not match"),
            ("https", "SSH-2.0\r\n", "Wrong: not an answer of HTTP"),
            ("https", "", "Wrong: the connection was closed before the answer"),
        ] {
            for piece in [1, 7, 4_096] {
                let (mut session, (mut server, _)) = (session(check), server([2029, 2031], &versions));
                let (finding, request) = talk(&mut session, &mut server, answer.as_bytes(), piece);
                assert_eq!(finding.as_deref(), Some(says), "{check} {answer} in pieces of {piece}");
                let host = if check.contains("host") { "a.example" } else { "[2001:db8::1]" };
                assert!(request.contains(&format!("\r\nHost: {host}\r\n")), "{request}");
                assert_eq!(server.server_name(), check.contains("host").then_some("a.example"));
                assert_eq!(server.alpn_protocol(), None, "the server has named none");
                let report = session.take_report().unwrap();
                assert_eq!(report, Report { until: Some(1_924_992_000), complaint: None });
                // An orderly end.
                let mut rest = &session.take_bytes()[..];
                server.read_tls(&mut rest).unwrap();
                assert!(server.process_new_packets().unwrap().peer_has_closed());
            }
        }
    }
}

#[test]
fn a_bad_certificate_fails_a_check_that_verifies_it_and_is_told_by_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for (years, host, words) in [
        ([2020, 2021], "a.example", "certificate expired 3287 days ago"),
        ([2031, 2032], "a.example", "certificate is not valid yet, and will be in 365 days"),
        ([2029, 2031], "b.example", "certificate is for a.example, not b.example"),
    ] {
        for versions in [[&TLS12], [&TLS13]] {
            let (mut server, pem) = server(years, &versions);
            std::fs::write(&path, pem).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            let mut off = session(&format!("https host={host}"));
            assert_eq!(talk(&mut off, &mut server, answer, 1_000).0.as_deref(), Some("HTTP 200"));
            let complaint = off.take_report().unwrap().complaint.unwrap();
            assert_eq!((&*complaint.words, complaint.error), (words, None));

            let (mut server, pem) = self::server(years, &versions);
            std::fs::write(&path, pem).unwrap();
            let mut on = session(&format!("https host={host} verify={}", path.display()));
            let (finding, request) = talk(&mut on, &mut server, answer, 1_000);
            assert_eq!((finding, &*request), (Some(format!("Certificate: {words}")), ""));
            assert!(on.take_report().unwrap().complaint.unwrap().error.is_some());
            // The server is told why.
            let mut rest = &on.take_bytes()[..];
            server.read_tls(&mut rest).unwrap();
            assert!(matches!(server.process_new_packets(), Err(Error::AlertReceived(_))), "{words}");
        }
    }
    let (mut server, pem) = server([2029, 2031], &[&TLS13]);
    std::fs::write(&path, pem).unwrap();
    let mut good = session(&format!("https host=a.example verify={}", path.display()));
    assert_eq!(talk(&mut good, &mut server, b"HTTP/1.1 204 x\r\n\r\n", 50).0.as_deref(), Some("HTTP 204"));
}

#[test]
fn what_is_no_tls_is_told_as_what_it_is() {
    for (bytes, end, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, "does not speak TLS"),
        (b"S", false, "does not speak TLS"),
        (b"", true, "the connection was closed before the TLS handshake"),
        (b"\x16\x03", true, "the connection was closed in the TLS handshake"),
        (b"\x15\x03\x01\x00\x02\x02\x28", false, "TLS alert: handshake failure"),
        (b"\x15\x03\x03\x00\x02\x02\x46", true, "TLS alert: protocol version"),
        (b"\x15\x03\x03\x00\x02\x02\x78", true, "TLS alert: no application protocol"),
    ] {
        for piece in [1, 100] {
            let mut session = session("https");
            assert!(!session.take_bytes().is_empty());
            let finding = bytes.chunks(piece).find_map(|piece| session.hear(piece, false));
            let finding = finding.or_else(|| session.hear(b"", end)).unwrap();
            assert_eq!(said(finding), format!("Wrong: {says}"));
        }
    }
    let mut session = session("https");
    assert_eq!((session.hear(b"\x16\x03", false), session.phase()), (None, Phase::Handshake));
}

/// What a server may send without an end is not kept, and not heard for ever.
#[test]
fn nothing_that_has_no_end_is_heard_on() {
    let record = |kind: u8, data: &[u8]| {
        let len = u16::try_from(data.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &len, data].concat()
    };
    // The server's hello, and a certificate of 16 MB.
    let mut hello = vec![2, 0, 0, 0x26, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x2f, 0]);
    let certificate = record(22, &[11, 0xff, 0xff, 0xff]);
    for (begin, again) in [
        (record(22, &hello), record(22, &[0; 16_000])),
        ([record(22, &hello), certificate].concat(), record(22, &[0; 16_000])),
        (Vec::new(), record(22, &[0, 0, 0, 0])),
        (Vec::new(), record(20, &[1])),
        (Vec::new(), record(21, &[1, 90])),
        (Vec::new(), record(22, &[])),
    ] {
        let mut session = session("https");
        session.take_bytes();
        let mut finding = session.hear(&begin, false);
        let mut heard = begin.len();
        while finding.is_none() {
            finding = session.hear(&again, false);
            heard += again.len();
            assert!(heard < 2 * MAX_RECEIVED);
            assert!(session.take_bytes().len() < 1_000);
        }
        assert!(said(finding.unwrap()).starts_with("Wrong: "), "{again:?}");
    }
    // A body that has no end, of a check that nothing matches.
    let (mut session, (mut server, _)) = (session("https body=never"), server([2029, 2031], &[&TLS13]));
    let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; 1 << 20]].concat();
    let (finding, _) = talk(&mut session, &mut server, &answer, 4_096);
    assert_eq!(finding.as_deref(), Some("Wrong: HTTP 200, but the body does not match"));
    assert!(session.received < 100_000, "{}", session.received);
}

proptest! {
    #[test]
    fn the_finding_does_not_depend_on_how_the_bytes_are_split(
        cuts in proptest::collection::vec(1..600_usize, 1..40),
        damage in any::<Option<(prop::sample::Index, u8)>>(),
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
        tls13 in any::<bool>(),
    ) {
        // What a server says is not the same twice. So one server talks to a session, and what it says is split anew: up to
        // the end of its first flight, since its answers to another session would be others.
        let (mut server, _) = server([2029, 2031], &if tls13 { [&TLS13] } else { [&TLS12] });
        let mut first = session("https host=a.example");
        let hello = first.take_bytes();
        server.read_tls(&mut &hello[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        if let Some((index, with)) = damage {
            let index = index.index(flight.len());
            flight[index] = with;
        }
        flight.extend(&garbage);
        let hear = |session: &mut Session, cuts: &[usize]| {
            let (mut rest, mut cuts) = (&flight[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                if let Some(finding) = session.hear(piece, false) {
                    return Some(said(finding));
                }
                rest = behind;
            }
            session.hear(b"", true).map(said)
        };
        // Both have no key for what follows the server's hello, and say so alike.
        let mut one = session("https host=a.example");
        let mut other = session("https host=a.example");
        one.take_bytes();
        other.take_bytes();
        prop_assert_eq!(hear(&mut one, &[flight.len().max(1)]), hear(&mut other, &cuts));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 20..24_u8) {
        let mut session = session("https");
        session.hear(&[&[kind, 3, 3][..], &bytes].concat(), true);
    }
}
