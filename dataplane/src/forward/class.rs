//! Classes of punted frames. Each has a ring of its own, a limit of its own, and a share of the slow path's turn, so that a
//! flood of one class leaves the others their room and their time (`docs/design/012-slow-path-classes.md`).

/// The frames that compete for the same ring and the same limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// ARP and neighbor discovery that tell where a backend is: the answers to our probes, and announcements of backends.
    Backends,
    /// What comes from VIPs and backends to the director's own addresses: the answers to health checks.
    Answers,
    /// ARP of other stations.
    Arp,
    /// Neighbor discovery of other stations.
    Ndp,
    /// Queries for multicast listeners.
    Mld,
    /// Packets to the director's own addresses that are none of the others.
    OwnAddress,
    /// Pings.
    Echo,
    /// Packets that are too big.
    TooBig,
}

impl Class {
    /// All classes, in the order in which the slow path takes their frames.
    pub const ALL: [Class; 8] = [
        Class::Backends,
        Class::Answers,
        Class::Arp,
        Class::Ndp,
        Class::Mld,
        Class::OwnAddress,
        Class::Echo,
        Class::TooBig,
    ];
    /// Their number.
    pub const COUNT: usize = Self::ALL.len();

    /// Its index.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The frames that a worker's ring of this class holds. All rings together hold fewer than the packet buffers that
    /// there are for them.
    pub fn ring(self) -> usize {
        match self {
            Class::Backends | Class::Answers => 1_024,
            Class::Arp | Class::Ndp => 512,
            Class::Echo => 448,
            Class::OwnAddress => 256,
            Class::Mld => 64,
            Class::TooBig => 128,
        }
    }

    /// The frames of one worker that the slow path takes in a turn.
    pub fn in_a_turn(self) -> usize {
        match self {
            Class::Backends | Class::Answers | Class::Arp | Class::Ndp | Class::OwnAddress => 64,
            Class::Echo => 32,
            Class::Mld | Class::TooBig => 16,
        }
    }

    /// The frames that a worker gives the slow path in a second. `None`: the rate is that of all workers together, and
    /// depends on the configuration.
    pub(super) fn rate(self) -> Option<u32> {
        match self {
            Class::Answers => Some(50_000),
            Class::Backends => Some(20_000),
            Class::Arp | Class::Ndp | Class::OwnAddress => Some(10_000),
            Class::Mld => Some(100),
            Class::Echo | Class::TooBig => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_its_index_and_the_rings_together_are_bounded() {
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| class.index() == index));
        assert!(Class::ALL.iter().map(|class| class.ring()).sum::<usize>() <= 4_096);
        assert!(Class::ALL.iter().all(|class| (1..=64).contains(&class.in_a_turn())));
    }
}
