//! Limits of punted frames: how many of each class a worker gives to the slow path, and how many of one sender.
//!
//! A sender of ARP or neighbor discovery has a limit of its own, so that a station that floods uses up its own share and
//! not that of its class. Senders share a few limits by a hash with a random key.

use std::hash::{BuildHasher, RandomState};

use ctl::Mac;

use crate::base::token_bucket::TokenBucket;
use crate::base::touched::touched;
use crate::forward::class::Class;
use crate::select::maglev;
use crate::wire::flow::{Flow, FlowHasher, Transport};

/// Senders that are told, in a second, that their packets are too big: by all workers together.
const TOO_BIG_RATE: u32 = 100;
/// ARP and neighbor discovery of one station, in a second. A router that looks for a thousand VIPs at once is served.
const STATION_RATE: u32 = 1_000;
/// The same for one backend address. A backend answers one probe in 20 s, and asks for VIPs now and then.
const BACKEND_RATE: u32 = 100;
/// Answers to health checks of one station, in a second. One station may have many backends' addresses.
const ANSWER_RATE: u32 = 20_000;
/// What a sender may send at once: the frames of this time. A sender cannot fill a ring.
const AT_ONCE_MS: u32 = 250;
/// The limits that all senders share.
const BUCKETS: usize = 1_024;

/// The limits of one worker.
#[derive(Debug)]
pub struct Limits {
    /// By class.
    classes: [TokenBucket; Class::COUNT],
    /// Of backends, by address.
    backends: Senders,
    /// Of other stations, by MAC address.
    stations: Senders,
    /// Of stations that answer health checks, by MAC address.
    answering: Senders,
}

impl Limits {
    /// For one of `workers` workers, which answer `echo_rate` pings a second together. All memory is touched here: the
    /// worker's own thread calls this when it is pinned.
    pub fn new(echo_rate: u32, workers: usize) -> Self {
        let shared = |class| if class == Class::Echo { echo_rate } else { TOO_BIG_RATE };
        let classes = Class::ALL.map(|class| {
            class.rate().map_or_else(|| TokenBucket::new(shared(class), workers), |rate| TokenBucket::new(rate, 1))
        });
        let [backends, stations, answering] = [BACKEND_RATE, STATION_RATE, ANSWER_RATE].map(Senders::new);
        Limits { classes, backends, stations, answering }
    }

    /// With the same rate for each class and each sender: for tests, which reach a low one.
    pub fn all(rate: u32) -> Self {
        let classes = Class::ALL.map(|_| TokenBucket::new(rate, 1));
        let [backends, stations, answering] = [rate; 3].map(Senders::new);
        Limits { classes, backends, stations, answering }
    }

    /// Whether one more frame of a class may be given to the slow path.
    pub(super) fn take(&mut self, class: Class, sender: Sender, now_ms: u64) -> bool {
        let sender_may = match sender {
            Sender::Any => true,
            Sender::Station(mac) => self.stations.take(number(mac), now_ms),
            Sender::Answering(mac) => self.answering.take(number(mac), now_ms),
            Sender::Backend(address) => self.backends.take(address, now_ms),
        };
        // What is above a sender's limit must not use up the limit of the class.
        sender_may && self.classes[class.index()].take(now_ms)
    }
}

/// Who has sent a punted frame, as far as it has a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Anybody: the limit is that of the class.
    Any,
    /// A station with this MAC address.
    Station(Mac),
    /// A station with this MAC address, which may answer a health check.
    Answering(Mac),
    /// A backend with this address, as a number.
    Backend(u128),
}

/// The limits of senders of one kind.
#[derive(Debug)]
struct Senders {
    hasher: FlowHasher,
    buckets: Box<[TokenBucket]>,
}

impl Senders {
    fn new(rate: u32) -> Self {
        // Nobody can choose an address that has its limit in common with another's.
        let random = RandomState::new();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random.hash_one(0).to_le_bytes());
        key[8..].copy_from_slice(&random.hash_one(1).to_le_bytes());
        Senders {
            hasher: FlowHasher::new(&key),
            buckets: touched(BUCKETS, || TokenBucket::with_depth(rate, 1, AT_ONCE_MS)),
        }
    }

    fn take(&mut self, sender: u128, now_ms: u64) -> bool {
        let flow = Flow::V6 { source: sender, destination: 0, transport: Transport::new(0, 0, 0) };
        self.buckets[maglev::slot(self.hasher.hash(&flow), BUCKETS)].take(now_ms)
    }
}

fn number(mac: Mac) -> u128 {
    mac.0.iter().fold(0, |number, &byte| number << 8 | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limits: &mut Limits, class: Class, senders: impl Iterator<Item = Sender>) -> usize {
        senders.filter(|&sender| limits.take(class, sender, 0)).count()
    }

    fn station(number: u32) -> Sender {
        let [a, b, c, d] = number.to_be_bytes();
        Sender::Station(Mac([2, 0, a, b, c, d]))
    }

    #[test]
    fn one_station_gets_its_share_and_many_get_that_of_the_class() {
        let mut limits = Limits::new(7, 1);
        assert_eq!(taken(&mut limits, Class::Arp, (0..50_000).map(|_| station(1))), STATION_RATE as usize / 4);
        let others = taken(&mut limits, Class::Arp, (0..50_000).map(station));
        assert_eq!(others, 10_000 - STATION_RATE as usize / 4, "the flood of one has left the others their share");
        assert!(taken(&mut limits, Class::Ndp, (0..50_000).map(|number| station(!number))) > 5_000);
        let backends = taken(&mut limits, Class::Backends, (0..50_000).map(|_| Sender::Backend(3)));
        assert_eq!(backends, BACKEND_RATE as usize / 4);
        assert!(Class::ALL[..3].iter().all(|class| class.ring() >= 2 * STATION_RATE as usize / 4));
    }

    #[test]
    fn each_class_has_its_own_limit() {
        let mut limits = Limits::new(7, 1);
        for class in Class::ALL {
            let rate = class.rate().unwrap_or(if class == Class::Echo { 7 } else { TOO_BIG_RATE });
            assert_eq!(taken(&mut limits, class, (0..60_000).map(|_| Sender::Any)), rate as usize, "{class:?}");
        }
        assert_eq!(taken(&mut Limits::new(8, 4), Class::Echo, (0..99).map(|_| Sender::Any)), 2, "a worker's share");
    }
}
