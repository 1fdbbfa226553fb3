//! Remembered flows: those whose backend is, or may be, another than that of their slot.
//!
//! Maglev's table gives the backend of nearly all flows, and nothing is remembered of them. Two things it cannot know:
//! which flows began before their slot moved to another backend (a *hand-over*: the slot has a `before`), and the
//! choice of a scheduler that decides flow by flow. Each worker has an exception table for these flows. The backend of
//! a packet depends on its slot, on the kind of packet, and on the entry of its flow:
//!
//! | packet | in the table | not in the table |
//! |---|---|---|
//! | a SYN | as remembered; after FIN or RST as new | a new flow: `now`, remembered |
//! | another | as remembered | an old flow: `before`, remembered; without a `before`, `now` |
//! | an ICMP error, a later fragment | as remembered | `before`, else `now`; it proves nothing, and is not remembered |
//!
//! A SYN for a connection that is remembered may be a late repetition, a forgery, or a new connection on the ports of an
//! old one that the client has forgotten. The backend can tell: its TCP accepts a new connection in TIME_WAIT, and
//! challenges the client otherwise (RFC 5961 §4). If the connection is no more, the client's RST ends the entry, and the
//! repeated SYN begins anew. A SYN does not keep a confirmed entry alive. The client's next packet does.
//!
//! A slot may wait for a backend that is away: it is down, and its unknown flows are its own again when it is back. Then
//! SYNs are remembered, too. Other packets of unknown flows go to `now` and leave nothing behind. An entry whose backend is
//! out is not used, but it is kept until it idles out. A SYN begins anew there, and another packet of a connection closes
//! the entry, because whoever gets it answers with a RST.
//!
//! UDP has no SYN, so every packet is "another". But an unknown flow is new if the scheduler decides flow by flow, or if
//! all flows of the service have been remembered for as long as a hand-over lasts.
//! When the hand-over ends, all flows of the slot that were active are in the table. From then on, only flows whose
//! backend differs from `now` are kept.
//!
//! **Floods.** The table has a fixed size. An entry is on probation until a second packet of its flow comes. Nothing
//! pushes out a confirmed entry before it idles out. A SYN takes a free or expired entry only (probation expires after
//! seconds). If there is none, it goes to `before`, because its next packet, unknown too, will go there. A packet of an
//! old flow may also replace the oldest entry on probation. Flows that find no room are counted.

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
