//! Where packet memory comes from: hugepages where there are enough, plain pages elsewhere; and on which NUMA node it is.
//!
//! A NIC writes what it receives into memory, and the workers read it there: both is slower across the link between two nodes. So the ports
//! of a node have a pool of their own there. It has a price: with more than one pool, a driver must look at each buffer that it
//! frees, since any port may send any port's frames (`dpdk` has the rule). Where all ports are on one node, there is one
//! pool.
//!
//! Ports that may be reached by AF_XDP take their frames into buffers of a page each, and so do the ports that share a pool with
//! them, except those whose frames need more than a page: these have a pool of their own then.

use std::collections::BTreeSet;

use crate::config::Hugepages as Wish;
use crate::daemon::hugepages::Hugepages;
use crate::dpdk::{Layout, Memory, ROOM};

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

/// What a port needs of the buffers that it receives into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// The NUMA node that the device is attached to; `None`: none that is known.
    pub(super) node: Option<u32>,
    /// Whether it may come to be an AF_XDP port.
    pub(super) xdp: bool,
    /// The bytes that must fit into one buffer; less than the usual room does not matter.
    pub(super) room: usize,
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
    /// How they lie in memory.
    pub(super) layout: Layout,
}

/// The pools for ports with these needs: one for each node, or one for all, and further ones for ports with larger frames than those by
/// AF_XDP can be. A port of no node (a virtual device) shares the first. `configured` is how many buffers there are to be in all; without
/// it, what ports and workers need.
pub(super) fn pools(needs: &[Need], workers: usize, configured: Option<u32>) -> Vec<Pool> {
    let any_xdp = needs.iter().any(|need| need.xdp);
    let is_large = |need: &Need| any_xdp && !need.xdp && need.room > usize::from(Layout::Pages.room());
    let (large, others): (Vec<usize>, Vec<usize>) = (0..needs.len()).partition(|&port| is_large(&needs[port]));
    let mut pools: Vec<Pool> = by_node(needs, &others).chain(by_node(needs, &large)).collect();
    for pool in &mut pools {
        let share = |all: u32| u64::from(all) * pool.ports.len() as u64 / needs.len().max(1) as u64;
        let share = configured.map(|all| u32::try_from(share(all)).expect("a part of a number is no larger"));
        pool.mbufs = share.unwrap_or_else(|| mbufs(pool.ports.len(), workers));
    }
    pools
}

/// A pool for each node that these ports are on, or one for all; how many buffers it has is not said yet.
fn by_node<'a>(needs: &'a [Need], ports: &'a [usize]) -> impl Iterator<Item = Pool> + 'a {
    let mut nodes: BTreeSet<Option<u32>> = ports.iter().map(|&port| needs[port].node).collect();
    if nodes.len() > 1 {
        nodes.remove(&None);
    }
    let first = nodes.first().copied();
    nodes.into_iter().map(move |node| {
        let here = |&port: &usize| needs[port].node == node || needs[port].node.is_none() && first == Some(node);
        let ports: Vec<usize> = ports.iter().copied().filter(here).collect();
        let layout = layout(ports.iter().map(|&port| needs[port]));
        Pool { node, ports, mbufs: 0, layout }
    })
}

/// How the buffers of a pool for such ports lie in memory.
fn layout(mut needs: impl Iterator<Item = Need> + Clone) -> Layout {
    if needs.clone().any(|need| need.xdp) {
        return Layout::Pages;
    }
    let most = needs.by_ref().map(|need| need.room).max().unwrap_or(0);
    Layout::from(u16::try_from(most).unwrap_or(u16::MAX).max(ROOM))
}

/// The same for plain pages, of which DPDK knows no nodes.
pub(super) fn anywhere(needs: &[Need]) -> Vec<Need> {
    needs.iter().map(|need| Need { node: None, ..*need }).collect()
}

