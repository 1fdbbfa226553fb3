//! What a command asks of the daemon, and how its answer is shown.

use ctl::answer::{Answer, Done, OtherAnswer};
use ctl::request::Request;
use ctl::verb::Verb;
use ctl::{Client, ClientError};

/// A request, and how people read its answer.
pub(crate) struct Question {
    pub(crate) request: Request,
    show: Show,
}

/// Makes text of an answer, newline included.
type Show = Box<dyn Fn(Answer) -> Result<String, OtherAnswer>>;

impl Question {
    /// Asks by a verb; `show` makes text of the answer, newline included.
    pub(crate) fn new<V: Verb>(arguments: V::Arguments, show: impl Fn(V::Answer) -> String + 'static) -> Question {
        Question { request: V::request(arguments), show: Box::new(move |answer| Ok(show(answer.try_into()?))) }
    }

    /// Asks for a change: the answer is the sentence that says what was done.
    pub(crate) fn change<V: Verb<Answer = Done>>(arguments: V::Arguments) -> Question {
        Question::new::<V>(arguments, |done| format!("{}\n", done.message))
    }

    /// Asks the daemon; returns the answer as text or, with `json`, as JSON, newline included.
    pub(crate) fn ask(self, client: &mut Client, json: bool) -> Result<String, ClientError> {
        let answer = client.ask(self.request)?;
        if json { Ok(as_json(&answer)?) } else { Ok((self.show)(answer)?) }
    }
}

/// An answer as JSON: what was asked for, without the envelope.
fn as_json(answer: &Answer) -> Result<String, serde_json::Error> {
    let tagged = serde_json::to_value(answer)?;
    let inner = tagged.as_object().and_then(|object| object.values().next()).unwrap_or(&tagged);
    Ok(serde_json::to_string_pretty(inner)? + "\n")
}
