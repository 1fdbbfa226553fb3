//! A worker's end of a port.

use std::sync::Arc;

use dpdk_sys::rte_mbuf;

use crate::base::packet::{Burst, PacketIo};
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::open_port::OpenPort;

/// A receive and a transmit queue of one port. There is one value for each pair, and it is neither `Clone` nor
/// `Sync`: two threads cannot poll one queue. The port stays open while it is held.
#[derive(Debug)]
pub struct QueuePair {
    port: Arc<OpenPort>,
    queue: u16,
    /// Makes the type not `Sync`.
    _one_thread: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl QueuePair {
    /// The pair of this number. There must be no other value for it.
    pub(super) fn new(port: Arc<OpenPort>, queue: u16) -> Self {
        QueuePair { port, queue, _one_thread: std::marker::PhantomData }
    }

    /// DPDK's number of the port.
    pub(super) fn port_number(&self) -> u16 {
        self.port.number()
    }

    /// Its own number.
    pub(super) fn number(&self) -> u16 {
        self.queue
    }
}

impl PacketIo for QueuePair {
    type Packet = Mbuf;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Burst<Mbuf>) {
        let filled = burst.len();
        let room = burst.remaining_capacity();
        let wanted = u16::try_from(room).expect("a burst is small");
        // SAFETY: the queue is set up and started while the port is held, and only this thread polls it. There are
        // `room` places behind the filled ones, each the size of a pointer.
        let received = unsafe {
            let free = burst.as_mut_ptr().add(filled).cast::<*mut rte_mbuf>();
            dpdk_sys::shunt_rx_burst(self.port.number(), self.queue, free, wanted)
        };
        let received = usize::from(received).min(room);
        // SAFETY: the driver has written `received` pointers to mbufs that are now ours.
        unsafe { burst.set_len(filled + received) };
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) {
        let queued = burst.len();
        let count = u16::try_from(queued).expect("a burst is small");
        // SAFETY: as in `rx_burst`; the pointers are to mbufs that we own. The driver owns those that it reports as sent.
        unsafe {
            let mbufs = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
            let sent = usize::from(dpdk_sys::shunt_tx_burst(self.port.number(), self.queue, mbufs, count)).min(queued);
            // Of no length while it is rearranged; then the unsent ones, moved to the front, are ours again.
            burst.set_len(0);
            if sent < queued {
                std::ptr::copy(mbufs.add(sent), mbufs, queued - sent);
                burst.set_len(queued - sent);
            }
        }
    }
}
