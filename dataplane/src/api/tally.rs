//! Counts requests, by command and outcome.

use ctl::answer::{Outcome, Refusal};
use ctl::request::Request;
use metrics::counter;

/// What becomes of a request.
pub const OUTCOMES: [&str; 2] = ["ok", "refused"];

/// The command of a line in which there is none, or none that is known.
pub const UNREADABLE: &str = "unreadable";

/// The name by which a request is counted.
pub(super) fn command(request: &Result<Request, Refusal>) -> &'static str {
    request.as_ref().map_or(UNREADABLE, Request::verb)
}

/// Counts a request that was carried out or refused.
pub(super) fn count(command: &'static str, outcome: &Outcome) {
    let [ok, refused] = OUTCOMES;
    let outcome = if matches!(outcome, Outcome::Ok(_)) { ok } else { refused };
    counter!("shunt_requests_total", "command" => command, "outcome" => outcome).increment(1);
}
