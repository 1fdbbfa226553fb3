//! The socket between the daemon and the runner. It keeps messages apart (`SOCK_SEQPACKET`), each a line of JSON, and neither
//! side ever waits for the other one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// An end of the socket.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message.
    Message(T),
    /// Something that is none.
    Garbage,
    /// Nothing yet.
    Nothing,
    /// The other end is closed.
    Closed,
}

/// What has become of a message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Gone,
    /// There is no room now.
    Full,
    /// The other end is closed, or the message is too long: it will never get there.
    Never,
}

impl Channel {
    /// Both ends. No program that is started later inherits them.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(one), Channel(other)))
    }

    /// Sends a message, if there is room.
    pub fn send(&self, message: &impl Serialize) -> Sent {
        let Ok(bytes) = serde_json::to_vec(message) else { return Sent::Never };
        if bytes.len() > MOST_BYTES {
            return Sent::Never;
        }
        match send(&self.0, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Sent::Gone,
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Sent::Full,
            Err(_) => Sent::Never,
        }
    }

    /// Takes a message, if there is one.
    pub fn receive<T: DeserializeOwned>(&self) -> Received<T> {
        let mut bytes = vec![0; MOST_BYTES];
        match recv(&self.0, bytes.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Received::Closed,
            Ok((len, _)) => serde_json::from_slice(&bytes[..len]).map_or(Received::Garbage, Received::Message),
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Channel(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_apart_and_nobody_waits() {
        let (one, other) = Channel::pair().unwrap();
        assert_eq!(other.receive::<u32>(), Received::Nothing);
        assert_eq!((one.send(&7), one.send(&"text"), one.send(&8)), (Sent::Gone, Sent::Gone, Sent::Gone));
        assert_eq!(other.receive::<u32>(), Received::Message(7));
        assert_eq!(other.receive::<u32>(), Received::Garbage);
        assert_eq!(other.receive::<u32>(), Received::Message(8));
        assert_eq!(one.send(&"x".repeat(MOST_BYTES)), Sent::Never);
        let long = "x".repeat(MOST_BYTES - 2);
        let sent = (0..1_000).take_while(|_| one.send(&long) == Sent::Gone).count();
        assert!((1..1_000).contains(&sent), "{sent}");
        assert_eq!(other.receive(), Received::Message(long));
        drop(one);
        for _ in 1..sent {
            assert!(matches!(other.receive::<String>(), Received::Message(_)));
        }
        assert_eq!(other.receive::<u32>(), Received::Closed);
        assert_eq!(other.send(&1), Sent::Never);
    }
}
