//! DNS: the question of a check, and what its answer says (RFC 1035 §4).

use smoltcp::wire::{DnsFlags, DnsPacket, DnsQueryType, DnsQuestion, DnsRecord, DnsRecordData};

use crate::control::model::health::{Dns, DnsData, RCODES};
use crate::health::finding::{Finding, wrong};

/// Internet, the only class that is asked for.
const CLASS: u16 = 1;
/// A flag of the question: the server may ask others.
const RECURSION_DESIRED: u16 = 0x0100;
/// The longest answer that is read. The question allows for 512 bytes (RFC 1035 §4.2.1).
const MAX_ANSWER: usize = 4_096;
/// The type of records that are text.
const TXT: u16 = 16;

/// The question that a check asks, with this number.
pub fn question(dns: &Dns, id: u16) -> Vec<u8> {
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mut question = words(&[id, RECURSION_DESIRED, 1, 0, 0, 0]);
    for label in &dns.labels {
        // The model has no label of more than 63 bytes, and the two highest bits mean something else.
        let len = label.len().min(63);
        question.extend(u8::try_from(len));
        question.extend_from_slice(&label[..len]);
    }
    question.push(0);
    question.extend(words(&[dns.record, CLASS]));
    question
}

/// Judges an answer. `None`: it answers another question.
pub fn judge(dns: &Dns, id: u16, answer: &[u8]) -> Option<Finding> {
    let Ok(packet) = DnsPacket::new_checked(answer) else { return Some(wrong("not an answer of DNS")) };
    if packet.transaction_id() != id {
        return None;
    }
    if !packet.flags().contains(DnsFlags::RESPONSE) {
        return Some(wrong("not an answer of DNS"));
    }
    if answer.len() > MAX_ANSWER {
        return Some(wrong(format!("the answer is longer than {MAX_ANSWER} bytes")));
    }
    let rcode = u8::from(packet.rcode());
    let records = match packet.question_count() {
        // A server that refuses to read a question need not repeat it.
        0 if rcode != 0 => packet.payload(),
        1 => match DnsQuestion::parse(packet.payload()) {
            Ok((rest, question)) if u16::from(question.type_) == dns.record => {
                let asked = dns.labels.iter().map(Vec::as_slice);
                match is_name(&packet, question.name, asked) {
                    Some(true) => rest,
                    Some(false) => return None,
                    None => return Some(wrong("the answer is damaged")),
                }
            }
            Ok(_) => return None,
            Err(_) => return Some(wrong("the answer is damaged")),
        },
        _ => return None,
    };
    Some(judge_content(dns, &packet, rcode, records))
}

fn judge_content(dns: &Dns, packet: &DnsPacket<&[u8]>, rcode: u8, records: &[u8]) -> Finding {
    let word = RCODES.iter().find(|&&(_, number)| number == rcode);
    let word = word.map_or_else(|| format!("RCODE {rcode}"), |&(word, _)| word.into());
    if rcode != dns.rcode {
        return wrong(word);
    }
    let Some(wanted) = &dns.answer else { return Ok(word) };
    match find(dns.record, wanted, packet, records) {
        Some(true) => Ok(format!("{word}, {}", written(dns.record, wanted))),
        Some(false) if packet.flags().contains(DnsFlags::TRUNCATED) => {
            wrong(format!("the answer is truncated, and has no {}", written(dns.record, wanted)))
        }
        Some(false) => wrong(format!("the answer has no {}", written(dns.record, wanted))),
        None => wrong("the answer is damaged"),
    }
}

/// A record as an operator writes it.
fn written(record: u16, data: &DnsData) -> String {
    let kind = match record {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        12 => "PTR",
        TXT => "TXT",
        28 => "AAAA",
        _ => return format!("record of type {record}"),
    };
    match data {
        DnsData::V4(address) => format!("{kind} record {address}"),
        DnsData::V6(address) => format!("{kind} record {address}"),
        DnsData::Text(text) => format!("{kind} record {text}"),
    }
}

/// Whether the wanted record is among those of the answer, whoever's it is: an alias may lead to another name. `None`: they are damaged.
fn find(record: u16, wanted: &DnsData, packet: &DnsPacket<&[u8]>, mut records: &[u8]) -> Option<bool> {
    for _ in 0..packet.answer_record_count() {
        let (rest, found) = DnsRecord::parse(records).ok()?;
        records = rest;
        let is_it =
            match (wanted, found.data) {
                (DnsData::V4(wanted), DnsRecordData::A(address)) => address == *wanted,
                (DnsData::V6(wanted), DnsRecordData::Aaaa(address)) => address == *wanted,
                (DnsData::Text(text), DnsRecordData::Cname(name)) if record == u16::from(DnsQueryType::Cname) => {
                    is_name_text(packet, name, text)?
                }
                (DnsData::Text(text), DnsRecordData::Other(kind, data)) if u16::from(kind) == record => {
                    if record == TXT { is_text(data, text)? } else { is_name_text(packet, data, text)? }
                }
                _ => false,
            };
        if is_it {
            return Some(true);
        }
    }
    Some(false)
}

