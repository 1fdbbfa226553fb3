//! Where packet memory comes from: hugepages where there are enough, plain pages elsewhere; and on which NUMA node it is.
//!
//! A NIC writes what it receives into memory, and the workers read it there: both is slower across the link between two nodes. So the ports
//! of a node have a pool of their own there. It has a price: with more than one pool, a driver must look at each buffer that it
//! frees, since any port may send any port's frames (`dpdk` has the rule). Where all ports are on one node, there is one
//! pool.

use std::collections::BTreeSet;

use crate::config::Hugepages as Wish;
use crate::daemon::hugepages::Hugepages;
use crate::dpdk::{Memory, Mempool};

/// What DPDK needs of hugepages besides the packet buffers: its own structures, the devices' rings. Measured on igb: 4 MiB.
const HUGE_OVERHEAD: usize = 24 << 20;
/// The same of plain pages. These cost nothing until they are touched.
const PLAIN_OVERHEAD: usize = 96 << 20;

/// Packet buffers for a queue pair with its rings, the worker's cache, the rings to the slow path, and a virtual
/// device's own queue.
const MBUFS_PER_QUEUE: usize = 8_192;

/// There are not as many hugepages as the operator insists on.
#[derive(Debug, thiserror::Error)]
#[error(
    "director.hugepages is \"on\", but DPDK can use {usable_mib} MiB of hugepages ({found}), and {needed_mib} MiB are needed: {advice}"
)]
pub struct TooFewHugepages {
    usable_mib: usize,
    needed_mib: usize,
    found: String,
    advice: String,
}

/// How many packet buffers ports and workers need: a power of two less one, as mempools like it.
pub fn mbufs(ports: usize, workers: usize) -> u32 {
    let needed = (ports * workers + 1) * MBUFS_PER_QUEUE;
    u32::try_from(needed.next_power_of_two() - 1).expect("a few ports and a few workers")
}

/// A pool of packet buffers that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    /// The NUMA node of its memory; `None`: any.
    pub(super) node: Option<u32>,
    /// The ports that receive into it, by their number in the configuration.
    pub(super) ports: Vec<usize>,
    /// How many buffers it has.
    pub(super) mbufs: u32,
}

/// The pools for ports on these nodes: one for each node, or one for all. A port of no node (a virtual device) shares the first. `configured`
/// is how many buffers there are to be in all; without it, what ports and workers need.
pub(super) fn pools(nodes: &[Option<u32>], workers: usize, configured: Option<u32>) -> Vec<Pool> {
    let known: BTreeSet<u32> = nodes.iter().flatten().copied().collect();
    let mut pools: Vec<Pool> =
        known.into_iter().map(|node| Pool { node: Some(node), ports: vec![], mbufs: 0 }).collect();
    if pools.is_empty() {
        pools.push(Pool { node: None, ports: vec![], mbufs: 0 });
    }
    for (port, node) in nodes.iter().enumerate() {
        let index = pools.iter().position(|pool| pool.node == *node).unwrap_or(0);
        pools[index].ports.push(port);
    }
    for pool in &mut pools {
        let share = |all: u32| u64::from(all) * pool.ports.len() as u64 / nodes.len().max(1) as u64;
        let share = configured.map(|all| u32::try_from(share(all)).expect("a part of a number is no larger"));
        pool.mbufs = share.unwrap_or_else(|| mbufs(pool.ports.len(), workers));
    }
    pools
}

/// The same buffers in one pool, anywhere: DPDK knows no nodes of plain pages.
pub(super) fn in_one(pools: &[Pool]) -> Vec<Pool> {
    let mut ports: Vec<usize> = pools.iter().flat_map(|pool| pool.ports.iter().copied()).collect();
    ports.sort_unstable();
    vec![Pool { node: None, ports, mbufs: pools.iter().map(|pool| pool.mbufs).sum() }]
}

/// Chooses the memory for so many packet buffers with that room, for a DPDK with these arguments. Says what to do where hugepages are
/// there that it cannot use.
pub fn choose(
    wish: Wish,
    mbufs: u32,
    room: u16,
    eal_args: &[String],
) -> Result<(Memory, Option<String>), TooFewHugepages> {
    let plain = Memory::Plain { mib: (Mempool::plain_bytes(mbufs, room) + PLAIN_OVERHEAD).div_ceil(1 << 20) };
    if wish == Wish::Off {
        return Ok((plain, None));
    }
    choose_of(&Hugepages::look(eal_args), wish, Mempool::bytes(mbufs, room) + HUGE_OVERHEAD, plain)
}

