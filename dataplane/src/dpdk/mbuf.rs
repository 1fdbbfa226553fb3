//! Packet buffers: the only file that knows the fields of `rte_mbuf`, which move between DPDK releases.

use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{
    SHUNT_MBUF_F_RX_IP_CKSUM_BAD, SHUNT_MBUF_F_RX_IP_CKSUM_MASK, SHUNT_MBUF_F_RX_QINQ_STRIPPED,
    SHUNT_MBUF_F_RX_VLAN_STRIPPED, rte_mbuf,
};

use crate::base::packet::{FrameSource, Packet};
use crate::dpdk::cpu::prefetch_pointer;
use crate::dpdk::mempool::Mempool;

/// Flags that say that a VLAN tag is not in the frame, but beside it.
const STRIPPED: u64 = SHUNT_MBUF_F_RX_VLAN_STRIPPED | SHUNT_MBUF_F_RX_QINQ_STRIPPED;

/// A packet buffer, owned: dropping it gives it back to its pool. Sending takes it (see [`crate::dpdk::QueuePair`]).
///
/// It is not `Clone`, and nothing here raises DPDK's reference count: there is one owner. `Send`, so it may cross to another thread, and be
/// dropped there; not `Sync`. It may outlive the `Arc`s of its pool: the pool's memory then stays. Received frames may lie in
/// several buffers; [`Packet::data`] is the first one's part.
///
/// Of the same size and layout as a pointer, never null: a slice of these is DPDK's `struct rte_mbuf **`.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to the value that holds it, not to a thread; pools take it back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// A buffer from the pool with a copy of these bytes; `None` where the pool is empty or a buffer too small.
    pub fn with_data(pool: &Mempool, data: &[u8]) -> Option<Mbuf> {
        // SAFETY: the pool is valid while its holder is.
        let raw = unsafe { dpdk_sys::shunt_pktmbuf_alloc(pool.as_ptr()) };
        let mut mbuf = Mbuf(NonNull::new(raw)?);
        let len = u16::try_from(data.len()).ok()?;
        let header = mbuf.header_mut();
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
        // SAFETY: the pointer is valid while `self` owns it, and nothing else writes to an owned mbuf.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn header_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as in `header`, and `self` is borrowed mutably.
        unsafe { self.0.as_mut() }
    }

    /// Whether the frame lies in more than one buffer.
    #[inline(always)]
    pub(super) fn has_segments(&self) -> bool {
        self.header().nb_segs > 1
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
        // SAFETY: the first segment has `data_len` bytes from `start` on, initialized by the device or by us, and within the buffer:
        // that is a driver's duty (of the one that neglects it, `Port::open` sees to it). They are borrowed with `self`.
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
    fn is_plain(&self) -> bool {
        // One test: where the checksum is wrong, or right and not in the packet, the lower of its two bits is set in the flags.
        self.header().ol_flags & (SHUNT_MBUF_F_RX_IP_CKSUM_BAD | STRIPPED) == 0
    }

    #[inline(always)]
    fn bad_ip_checksum(&self) -> bool {
        self.header().ol_flags & SHUNT_MBUF_F_RX_IP_CKSUM_MASK == SHUNT_MBUF_F_RX_IP_CKSUM_BAD
    }

    #[inline(always)]
    fn has_stripped_tags(&self) -> bool {
        self.header().ol_flags & STRIPPED != 0
    }

    fn stripped_tags(&self) -> [Option<u16>; 2] {
        let header = self.header();
        let tag = |flag: u64, control: u16| (header.ol_flags & flag != 0).then_some(control);
        [tag(SHUNT_MBUF_F_RX_QINQ_STRIPPED, header.vlan_tci_outer), tag(SHUNT_MBUF_F_RX_VLAN_STRIPPED, header.vlan_tci)]
    }

    fn forget_stripped_tags(&mut self) {
        self.header_mut().ol_flags &= !STRIPPED;
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        let header = self.header_mut();
        let Ok(count) = u16::try_from(bytes) else { return false };
        match (header.data_off.checked_sub(count), header.data_len.checked_add(count)) {
            (Some(offset), Some(len)) => {
                header.data_off = offset;
                header.data_len = len;
                header.pkt_len += u32::from(count);
                true
            }
            _ => false,
        }
    }

    fn shrink_front(&mut self, bytes: usize) {
        let header = self.header_mut();
        let count = u16::try_from(bytes).unwrap_or(u16::MAX).min(header.data_len);
        header.data_off += count;
        header.data_len -= count;
        header.pkt_len -= u32::from(count);
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

impl FrameSource for Arc<Mempool> {
    type Packet = Mbuf;

    fn packet(&self, frame: &[u8]) -> Option<Mbuf> {
        Mbuf::with_data(self, frame)
    }
}
