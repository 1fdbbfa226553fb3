//! UDP: what the answer to a datagram says, and what silence does.

use ctl::Span;

use crate::control::model::health::Datagram;
use crate::health::finding::{Failure, Finding, Trouble};

/// Judges an answer.
pub fn judge(check: &Datagram, answer: &[u8]) -> Finding {
    let bytes = if answer.len() == 1 { "byte" } else { "bytes" };
    let words = format!("an answer of {} {bytes}", answer.len());
    match &check.answer {
        Some(wanted) if !wanted.is_match(answer) => {
            Err(Failure::new(Trouble::Wrong, format!("{words}, which does not match")))
        }
        _ => Ok(words),
    }
}

/// Judges that nothing came back for so long: good, if no answer is asked for. That nothing listens there, ICMP would have said.
pub fn silence(check: &Datagram, waited: Span) -> Finding {
    match &check.answer {
        Some(_) => Err(Failure::new(Trouble::Silent, format!("no answer in {waited}"))),
        None => Ok(format!("no ICMP error in {waited}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use regex::bytes::Regex;

    use super::*;

    fn check(answer: Option<&str>) -> Datagram {
        Datagram { payload: vec![], answer: answer.map(|text| Regex::new(text).unwrap()) }
    }

    #[test]
    fn an_answer_is_judged_by_what_is_asked_for() {
        assert_eq!(judge(&check(None), b""), Ok("an answer of 0 bytes".into()));
        assert_eq!(judge(&check(Some("^pong")), b"pong 1"), Ok("an answer of 6 bytes".into()));
        assert_eq!(judge(&check(Some(r"(?-u)^\xff")), b"\xff"), Ok("an answer of 1 byte".into()));
        let failure = judge(&check(Some("^pong")), b"ping").unwrap_err();
        assert_eq!(failure, Failure::new(Trouble::Wrong, "an answer of 4 bytes, which does not match"));
    }

    #[test]
    fn silence_is_good_unless_an_answer_is_asked_for() {
        let second = Span::from(Duration::from_secs(1));
        assert_eq!(silence(&check(None), second), Ok("no ICMP error in 1s".into()));
        assert_eq!(silence(&check(Some("x")), second), Err(Failure::new(Trouble::Silent, "no answer in 1s")));
    }

    proptest! {
        #[test]
        fn no_answer_panics(answer in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = judge(&check(Some("a.c")), &answer);
        }
    }
}
