//! The clients of the control socket: how many there may be, and which of them goes when there is one too many.
//!
//! Users who may change things have places of their own, so no reader can shut an operator out. Whoever has most places gives way, and of
//! its clients the one that has been silent for the longest time; a client whose request is being carried out stays.

use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ctl::answer::{Envelope, Outcome};
use nix::sys::socket::{MsgFlags, send};

use crate::api::decode::refusal;
use crate::base::crowd::{Admitted, ClientNo, Crowd, Places};

/// Places of root and of the daemon's own user.
pub(super) const PRIVILEGED: Places = Places { all: 32, of_one: 32 };
/// Places of users who may only read.
pub(super) const READERS: Places = Places { all: 32, of_one: 16 };
/// While its request is carried out, a client keeps its place: longer than that takes.
const WORK: Duration = Duration::from_secs(3_600);
/// While it takes its answer, for so long.
const TAKING: Duration = Duration::from_secs(1);
/// What readers together may have been answered and not have taken yet. One answer is let through whatever its size.
const UNTAKEN_BYTES: usize = 256 << 20;

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    privileged: Mutex<Crowd<u32, Arc<UnixStream>>>,
    readers: Mutex<Crowd<u32, Arc<UnixStream>>>,
    /// Bytes of answers that readers have not taken yet.
    untaken: Mutex<usize>,
}

impl Clients {
    pub(super) fn new() -> Arc<Clients> {
        Arc::new(Clients {
            privileged: Mutex::new(Crowd::new(PRIVILEGED)),
            readers: Mutex::new(Crowd::new(READERS)),
            untaken: Mutex::default(),
        })
    }

    /// A client of this user has a place, or there is none. Another client may have to go for it.
    pub(super) fn admit(self: &Arc<Self>, uid: u32, privileged: bool, stream: &Arc<UnixStream>) -> Option<Place> {
        let admitted = self.crowd(privileged).admit(uid, stream.clone(), Instant::now());
        let Admitted::In(no, gone) = admitted else { return None };
        if let Some(gone) = gone {
            send_away(&gone);
        }
        Some(Place { clients: self.clone(), no, privileged })
    }

    fn crowd(&self, privileged: bool) -> MutexGuard<'_, Crowd<u32, Arc<UnixStream>>> {
        let crowd = if privileged { &self.privileged } else { &self.readers };
        crowd.lock().expect("no holder of this lock panics")
    }
}

/// Ends a client's connection, and says why if it can be said without waiting.
fn send_away(stream: &UnixStream) {
    let outcome = Outcome::Error(refusal("The connection was closed: it was silent, and others came. Connect again"));
    if let Ok(mut line) = serde_json::to_vec(&Envelope { version: ctl::VERSION, outcome }) {
        line.push(b'\n');
        let _ = send(stream.as_raw_fd(), &line, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// A client's place, until it is dropped or the client is sent away.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    no: ClientNo,
    privileged: bool,
}

impl Place {
    /// The client has asked for something: it stays until it has its answer. Returns `false` where it has been sent away, so that nothing is
    /// done for a client that will not hear of it.
    pub(super) fn work(&self) -> bool {
        self.keep(WORK)
    }

    /// The client is given an answer of this size, which it has to take. `None`: too much of what others were answered is not taken yet.
    pub(super) fn answer(&self, bytes: usize) -> Option<Untaken<'_>> {
        self.keep(TAKING);
        let counted = if self.privileged { 0 } else { bytes };
        let mut untaken = self.clients.untaken();
        if counted > 0 && *untaken > 0 && *untaken + counted > UNTAKEN_BYTES {
            return None;
        }
        *untaken += counted;
        Some(Untaken { clients: &self.clients, bytes: counted })
    }

    /// The client has all that it asked for.
    pub(super) fn rest(&self) {
        self.keep(Duration::ZERO);
    }

    fn keep(&self, safe_for: Duration) -> bool {
        self.clients.crowd(self.privileged).keep(self.no, Instant::now(), safe_for)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.crowd(self.privileged).leave(self.no);
    }
}

impl Clients {
    fn untaken(&self) -> MutexGuard<'_, usize> {
        self.untaken.lock().expect("no holder of this lock panics")
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Untaken<'c> {
    clients: &'c Clients,
    bytes: usize,
}

impl Drop for Untaken<'_> {
    fn drop(&mut self) {
        *self.clients.untaken() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn client(clients: &Arc<Clients>, uid: u32, privileged: bool) -> (Option<Place>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (clients.admit(uid, privileged, &Arc::new(ours)), theirs)
    }

    #[test]
    fn silent_clients_shut_nobody_out_and_are_told_why_they_go() {
        let clients = Clients::new();
        let silent: Vec<_> = (0..200).map(|_| client(&clients, 0, true)).collect();
        assert!(silent.iter().all(|(place, _)| place.is_some()));
        let stay = silent.iter().filter(|(place, _)| place.as_ref().unwrap().work()).count();
        assert_eq!(stay, PRIVILEGED.all);
        let (_, mut first) = silent.into_iter().next().unwrap();
        let mut said = String::new();
        first.read_to_string(&mut said).unwrap();
        assert!(said.contains("\"error\"") && said.contains("Connect again") && said.ends_with('\n'), "{said}");
    }

    #[test]
    fn readers_take_no_places_of_those_who_may_change_things_nor_of_each_other() {
        let clients = Clients::new();
        let greedy: Vec<_> = (0..100).map(|_| client(&clients, 1_000, false)).collect();
        for (place, _) in &greedy {
            place.as_ref().unwrap().work();
        }
        let other: Vec<_> = (0..READERS.of_one).map(|_| client(&clients, 1_001, false)).collect();
        assert!(other.iter().all(|(place, _)| place.is_some()), "another reader");
        // All of the first one's are at work.
        assert!(client(&clients, 1_000, false).0.is_none());
        let privileged: Vec<_> = (0..PRIVILEGED.all).map(|_| client(&clients, 0, true)).collect();
        assert!(privileged.iter().all(|(place, _)| place.as_ref().is_some_and(Place::work)));
        assert!(client(&clients, 0, true).0.is_none(), "all are at work");
        drop(privileged);
        assert!(client(&clients, 0, true).0.is_some());
    }

    #[test]
    fn answers_that_readers_do_not_take_are_bounded() {
        let clients = Clients::new();
        let (reader, other, root) = (client(&clients, 1, false), client(&clients, 2, false), client(&clients, 0, true));
        let (reader, other, root) = (reader.0.unwrap(), other.0.unwrap(), root.0.unwrap());
        let first = reader.answer(UNTAKEN_BYTES + 1);
        assert!(first.is_some(), "whatever its size");
        assert!(other.answer(1).is_none());
        assert!(root.answer(1 << 30).is_some());
        drop(first);
        let small: Vec<_> = (0..4).map(|_| other.answer(UNTAKEN_BYTES / 4)).collect();
        assert!(small.iter().all(Option::is_some) && reader.answer(1).is_none());
    }
}
