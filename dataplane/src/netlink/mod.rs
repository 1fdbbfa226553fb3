//! What the kernel says of network interfaces: their links, MTUs and MAC addresses, and which of them come and go (rtnetlink(7)).
//!
//! - In: the names of interfaces.
//! - Out: news of them, from the moment on at which the kernel knows it.
//! - Uses: nothing.
//!
//! A [`Watch`] sleeps in a netlink socket. If the kernel has more to say than the socket holds, messages are lost, and the watch asks for
//! everything again. So what it has said last of an interface is true, or is being corrected.

mod interface;
mod message;
mod watch;

pub use interface::{Interface, News};
pub use watch::Watch;
