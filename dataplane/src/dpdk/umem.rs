//! The memory of a pool that AF_XDP sockets can use.
//!
//! A socket receives into and sends from memory that is registered with the kernel, its "umem". DPDK's driver (up to 24.03) registers the
//! memory from the pool's first chunk on, in the length that all buffers have together: as if they lay back to back. Where they do
//! not, those at the end lie outside. The kernel refuses such a buffer without a word: what is to be sent from it is not sent, and if it
//! is to be received into, neither comes a frame nor the buffer back. In plain pages, DPDK leaves a gap at the end of each page, so that
//! with the usual buffers 42 of 100 lie outside. A port works until it has come by enough of them, and is dead from then on.
//!
//! So a pool for such ports has buffers of a page each ([`crate::dpdk::Layout::Pages`]), and is asked here before a port uses it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;

use dpdk_sys::{rte_mbuf, rte_mempool};

use crate::dpdk::frame_size::PAGE;

/// What the driver registers of a pool.
#[derive(Debug)]
pub(super) struct Umem {
    registered: Range<usize>,
    /// An object's size: a buffer with all that belongs to it.
    object: usize,
    /// The part of it that comes before the mbuf.
    header: usize,
}

impl Umem {
    /// As `get_base_addr` and `xdp_umem_configure` in the driver's rte_eth_af_xdp.c compute it. `first` is where the pool's first chunk of
    /// memory begins.
    fn new(first: usize, buffers: usize, object: usize, header: usize) -> Self {
        Umem { registered: first & !(PAGE - 1)..first + buffers * object, object, header }
    }

    /// Of a pool that has its buffers.
    ///
    /// # Safety
    /// The pool is valid and populated.
    pub(super) unsafe fn of(pool: NonNull<rte_mempool>) -> Self {
        // SAFETY: the caller's; these fields do not change any more.
        let pool = unsafe { pool.as_ref() };
        // SAFETY: a populated pool has a chunk, and the list of them does not change any more.
        let first = unsafe { (*pool.mem_list.stqh_first).addr.addr() };
        // SAFETY: computes; a null pointer says that nothing but the sum is wanted.
        let object = unsafe { dpdk_sys::rte_mempool_calc_obj_size(pool.elt_size, pool.flags, std::ptr::null_mut()) };
        Umem::new(first, pool.populated_size as usize, object as usize, pool.header_size as usize)
    }

    /// Whether a socket can use the buffer of the mbuf at this address.
    pub(super) fn holds(&self, mbuf: usize) -> bool {
        let begin = mbuf - self.header;
        begin >= self.registered.start && begin + self.object <= self.registered.end
    }

    /// The pool's buffers by the addresses that sockets have for them.
    ///
    /// # Safety
    /// This is the umem of this pool, which is valid.
    pub(super) unsafe fn buffers(&self, pool: NonNull<rte_mempool>) -> BTreeMap<u64, NonNull<rte_mbuf>> {
        unsafe extern "C" fn add(_: *mut rte_mempool, state: *mut c_void, mbuf: *mut c_void, _: u32) {
            // SAFETY: `state` is what is given below, and used by nothing else meanwhile.
            let (umem, buffers) = unsafe { &mut *state.cast::<(&Umem, BTreeMap<u64, NonNull<rte_mbuf>>)>() };
            let Some(mbuf) = NonNull::new(mbuf.cast::<rte_mbuf>()) else { return };
            if umem.holds(mbuf.addr().get()) {
                buffers.insert(umem.address(mbuf.addr().get()), mbuf);
            }
        }
        let mut state = (self, BTreeMap::new());
        // SAFETY: as in `outside`.
        unsafe { dpdk_sys::rte_mempool_obj_iter(pool.as_ptr(), Some(add), (&raw mut state).cast()) };
        state.1
    }

    /// The address that a socket has for the buffer of an mbuf which lies inside.
    fn address(&self, mbuf: usize) -> u64 {
        (mbuf - self.header - self.registered.start) as u64
    }

    /// How many of the pool's buffers no socket can use.
    ///
    /// # Safety
    /// This is the umem of this pool, which is valid.
    pub(super) unsafe fn outside(&self, pool: NonNull<rte_mempool>) -> u32 {
        unsafe extern "C" fn count(_: *mut rte_mempool, state: *mut c_void, mbuf: *mut c_void, _: u32) {
            // SAFETY: `state` is what is given below, and used by nothing else meanwhile.
            let (umem, outside) = unsafe { &mut *state.cast::<(&Umem, u32)>() };
            *outside += u32::from(!umem.holds(mbuf.addr()));
        }
        let mut state = (self, 0);
        // SAFETY: the pool is valid by the caller's word; the list of its objects does not change after it was populated, whatever
        // threads do with the objects. `state` has the type that `count` takes it for, and outlives the call.
        unsafe { dpdk_sys::rte_mempool_obj_iter(pool.as_ptr(), Some(count), (&raw mut state).cast()) };
        state.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many buffers lie outside, where each begins that far behind the one before it.
    fn outside(first: usize, buffers: usize, object: usize, stride: usize) -> usize {
        let umem = Umem::new(first, buffers, object, 64);
        // DPDK begins at the next page where a buffer does not fit the rest of the first one.
        let begin = if first % PAGE + object > PAGE { first.next_multiple_of(PAGE) } else { first };
        (0..buffers).filter(|number| !umem.holds(begin + number * stride + 64)).count()
    }

    #[test]
    fn with_gaps_between_them_buffers_lie_outside() {
        assert_eq!(outside(0x1000_0000, 16_383, 2_368, 4_096), 6_912, "42 of 100");
        assert_eq!(outside(0x1000_0040, 16_383, 2_368, 4_096), 6_912);
        assert_eq!(outside(0x1000_0040, 16_383, 2_368, 2_368), 0, "back to back");
    }

    #[test]
    fn of_pages_back_to_back_one_lies_outside_if_the_memory_does_not_begin_with_a_page() {
        assert_eq!(outside(0x1000_0000, 16_383, 4_096, 4_096), 0);
        assert_eq!(outside(0x1000_0040, 16_383, 4_096, 4_096), 1);
        assert_eq!(outside(0x1000_0fc0, 16_383, 4_096, 4_096), 1);
    }

    #[test]
    fn a_socket_has_addresses_from_the_begin_of_the_umem_on() {
        let umem = Umem::new(0x1000_0040, 10, 4_096, 64);
        assert_eq!([0x1000_1040, 0x1000_9040].map(|mbuf| umem.address(mbuf)), [0x1000, 0x9000]);
    }

    #[test]
    fn what_lies_before_the_first_chunk_lies_outside() {
        let umem = Umem::new(0x1000_0000, 10, 4_096, 64);
        let mbufs = [0x0fff_f040, 0x1000_0040, 0x1000_9040, 0x1000_9041, 0x1000_a040];
        assert_eq!(mbufs.map(|mbuf| umem.holds(mbuf)), [false, true, true, false, false]);
    }
}
