//! Remembered flows: those whose backend is, or may be, another than their slot says.
//!
//! Maglev's table tells the backend of nearly all flows, and nothing is remembered of them. Two things it cannot know:
//! which flows were there before their slot moved to another backend (a *hand-over*: the slot has a `before`), and
//! what a scheduler decided that decides flow by flow. Each worker has a table for these; who owns the slot, what
//! kind of packet it is, and what the table knows decide where it goes:
//!
//! | packet | in the table | not in the table |
//! |---|---|---|
//! | a SYN | a repetition: as remembered; else as new | a new flow: `now`, remembered |
//! | another | as remembered | an old flow: `before`, remembered; without a `before`, `now` |
//! | an ICMP error, a later fragment | as remembered | `before`, else `now`; it proves nothing, and is not remembered |
//!
//! UDP has no SYN: every packet is "another", unless the scheduler decides flow by flow; then an unknown one is new.
//! When the hand-over is over, the flows of the slot that lived are all here, and those are kept that `now` is wrong for.
//!
//! **Floods.** The table has a fixed size. An entry is on probation until a second packet of its flow comes. Nothing
//! pushes out a confirmed entry before it idles out. A SYN takes a free or expired entry only (probation expires after
//! seconds); where there is none, it goes to `before`, because its next packet, unknown too, will go there. A packet of an
//! old flow may also replace the oldest entry on probation. What finds no room is counted.

mod age;
mod books;
mod filter;
mod remembered;
mod rules;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use remembered::{Around, Kept};
pub use remembered::{Exceptions, Room};
pub use rules::Asked;
