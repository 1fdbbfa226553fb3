//! What is made from the rows of the two tables in `noun/mod.rs`. The names here are that file's.

/// Rows of verbs: `Variant(argument: Type) = "name", changes: false -> Answer`, without the brackets where nothing is taken. They
/// become `Request`, with its JSON form, and the module `verb` with a type for each row.
macro_rules! verbs {
    ($(
        $(#[doc = $about:literal])*
        $variant:ident $(($argument:ident: $type:ty))? = $name:literal, changes: $changes:literal -> $answer:ty;
    )*) => {
        /// All that may be asked, reading first.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "command", content = "arguments")]
        pub enum Request {
            $($(#[doc = $about])* #[serde(rename = $name)] $variant $(($type))?),*
        }

        impl Request {
            /// The verb's name, as in `"command"`.
            pub fn verb(&self) -> &'static str {
                match self { $(Request::$variant { .. } => $name),* }
            }

            /// Whether the request would change what the director does: such requests need root or the daemon's own user.
            pub fn changes(&self) -> bool {
                match self { $(Request::$variant { .. } => $changes),* }
            }

            /// Reads the arguments of the verb with this name; `None`: there is no such verb.
            pub fn read<'de, D: Deserializer<'de>>(name: &str, arguments: D) -> Option<Result<Request, D::Error>> {
                match name {
                    $($name => {
                        let arguments = <verb::$variant as Verb>::Arguments::deserialize(arguments);
                        Some(arguments.map(<verb::$variant as Verb>::request))
                    })*
                    _ => None,
                }
            }

            /// Has the request answered.
            pub fn answered_by<A>(self, by: &A) -> Result<Answer, Refusal>
            where
                $(A: Answers<verb::$variant>),*
            {
                match self {
                    $(Request::$variant $(($argument))? => {
                        Answers::<verb::$variant>::answer(by, ($($argument)?)).map(Answer::from)
                    })*
                }
            }
        }

        /// A type for each verb: with it, a question and its answer fit together.
        pub mod verb {
            use super::{Answer, OtherAnswer, Refusal, Request};

            /// A verb of the API.
            pub trait Verb {
                /// What it takes; `()`: nothing.
                type Arguments;
                /// What answers it.
                type Answer: Into<Answer> + TryFrom<Answer, Error = OtherAnswer>;

                /// The request.
                fn request(arguments: Self::Arguments) -> Request;
            }

            /// What a daemon must be able to do, for each verb.
            pub trait Answers<V: Verb> {
                /// Carries out what is asked, whole or not at all.
                fn answer(&self, arguments: V::Arguments) -> Result<V::Answer, Refusal>;
            }

            /// A row of the table.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct Row {
                /// The verb's name, as in `"command"`: a noun and, where the noun has several verbs, a verb.
                pub name: &'static str,
                /// Whether it takes arguments.
                pub takes_arguments: bool,
                /// Whether it changes something.
                pub changes: bool,
            }

            /// The table, reading first.
            pub const ALL: &[Row] = &[$(Row {
                name: $name,
                takes_arguments: !<[&str]>::is_empty(&[$(stringify!($argument))?]),
                changes: $changes,
            }),*];

            $($(#[doc = $about])* #[derive(Debug)] pub enum $variant {})*
        }

        $(#[allow(unused_parens, reason = "a type in brackets, or none: ()")]
        impl Verb for verb::$variant {
            type Arguments = ($($type)?);
            type Answer = $answer;

            fn request(($($argument)?): Self::Arguments) -> Request {
                Request::$variant $(($argument))?
            }
        })*
    };
}
pub(super) use verbs;

/// Rows of answers, each with a type of its own.
macro_rules! answers {
    ($($(#[doc = $about:literal])* $variant:ident($type:ty);)*) => {
        /// What was asked for, named for the request it answers.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Answer {
            $($(#[doc = $about])* $variant($type)),*
        }

        $(impl From<$type> for Answer {
            fn from(answer: $type) -> Self {
                Answer::$variant(answer)
            }
        }

        impl TryFrom<Answer> for $type {
            type Error = OtherAnswer;

            fn try_from(answer: Answer) -> Result<Self, OtherAnswer> {
                match answer {
                    Answer::$variant(answer) => Ok(answer),
                    _ => Err(OtherAnswer),
                }
            }
        })*
    };
}
pub(super) use answers;