/// Chooses the memory for a pool of so many buffers, for a DPDK with these arguments. Says what to do where hugepages are there that it
/// cannot use.
pub fn choose(
    wish: Wish,
    mbufs: u32,
    layout: Layout,
    eal_args: &[String],
) -> Result<(Memory, Option<String>), TooFewHugepages> {
    let pools = [Pool { node: None, ports: Vec::new(), mbufs, layout }];
    choose_for(wish, &pools, &pools, eal_args)
}

/// The same for several pools: hugepages for the first ones, or plain pages for the others.
pub(super) fn choose_for(
    wish: Wish,
    huge: &[Pool],
    plain: &[Pool],
    eal_args: &[String],
) -> Result<(Memory, Option<String>), TooFewHugepages> {
    let sum = |pools: &[Pool], bytes: fn(&Pool) -> usize| pools.iter().map(bytes).sum::<usize>();
    let pages = sum(plain, |pool| pool.layout.plain_bytes(pool.mbufs)) + PLAIN_OVERHEAD;
    let plain = Memory::Plain { mib: pages.div_ceil(1 << 20) };
    if wish == Wish::Off {
        return Ok((plain, None));
    }
    let needed = sum(huge, |pool| pool.layout.bytes(pool.mbufs)) + HUGE_OVERHEAD;
    choose_of(&Hugepages::look(eal_args), wish, needed, plain)
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

    /// Ports on these nodes that need nothing in particular.
    fn plain_ports(nodes: &[Option<u32>]) -> Vec<Need> {
        nodes.iter().map(|&node| Need { node, xdp: false, room: 0 }).collect()
    }

    #[test]
    fn the_ports_of_a_node_have_a_pool_there() {
        let layout = Layout::Spread(ROOM);
        let pool = |node, ports: &[usize], mbufs| Pool { node, ports: ports.into(), mbufs, layout };
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
            let needs = plain_ports(nodes);
            assert_eq!(pools(&needs, 2, configured), expected, "{nodes:?}, {configured:?}");
            let all: Vec<usize> = (0..nodes.len()).collect();
            let mbufs = configured.unwrap_or(mbufs(nodes.len(), 2));
            assert_eq!(pools(&anywhere(&needs), 2, configured), [pool(None, &all, mbufs)]);
        }
    }

    #[test]
    fn ports_by_af_xdp_have_buffers_of_a_page_and_larger_frames_a_pool_of_their_own() {
        let (xdp, nic) = (Need { node: None, xdp: true, room: 0 }, Need { node: None, xdp: false, room: 0 });
        let jumbo = Need { room: 9_152, ..nic };
        let on = |node, need| Need { node: Some(node), ..need };
        let spread = |room| Layout::Spread(room);
        // The ports, and each pool's node, ports and layout.
        for (needs, expected) in [
            (&[nic][..], &[(None, &[0][..], spread(2_048))][..]),
            (&[jumbo, nic], &[(None, &[0, 1], spread(9_152))]),
            (&[nic, xdp], &[(None, &[0, 1], Layout::Pages)]),
            (&[jumbo, xdp, nic], &[(None, &[1, 2], Layout::Pages), (None, &[0], spread(9_152))]),
            (&[on(0, nic), on(1, xdp)], &[(Some(0), &[0], spread(2_048)), (Some(1), &[1], Layout::Pages)]),
            (&[on(0, jumbo), on(1, xdp)], &[(Some(1), &[1], Layout::Pages), (Some(0), &[0], spread(9_152))]),
        ] {
            let pools = pools(needs, 1, None);
            let made: Vec<_> = pools.iter().map(|pool| (pool.node, &*pool.ports, pool.layout)).collect();
            assert_eq!(made, expected, "{needs:?}");
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
    fn the_memory_is_that_of_all_pools() {
        let pool = |layout| Pool { node: None, ports: vec![0], mbufs: 32_768, layout };
        let pools = [pool(Layout::Pages), pool(Layout::Spread(9_216))];
        let (memory, advice) = choose_for(Wish::Off, &[], &pools, &[]).unwrap();
        assert_eq!(memory, Memory::Plain { mib: 96 + 128 + 1 + 384 + 1 }, "32 bytes a buffer for the pools' rings");
        assert_eq!(advice, None);
    }
}
