//! The clients of a server: how many there may be, and who has to go when one more comes.
//!
//! Each client has a key (its user, its address). One key has a share of the places, and who has most gives way first, so nobody shuts
//! others out. Of the clients of a key, the one goes that has done nothing for the longest time.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// How many clients there may be.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Of all keys together.
    pub all: usize,
    /// Of one key.
    pub of_one: usize,
}

/// The number of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNo(u64);

/// The clients that are there. Each has a handle, by which it can be told to go.
#[derive(Debug)]
pub struct Crowd<K, H> {
    places: Places,
    clients: Vec<Client<K, H>>,
    next: u64,
}

#[derive(Debug)]
struct Client<K, H> {
    no: ClientNo,
    key: K,
    handle: H,
    /// When it last did something.
    since: Instant,
    /// It is at work, and has its place until then for certain.
    safe_until: Option<Instant>,
}

impl<K, H> Client<K, H> {
    fn may_go(&self, now: Instant) -> bool {
        self.safe_until.is_none_or(|until| until <= now)
    }
}

/// What becomes of one more client.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted<H> {
    /// It has a place. If there was none left, another client has lost its own: that one has to be told.
    In(ClientNo, Option<H>),
    /// There is no place.
    Refused(H),
}

impl<K: PartialEq, H> Crowd<K, H> {
    /// Nobody yet.
    pub fn new(places: Places) -> Self {
        Crowd { places, clients: Vec::new(), next: 0 }
    }

    /// One more client.
    pub fn admit(&mut self, key: K, handle: H, now: Instant) -> Admitted<H> {
        let own = self.count(&key);
        let leaves = if own >= self.places.of_one {
            self.longest_idle(&key, now)
        } else if self.clients.len() >= self.places.all {
            self.of_the_largest_group(&key, now)
        } else {
            return Admitted::In(self.add(key, handle, now), None);
        };
        let Some(leaves) = leaves else { return Admitted::Refused(handle) };
        let gone = self.clients.swap_remove(leaves).handle;
        Admitted::In(self.add(key, handle, now), Some(gone))
    }

    fn add(&mut self, key: K, handle: H, now: Instant) -> ClientNo {
        let no = ClientNo(self.next);
        self.next += 1;
        self.clients.push(Client { no, key, handle, since: now, safe_until: None });
        no
    }

    /// The client does something. It has its place for at least as long as said. Returns whether it still has one.
    pub fn keep(&mut self, no: ClientNo, now: Instant, safe_for: Duration) -> bool {
        let Some(client) = self.clients.iter_mut().find(|client| client.no == no) else { return false };
        client.since = now;
        client.safe_until = (!safe_for.is_zero()).then(|| now + safe_for);
        true
    }

    /// The client goes by itself.
    pub fn leave(&mut self, no: ClientNo) {
        self.clients.retain(|client| client.no != no);
    }

    /// All clients lose their places that are at work for longer than they had them for certain. Returns their handles.
    pub fn shed(&mut self, now: Instant) -> Vec<H> {
        let gone = self.clients.extract_if(.., |client| client.safe_until.is_some_and(|until| until <= now));
        gone.map(|client| client.handle).collect()
    }

    /// How many clients a key has.
    fn count(&self, key: &K) -> usize {
        self.clients.iter().filter(|client| client.key == *key).count()
    }

    /// Of a key's clients that may go.
    fn longest_idle(&self, key: &K, now: Instant) -> Option<usize> {
        let may_go = self.clients.iter().enumerate().filter(|(_, client)| client.key == *key && client.may_go(now));
        may_go.min_by_key(|(_, client)| client.since).map(|(index, _)| index)
    }

    /// Of the clients that may go, one of the key with the most clients: of the newcomer's own where others have no more.
    fn of_the_largest_group(&self, newcomer: &K, now: Instant) -> Option<usize> {
        let may_go = self.clients.iter().enumerate().filter(|(_, client)| client.may_go(now));
        let goes = |client: &Client<K, H>| (self.count(&client.key), client.key == *newcomer, Reverse(client.since));
        may_go.max_by_key(|(_, client)| goes(client)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { all: 6, of_one: 3 };

    struct Rig {
        crowd: Crowd<&'static str, u32>,
        begin: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            Rig { crowd: Crowd::new(PLACES), begin: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.begin + Duration::from_secs(second)
        }

        /// A client comes whose handle is the second at which it comes. Returns its number, and who had to go.
        fn comes(&mut self, key: &'static str, second: u32) -> (ClientNo, Option<u32>) {
            match self.crowd.admit(key, second, self.at(second.into())) {
                Admitted::In(no, gone) => (no, gone),
                Admitted::Refused(handle) => panic!("{handle} is refused"),
            }
        }
    }

    #[test]
    fn who_takes_more_than_a_share_replaces_itself() {
        let mut rig = Rig::new();
        let gone: Vec<Option<u32>> = (0..5).map(|second| rig.comes("a", second).1).collect();
        assert_eq!(gone, [None, None, None, Some(0), Some(1)]);
        assert_eq!(rig.comes("b", 9).1, None, "others have their places");
    }

    #[test]
    fn who_has_most_gives_way_and_the_longest_idle_first() {
        let mut rig = Rig::new();
        let (first, _) = rig.comes("a", 0);
        for (key, second) in [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5)] {
            assert_eq!(rig.comes(key, second).1, None);
        }
        assert!(rig.crowd.keep(first, rig.at(6), Duration::ZERO), "the first one is not idle");
        assert_eq!(rig.comes("d", 7).1, Some(1), "a has three");
        // Now a and b have two each, c and d one.
        assert_eq!(rig.comes("b", 8).1, Some(2), "its own, where it has as many as others");
        assert_eq!(rig.comes("e", 9).1, Some(3));
    }

    #[test]
    fn who_is_at_work_keeps_its_place() {
        let mut rig = Rig::new();
        let numbers: Vec<ClientNo> = (0..3).map(|second| rig.comes("a", second).0).collect();
        for no in &numbers {
            assert!(rig.crowd.keep(*no, rig.at(3), Duration::from_secs(10)));
        }
        assert_eq!(rig.crowd.admit("a", 12, rig.at(12)), Admitted::Refused(12));
        assert!(matches!(rig.crowd.admit("b", 12, rig.at(12)), Admitted::In(_, None)));
        assert!(rig.crowd.keep(numbers[1], rig.at(12), Duration::ZERO), "it is done with its work");
        assert_eq!(rig.comes("a", 12).1, Some(1));
        assert!(!rig.crowd.keep(numbers[1], rig.at(12), Duration::ZERO), "it has lost its place");
        rig.crowd.leave(numbers[2]);
        assert_eq!(rig.comes("a", 12).1, None);
    }

    #[test]
    fn who_has_been_at_it_for_too_long_can_be_shed() {
        let mut rig = Rig::new();
        let (slow, _) = rig.comes("a", 0);
        let (quick, _) = rig.comes("b", 0);
        rig.comes("c", 0);
        rig.crowd.keep(slow, rig.at(1), Duration::from_secs(5));
        rig.crowd.keep(quick, rig.at(4), Duration::from_secs(5));
        assert_eq!(rig.crowd.shed(rig.at(6)), [0], "the one that has had its time");
        assert_eq!(rig.crowd.clients.len(), 2);
        assert!(!rig.crowd.keep(slow, rig.at(6), Duration::ZERO) && rig.crowd.keep(quick, rig.at(6), Duration::ZERO));
    }
}
