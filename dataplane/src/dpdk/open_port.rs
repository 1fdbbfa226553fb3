//! What holds a port open.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::dpdk::eal::Eal;
use crate::dpdk::mempool::Mempool;

/// Holds the port open; stops and closes it with its last holder.
#[derive(Debug)]
pub(super) struct OpenPort {
    number: u16,
    /// For calls that ethdev does not allow at the same time (statistics, link, filters).
    control: Mutex<()>,
    /// Buffers that the device's queues are filled with.
    _mempool: Arc<Mempool>,
    _eal: Arc<Eal>,
}

impl OpenPort {
    /// Takes over a port that is there and that nobody else closes.
    pub(super) fn new(number: u16, mempool: Arc<Mempool>, eal: Arc<Eal>) -> Self {
        OpenPort { number, control: Mutex::new(()), _mempool: mempool, _eal: eal }
    }

    /// DPDK's number of the port.
    #[inline]
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl OpenPort {
    /// A turn for such a call.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.control.lock().expect("nobody panics while calling DPDK")
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        // SAFETY: the port is ours, and no queue pair is left that could use it. Stopping a port that is not started
        // does nothing, nor does ending a promiscuous mode that was not entered; a Linux interface would stay in it.
        unsafe {
            let _ = dpdk_sys::rte_eth_promiscuous_disable(self.number);
            let _ = dpdk_sys::rte_eth_dev_stop(self.number);
            let _ = dpdk_sys::rte_eth_dev_close(self.number);
        }
    }
}
