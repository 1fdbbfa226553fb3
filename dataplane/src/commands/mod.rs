//! Commands of the operator: the checks of type `script`, and `notify` for events. They run without privileges, in groups of their own,
//! for a limited time, and so many at once.
//!
//! The daemon itself starts no command: it is large, has root's rights, the NIC and DPDK's memory. A small process of the same program,
//! the *runner*, does that for it; [`Keeper`] starts it when the first command is to run, and again if it ends. A socket is between the
//! two. The slow path gives its orders and takes what has become of them by [`Commands`], and never waits
//! (docs/design/016-commands.md).
//!
//! - In: commands, each with its environment and its time.
//! - Out: how each ended, and what it said first.
//! - Uses: `base`, `control`.

mod account;
pub mod channel;
pub mod file;
mod keeper;
mod notify;
pub mod order;
mod outbox;
mod process;
mod run;
mod runner;
mod shared;
mod stray;
#[cfg(test)]
mod tests;

pub use account::{Account, AccountError};
pub use keeper::Keeper;
pub use order::{Ended, How, Order};
pub use outbox::Commands;
pub use process::{SUBCOMMAND, run_commands};
