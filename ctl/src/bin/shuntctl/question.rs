//! What a command asks of the daemon, and how its answer is shown.

use ctl::answer::{Answer, Done, OtherAnswer};
use ctl::request::Request;
use ctl::verb::Verb;
use ctl::{Client, ClientError};
use serde::Serialize;

use crate::exit_code::Exit;

/// A request, and how people read its answer.
pub(crate) struct Question {
    pub(crate) request: Request,
    show: Show,
}

/// An answer as it is shown.
pub(crate) struct Shown {
    /// As text or JSON, newline included.
    pub(crate) text: String,
    /// What to end with.
    pub(crate) exit: Exit,
    /// What is to be said on standard error, a line each.
    pub(crate) asides: Vec<String>,
}

/// Shows an answer, as text or as JSON.
type Show = Box<dyn Fn(Answer, bool) -> Result<Shown, ClientError>>;

impl Question {
    /// Asks by a verb; `show` makes text of the answer, newline included.
    pub(crate) fn new<V: Verb>(arguments: V::Arguments, show: impl Fn(V::Answer) -> String + 'static) -> Question {
        let as_text = move |answer: Answer| Ok::<_, OtherAnswer>(show(answer.try_into()?));
        let show = move |answer: Answer, json: bool| {
            let text = if json { of_answer(&answer)? } else { as_text(answer)? };
            Ok(Shown { text, exit: Exit::Done, asides: Vec::new() })
        };
        Question { request: V::request(arguments), show: Box::new(show) }
    }

    /// The same, where the answer also decides what to end with and what is said on standard error, and where JSON is made of a part
    /// of it.
    pub(crate) fn judged<V: Verb, J: Serialize>(
        arguments: V::Arguments,
        show: impl Fn(&V::Answer) -> String + 'static,
        json_of: impl Fn(&V::Answer) -> &J + 'static,
        judge: impl Fn(&V::Answer, bool) -> (Exit, Vec<String>) + 'static,
    ) -> Question {
        let show = move |answer: Answer, json: bool| {
            let answer: V::Answer = answer.try_into()?;
            let text = if json { as_json(json_of(&answer))? } else { show(&answer) };
            let (exit, asides) = judge(&answer, json);
            Ok(Shown { text, exit, asides })
        };
        Question { request: V::request(arguments), show: Box::new(show) }
    }

    /// Asks for a change: the answer is the sentence that says what was done.
    pub(crate) fn change<V: Verb<Answer = Done>>(arguments: V::Arguments) -> Question {
        Question::new::<V>(arguments, |done| format!("{}\n", done.message))
    }

    /// Asks the daemon; returns the answer as text or, with `json`, as JSON.
    pub(crate) fn ask(self, client: &mut Client, json: bool) -> Result<Shown, ClientError> {
        (self.show)(client.ask(self.request)?, json)
    }
}

/// An answer as JSON: what was asked for, without the envelope.
fn of_answer(answer: &Answer) -> Result<String, serde_json::Error> {
    let tagged = serde_json::to_value(answer)?;
    as_json(tagged.as_object().and_then(|object| object.values().next()).unwrap_or(&tagged))
}

fn as_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
