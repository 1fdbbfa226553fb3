//! What is open: so that no device has two owners, and so that a port is asked for "fast free" only where that is sound.
//!
//! "Fast free" ([`RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE`]) lets a driver give what it has sent back to the pool of the first buffer, without
//! a look at the others. "Per queue, all mbufs come from the same mempool", says DPDK. Any buffer may be sent by any port, so this holds
//! where there is a single pool, and as long as there is a single pool.
//!
//! [`RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE`]: https://doc.dpdk.org/api-22.11/rte__ethdev_8h.html

use std::collections::BTreeMap;

/// The open ports, and the number of pools.
#[derive(Debug, Default)]
pub(super) struct Registry {
    ports: BTreeMap<u16, Entry>,
    /// Pools that a buffer may come from: those that are there, and those that could not be freed because buffers were out.
    pools: usize,
}

#[derive(Debug)]
struct Entry {
    device: String,
    /// The index of the Linux interface that it is bound to; 0: none.
    interface: u32,
    fast_free: bool,
}

impl Registry {
    /// Takes a port for a device. On an error, which names the device that the port is open as, it stays with its owner.
    pub(super) fn take(&mut self, port: u16, device: &str) -> Result<(), String> {
        if let Some(owner) = self.ports.get(&port) {
            return Err(owner.device.clone());
        }
        self.ports.insert(port, Entry { device: device.into(), interface: 0, fast_free: false });
        Ok(())
    }

    /// Notes which Linux interface a taken port is bound to (0: none). An error names the device that has the same interface.
    pub(super) fn bind(&mut self, port: u16, interface: u32) -> Result<(), String> {
        let mut others = self.ports.iter().filter(|(number, _)| **number != port).map(|(_, entry)| entry);
        if let Some(owner) = others.find(|other| interface != 0 && other.interface == interface) {
            return Err(owner.device.clone());
        }
        self.entry(port).interface = interface;
        Ok(())
    }

    /// The device that has one of these Linux interfaces.
    pub(super) fn owner_of(&self, interfaces: &[u32]) -> Option<&str> {
        self.ports.values().find(|entry| interfaces.contains(&entry.interface)).map(|entry| &*entry.device)
    }

    /// Whether a taken port may free what it has sent without a look at each buffer's pool. From then on, and until it is given
    /// back, there can be no second pool.
    pub(super) fn grant_fast_free(&mut self, port: u16) -> bool {
        let single = self.pools == 1;
        self.entry(port).fast_free = single;
        single
    }

    /// Gives a port back.
    pub(super) fn give_back(&mut self, port: u16) {
        self.ports.remove(&port);
    }

    /// The device of a port that rules out one more pool.
    pub(super) fn against_one_more_pool(&self) -> Option<&str> {
        self.ports.values().find(|entry| entry.fast_free).map(|entry| &*entry.device)
    }

    /// Counts a pool.
    pub(super) fn add_pool(&mut self) {
        self.pools += 1;
    }

    /// Counts a pool no more: no buffer of it is left.
    pub(super) fn remove_pool(&mut self) {
        self.pools -= 1;
    }

    fn entry(&mut self, port: u16) -> &mut Entry {
        self.ports.get_mut(&port).expect("the port was taken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_owner_until_it_is_given_back() {
        let mut registry = Registry::default();
        assert_eq!(registry.take(3, "0000:03:00.1"), Ok(()));
        assert_eq!(registry.take(3, "03:00.1"), Err("0000:03:00.1".into()));
        assert_eq!(registry.take(4, "0000:03:00.2"), Ok(()));
        registry.give_back(3);
        assert_eq!(registry.take(3, "03:00.1"), Ok(()));
    }

    #[test]
    fn a_linux_interface_has_one_owner_too() {
        let mut registry = Registry::default();
        for (port, device) in [(0, "iface:eth1"), (1, "net_af_packet7,iface=eth1"), (2, "net_null0"), (3, "net_null1")]
        {
            registry.take(port, device).unwrap();
        }
        assert_eq!(registry.bind(0, 5), Ok(()));
        assert_eq!(registry.bind(0, 5), Ok(()), "its own");
        assert_eq!(registry.bind(1, 5), Err("iface:eth1".into()));
        assert_eq!(
            (registry.owner_of(&[4, 5]), registry.owner_of(&[4]), registry.owner_of(&[])),
            (Some("iface:eth1"), None, None)
        );
        assert_eq!(registry.bind(1, 6), Ok(()));
        assert_eq!((registry.bind(2, 0), registry.bind(3, 0)), (Ok(()), Ok(())), "both have none");
        registry.give_back(0);
        assert_eq!(registry.bind(1, 5), Ok(()));
    }

    #[test]
    fn fast_free_is_for_a_single_pool_that_stays_single() {
        // Pools before the first port; whether the port may; whether there may be one more pool then.
        for (pools, granted, one_more) in [(1, true, false), (2, false, true), (4, false, true)] {
            let mut registry = Registry::default();
            (0..pools).for_each(|_| registry.add_pool());
            registry.take(0, "0000:03:00.1").unwrap();
            assert_eq!(registry.grant_fast_free(0), granted, "{pools} pools");
            assert_eq!(registry.against_one_more_pool().is_none(), one_more, "{pools} pools");
            registry.give_back(0);
            assert_eq!(registry.against_one_more_pool(), None);
        }
        // A port that did not ask, and one that asks when the others' pools are gone.
        let mut registry = Registry::default();
        registry.add_pool();
        registry.add_pool();
        registry.take(0, "net_null0").unwrap();
        assert_eq!(registry.against_one_more_pool(), None);
        registry.remove_pool();
        assert!(registry.grant_fast_free(0));
        assert_eq!(registry.against_one_more_pool(), Some("net_null0"));
    }
}