/// Whether a name is this one, in which dots separate the labels.
fn is_name_text(packet: &DnsPacket<&[u8]>, name: &[u8], text: &str) -> Option<bool> {
    is_name(packet, name, text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
}

/// Whether a name, which pointers may shorten (RFC 1035 §4.1.4), has these labels. Case makes no difference (§2.3.3). `None`: it is damaged.
///
/// A pointer must lead to before where the last one led, so that there are no circles: smoltcp sees to that.
fn is_name<'l>(packet: &DnsPacket<&[u8]>, name: &[u8], mut labels: impl Iterator<Item = &'l [u8]>) -> Option<bool> {
    for label in packet.parse_name(name) {
        let label = label.ok()?;
        if !labels.next().is_some_and(|wanted| wanted.eq_ignore_ascii_case(label)) {
            return Some(false);
        }
    }
    Some(labels.next().is_none())
}

/// Whether the strings of a TXT record (RFC 1035 §3.3.14) are this text together. The model knows no dots at its end. `None`: it is damaged.
fn is_text(mut data: &[u8], text: &str) -> Option<bool> {
    let mut whole = Vec::new();
    // Bound: each round takes a byte of the record, or more.
    while let Some((&len, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(len.into())?;
        whole.extend_from_slice(string);
        data = rest;
    }
    let end = whole.iter().rposition(|&c| c != b'.').map_or(0, |last| last + 1);
    Some(whole[..end] == *text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const ID: u16 = 0x1234;

    fn check(name: &str, record: u16, rcode: u8, answer: Option<DnsData>) -> Dns {
        let labels = name.split('.').filter(|label| !label.is_empty()).map(|label| label.into()).collect();
        Dns { labels, record, rcode, answer }
    }

    /// An answer to a check's question, with these records: type and data. Their name is a pointer to the question's.
    fn answer(dns: &Dns, rcode: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut answer = question(dns, ID);
        answer[2] |= 0x80;
        answer[3] = rcode;
        answer[7] = records.len().try_into().unwrap();
        for (record, data) in records {
            answer.extend([0xc0, 12]);
            answer.extend(record.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answer.extend_from_slice(data);
        }
        answer
    }

    fn said(dns: &Dns, answer: &[u8]) -> String {
        match judge(dns, ID, answer) {
            None => "nothing".into(),
            Some(Ok(words)) => words,
            Some(Err(failure)) => format!("bad: {failure}"),
        }
    }

    #[test]
    fn a_question_is_as_dig_asks_it() {
        // dig +noedns +noadflag example.org AAAA
        let captured = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x1c\x00\x01";
        assert_eq!(question(&check("example.org", 28, 0, None), ID), captured);
        assert_eq!(question(&check(".", 2, 0, None), ID)[12..], [0, 0, 2, 0, 1]);
    }

    #[test]
    fn an_answer_is_judged_by_its_code() {
        let dns = check("example.org", 1, 0, None);
        for (rcode, says) in [(0, "NOERROR"), (2, "bad: SERVFAIL"), (3, "bad: NXDOMAIN"), (9, "bad: RCODE 9")] {
            assert_eq!(said(&dns, &answer(&dns, rcode, &[])), says);
        }
        let dns = check("example.org", 1, 3, None);
        assert_eq!(said(&dns, &answer(&dns, 3, &[])), "NXDOMAIN");
        assert_eq!(said(&dns, &answer(&dns, 0, &[])), "bad: NOERROR");
        // Refused, without the question.
        assert_eq!(said(&dns, b"\x12\x34\x80\x05\x00\x00\x00\x00\x00\x00\x00\x00"), "bad: REFUSED");
    }

    #[test]
    fn an_answer_is_judged_by_its_records() {
        let v4 = |last| DnsData::V4(Ipv4Addr::new(192, 0, 2, last));
        let dns = check("www.example.org", 1, 0, Some(v4(1)));
        // An alias, and what it leads to.
        let records: [(u16, &[u8]); 3] = [(5, b"\x01a\xc0\x10"), (1, &[192, 0, 2, 2]), (1, &[192, 0, 2, 1])];
        assert_eq!(said(&dns, &answer(&dns, 0, &records)), "NOERROR, A record 192.0.2.1");
        assert_eq!(said(&dns, &answer(&dns, 0, &records[..2])), "bad: the answer has no A record 192.0.2.1");
        let mut truncated = answer(&dns, 0, &records[..2]);
        truncated[2] |= 0x02;
        assert_eq!(said(&dns, &truncated), "bad: the answer is truncated, and has no A record 192.0.2.1");
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let dns = check("www.example.org", 28, 0, Some(DnsData::V6(address)));
        assert_eq!(said(&dns, &answer(&dns, 0, &[(28, &address.octets())])), "NOERROR, AAAA record 2001:db8::1");
        assert_eq!(said(&dns, &answer(&dns, 0, &[(28, &[0; 16])])), "bad: the answer has no AAAA record 2001:db8::1");
        for (record, kind) in [(2, "NS"), (5, "CNAME"), (12, "PTR")] {
            let dns = check("www.example.org", record, 0, Some(DnsData::Text("NS.example.org".into())));
            // The last two labels are those of the question.
            let good: &[u8] = b"\x02ns\xc0\x10";
            assert_eq!(
                said(&dns, &answer(&dns, 0, &[(record, good)])),
                format!("NOERROR, {kind} record NS.example.org")
            );
            for bad in [&b"\x02ns\x00"[..], b"\x02nt\xc0\x10", b"\x02ns\xc0\x0c", b"\xc0\x10", b"\x00"] {
                let says = format!("bad: the answer has no {kind} record NS.example.org");
                assert_eq!(said(&dns, &answer(&dns, 0, &[(record, bad)])), says, "{bad:?}");
            }
        }
        let dns = check("www.example.org", TXT, 0, Some(DnsData::Text("all well".into())));
        assert_eq!(said(&dns, &answer(&dns, 0, &[(TXT, b"\x03all\x05 well")])), "NOERROR, TXT record all well");
        assert_eq!(said(&dns, &answer(&dns, 0, &[(TXT, b"\x03all")])), "bad: the answer has no TXT record all well");
        assert_eq!(said(&dns, &answer(&dns, 0, &[(TXT, b"\x09all")])), "bad: the answer is damaged");
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let dns = check("www.example.org", 1, 0, None);
        assert_eq!(judge(&dns, ID + 1, &answer(&dns, 0, &[])), None);
        assert_eq!(said(&dns, &answer(&check("www.example.com", 1, 0, None), 0, &[])), "nothing");
        assert_eq!(said(&dns, &answer(&check("www.example.org.x", 1, 0, None), 0, &[])), "nothing");
        assert_eq!(said(&dns, &answer(&check("www.example", 1, 0, None), 0, &[])), "nothing");
        assert_eq!(said(&dns, &answer(&check("www.example.org", 28, 0, None), 0, &[])), "nothing");
        assert_eq!(said(&dns, &answer(&check("WWW.Example.org", 1, 0, None), 0, &[])), "NOERROR");
    }

    #[test]
    fn damaged_answers_are_told() {
        let dns = check("a", 12, 0, Some(DnsData::Text("b".into())));
        // An echo.
        assert_eq!(said(&dns, &question(&dns, ID)), "bad: not an answer of DNS");
        assert_eq!(said(&dns, b"\x12\x34\x80"), "bad: not an answer of DNS");
        assert_eq!(
            said(&dns, &[answer(&dns, 0, &[]), vec![0; MAX_ANSWER]].concat()),
            "bad: the answer is longer than 4096 bytes"
        );
        let mut more = answer(&dns, 0, &[]);
        more[7] = 9;
        assert_eq!(said(&dns, &more), "bad: the answer is damaged");
        // Pointers to themselves, to each other, and to nowhere.
        for data in [&b"\xc0\x1f"[..], b"\xc0\x21\xc0\x1f", b"\xff\xff", b"\x01", b"", b"\x80"] {
            assert_eq!(said(&dns, &answer(&dns, 0, &[(12, data)])), "bad: the answer is damaged", "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            cut in 0..60_usize,
            record in prop::sample::select(&[1_u16, 2, 5, 12, 16, 28][..]),
        ) {
            let dns = check("www.example.org", record, 0, Some(DnsData::Text("ns.example.org".into())));
            let mut answer = answer(&dns, 0, &[(record, b"\x02ns\xc0\x10"), (record, &bytes)]);
            judge(&dns, ID, &answer);
            let keep = answer.len().min(cut);
            answer.truncate(keep);
            answer.extend(&bytes);
            judge(&dns, ID, &answer);
        }

        #[test]
        fn an_answer_with_its_bytes_changed_does_not_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let dns = check("www.example.org", 2, 0, Some(DnsData::Text("ns.example.org".into())));
            let mut answer = answer(&dns, 0, &[(2, b"\x02ns\xc0\x10"), (2, b"\x01a\xc0\x10")]);
            for (place, byte) in changes {
                let place = place.index(answer.len());
                answer[place] = byte;
            }
            judge(&dns, ID, &answer);
        }
    }
}