fn choose_of(
    found: &Hugepages,
    wish: Wish,
    needed: usize,
    plain: Memory,
) -> Result<(Memory, Option<String>), TooFewHugepages> {
    if found.usable() >= needed {
        return Ok((Memory::Huge, None));
    }
    if wish == Wish::Auto {
        return Ok((plain, found.advice()));
    }
    Err(TooFewHugepages {
        usable_mib: found.usable() >> 20,
        needed_mib: needed.div_ceil(1 << 20),
        found: found.to_string(),
        advice: found.advice().unwrap_or_else(|| "reserve more (scripts/setup-hugepages)".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_with_ports_and_workers() {
        assert_eq!(mbufs(1, 1), 16_383);
        assert_eq!(mbufs(2, 8), 262_143);
    }

    #[test]
    fn the_ports_of_a_node_have_a_pool_there() {
        let pool = |node, ports: &[usize], mbufs| Pool { node, ports: ports.into(), mbufs };
        let (node0, node1) = (Some(0), Some(1));
        // The ports' nodes, the configured number of buffers, the pools with two workers. With one pool, ports have "fast free".
        for (nodes, configured, expected) in [
            (&[None][..], None, vec![pool(None, &[0], 32_767)]),
            (&[None, None], Some(5_000), vec![pool(None, &[0, 1], 5_000)]),
            (&[node1], None, vec![pool(node1, &[0], 32_767)]),
            (&[node1, node1], None, vec![pool(node1, &[0, 1], 65_535)]),
            (&[node1, None], None, vec![pool(node1, &[0, 1], 65_535)]),
            (&[None, node1], None, vec![pool(node1, &[0, 1], 65_535)]),
            (&[node1, node0], None, vec![pool(node0, &[1], 32_767), pool(node1, &[0], 32_767)]),
            (&[node0, node1, node0, None], None, vec![pool(node0, &[0, 2, 3], 65_535), pool(node1, &[1], 32_767)]),
            (&[node0, node1, node0], Some(9_000), vec![pool(node0, &[0, 2], 6_000), pool(node1, &[1], 3_000)]),
            (&[Some(7), None, Some(3)], Some(9_000), vec![pool(Some(3), &[1, 2], 6_000), pool(Some(7), &[0], 3_000)]),
        ] {
            let pools = pools(nodes, 2, configured);
            assert_eq!(pools, expected, "{nodes:?}, {configured:?}");
            let [one] = &in_one(&pools)[..] else { panic!("one pool") };
            let all: Vec<usize> = (0..nodes.len()).collect();
            assert_eq!((one.node, &one.ports), (None, &all));
            assert_eq!(one.mbufs, pools.iter().map(|pool| pool.mbufs).sum::<u32>());
        }
    }

    #[test]
    fn hugepages_that_are_not_there_are_an_error_or_not_as_the_operator_wishes() {
        let (none, plain) = (Hugepages::default(), Memory::Plain { mib: 7 });
        assert!(matches!(choose_of(&none, Wish::Auto, 64 << 20, plain), Ok((Memory::Plain { mib: 7 }, None))));
        let error = choose_of(&none, Wish::On, 64 << 20, plain).unwrap_err().to_string();
        assert!(
            error.contains("can use 0 MiB of hugepages (this kernel has none), and 64 MiB are needed: reserve"),
            "{error}"
        );
        assert!(matches!(choose_of(&none, Wish::On, 0, plain), Ok((Memory::Huge, None))));
    }

    #[test]
    fn in_plain_pages_each_buffer_has_pages_of_its_own() {
        let mib = |mbufs, room| match choose(Wish::Off, mbufs, room, &[]) {
            Ok((Memory::Plain { mib }, None)) => mib,
            other => panic!("hugepages were not asked for, and {other:?} came"),
        };
        assert_eq!(mib(131_072, 2_048), 96 + 512, "one to a page of 4 KiB");
        assert_eq!(mib(131_072, 1_536), 96 + 256, "two");
        assert_eq!(mib(131_072, 9_216), 96 + 1_536, "three pages each");
    }
}
