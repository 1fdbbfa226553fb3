//! What holds a port open.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use dpdk_sys::{RTE_MAX_ETHPORTS, rte_eth_dev_info};

use crate::dpdk::eal::Eal;
use crate::dpdk::interface_lock::Claim;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::port_events::{PortEvents, PortNews};
use crate::dpdk::xdp_rings::XdpRings;

/// Holds the port open; stops and closes it with its last holder. No thread may poll a queue of the port at that time.
///
/// There is one value for a port: it is in [`Eal::registry`] as long as this is there.
#[derive(Debug)]
pub(super) struct OpenPort {
    number: u16,
    /// For calls that ethdev does not allow at the same time (statistics, link, filters).
    control: Mutex<()>,
    /// Buffers that the device's queues are filled with.
    mempool: Arc<Mempool>,
    /// Goes before the port is closed.
    events: Option<PortEvents>,
    /// What the driver does not close.
    xdp: OnceLock<XdpRings>,
    eal: Arc<Eal>,
    /// Goes when the port is closed.
    _claim: Claim,
}

impl OpenPort {
    /// Takes over a port that is there, and that the registry has just let the caller take.
    pub(super) fn new(number: u16, mempool: Arc<Mempool>, eal: Arc<Eal>, claim: Claim) -> Self {
        // SAFETY: the port exists until this value closes it, and before that it drops the events.
        let events = Some(unsafe { PortEvents::new(number) });
        OpenPort { number, control: Mutex::new(()), mempool, events, xdp: OnceLock::new(), eal, _claim: claim }
    }

    /// DPDK's number of the port.
    #[inline]
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// The bytes of a frame that one of its buffers takes.
    pub(super) fn room(&self) -> u16 {
        self.mempool.room()
    }

    /// What its device has told since the last question.
    pub(super) fn news(&self) -> PortNews {
        self.events.as_ref().map(PortEvents::news).unwrap_or_default()
    }

    /// Notes what the AF_XDP driver has opened for it, and will not close.
    pub(super) fn note(&self, xdp: XdpRings) {
        // The queues are set up once.
        let _ = self.xdp.set(xdp);
    }

    /// A turn for such a call.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.control.lock().expect("nothing panics while calling DPDK")
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        // Meanwhile, the number is not free, and no device comes or goes.
        let mut registry = self.eal.registry();
        drop(self.events.take());
        let xdp = self.xdp.take().map(XdpRings::before_closing);
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port is ours, and no queue pair is left that could use it; the structure is written whole. Stopping a port
        // that is not started does nothing, nor does ending a promiscuous mode that was not entered; a Linux interface
        // would stay in it.
        unsafe {
            let _ = dpdk_sys::rte_eth_dev_info_get(self.number, &raw mut info);
            let _ = dpdk_sys::rte_eth_promiscuous_disable(self.number);
            let _ = dpdk_sys::rte_eth_dev_stop(self.number);
            let _ = dpdk_sys::rte_eth_dev_close(self.number);
        }
        // Without this, the device is in use as far as its bus knows, and cannot be opened again. Some have several ports.
        // SAFETY: a device of EAL's, or null, which is no port's; with its last port closed, and others kept from attaching it by the
        // lock, nothing uses it.
        unsafe {
            let other = dpdk_sys::rte_eth_find_next_of(0, info.device);
            if !info.device.is_null() && u32::from(other) >= RTE_MAX_ETHPORTS {
                let _ = dpdk_sys::rte_dev_remove(info.device);
            }
        }
        if let Some(left) = xdp {
            // SAFETY: the port is closed, and the lock keeps others from opening and closing ports.
            unsafe { left.take_back(&self.mempool) };
        }
        registry.give_back(self.number);
    }
}
