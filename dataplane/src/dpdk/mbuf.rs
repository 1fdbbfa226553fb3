//! Packet buffers: the one place that knows the fields of `rte_mbuf`, which move between DPDK releases.

use std::ptr::NonNull;

use dpdk_sys::{SHUNT_MBUF_F_RX_IP_CKSUM_BAD, SHUNT_MBUF_F_RX_IP_CKSUM_MASK, rte_mbuf};

use super::Mempool;
use super::lcore::prefetch_pointer;
use crate::packet::Packet;

/// A packet buffer, owned: dropping it gives it back to its pool. Sending takes it (see [`super::QueuePair`]).
///
/// Of the same size and layout as a pointer, never null: a slice of these is DPDK's `struct rte_mbuf **`.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to whoever holds it, not to a thread; pools take it back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// A buffer from the pool with these bytes; `None` where the pool is empty or a buffer too small.
    pub fn with_data(pool: &Mempool, data: &[u8]) -> Option<Mbuf> {
        // SAFETY: the pool is valid while its holder is.
        let raw = unsafe { dpdk_sys::shunt_pktmbuf_alloc(pool.as_ptr()) };
        let mut mbuf = Mbuf(NonNull::new(raw)?);
        let len = u16::try_from(data.len()).ok()?;
        // SAFETY: `raw` is ours and initialized by the allocation.
        let header = unsafe { mbuf.0.as_mut() };
        if header.buf_len - header.data_off < len {
            return None;
        }
        header.data_len = len;
        header.pkt_len = u32::from(len);
        mbuf.data_mut().copy_from_slice(data);
        Some(mbuf)
    }

    #[inline(always)]
    fn header(&self) -> &rte_mbuf {
        // SAFETY: the pointer is valid while `self` owns it, and nobody else writes to an owned mbuf.
        unsafe { self.0.as_ref() }
    }

    /// The first byte of the data.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let header = self.header();
        // SAFETY: the data begins `data_off` bytes into the buffer, by mbuf's definition.
        unsafe { header.buf_addr.cast::<u8>().add(usize::from(header.data_off)) }
    }
}

impl Packet for Mbuf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: the first segment has `data_len` bytes from `start` on, initialized by the device or by us; they are
        // borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start(), len) }
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: as in `data`; `self` is borrowed mutably, and a received or newly allocated mbuf is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start(), len) }
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        self.header().pkt_len as usize
    }

    #[inline(always)]
    fn bad_ip_checksum(&self) -> bool {
        self.header().ol_flags & SHUNT_MBUF_F_RX_IP_CKSUM_MASK == SHUNT_MBUF_F_RX_IP_CKSUM_BAD
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch_pointer(self.start());
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, so this is the only free; its pool outlives it, because pools are freed only when no buffer is out.
        unsafe { dpdk_sys::shunt_pktmbuf_free(self.0.as_ptr()) };
    }
}

const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
const _: () = assert!(size_of::<rte_mbuf>() == 128, "the bindings and DPDK agree on two cache lines");
