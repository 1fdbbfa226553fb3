//! Pools of packet buffers.
//!
//! A buffer belongs to whichever thread has it and knows nothing of its pool's holders, so a pool must find out by itself whether its
//! memory can be given back. Counts that are read while other threads give buffers back do not tell: DPDK's own adds up the
//! caches of threads that are at work in them. What tells is the common ring: where *all* buffers are in it, the thread that gave
//! back the last one has finished, since putting it there is the last that it does with the pool's memory. So caches are
//! emptied when their thread ends ([`crate::dpdk::RegisteredThread`]), and where a buffer is missing, the pool stays, and EAL with it.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use dpdk_sys::{RTE_PKTMBUF_HEADROOM, rte_mempool};

use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;

/// Buffers that each worker keeps for itself, so that the common ring is touched once in many bursts.
const CACHE: u32 = 256;

/// DPDK lets a cache fill to one and a half times its size, and a pool must have as many buffers.
const LEAST: u32 = CACHE + CACHE / 2;

/// The slow path's thread may be descheduled while it gives a buffer back; with DPDK's usual ring, workers would wait for
/// it (Programmer's Guide, "Known Issues: rte_ring"). With this one (relaxed tail sync) they do not.
const RING: &CStr = c"ring_mt_rts";

/// The data room of an mbuf where nothing needs more: what NICs' receive descriptors like best.
pub const ROOM: u16 = 2_048;

/// The most data room: with the headroom before it, a buffer's length has 16 bits.
pub const MOST_ROOM: u16 = u16::MAX - HEADROOM;

#[expect(clippy::cast_possible_truncation, reason = "looked at")]
const HEADROOM: u16 = {
    assert!(RTE_PKTMBUF_HEADROOM < 1_024, "a build option of DPDK's, 128 unless changed");
    RTE_PKTMBUF_HEADROOM as u16
};

/// DPDK's `SOCKET_ID_ANY`.
const ANY_NODE: i32 = -1;

const PAGE: usize = 4_096;

/// A pool of mbufs. Freed with its last holder if all buffers are back by then; if not, it stays until the process ends.
///
/// `Send` and `Sync`: any thread may take buffers from it and give them back.
#[derive(Debug)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    size: u32,
    room: u16,
    eal: Arc<Eal>,
}

// SAFETY: DPDK's mempools are made for use by many threads at once (their ring is multi-producer, multi-consumer,
// caches are per lcore).
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// Fewer than the caches of its users need.
    #[error("A pool needs {LEAST} packet buffers, not {mbufs}: set director.mbufs higher")]
    TooFew {
        /// How many buffers were wanted.
        mbufs: u32,
    },
    /// A port relies on there being no other pool.
    #[error(
        "All pools of packet buffers must be made before a port is opened: {device} frees buffers on the understanding that there is one"
    )]
    Late {
        /// The port's device.
        device: String,
    },
    /// Not enough memory, or a name in use.
    #[error(
        "No memory for {mbufs} packet buffers ({mib} MiB): reserve more hugepages (scripts/setup-hugepages), or set director.mbufs lower"
    )]
    Create {
        /// How many buffers were wanted.
        mbufs: u32,
        /// What they need, about.
        mib: usize,
        /// What DPDK says.
        source: DpdkError,
    },
}

impl Mempool {
    /// About what a pool of that many buffers needs, in bytes.
    pub fn bytes(mbufs: u32, room: u16) -> usize {
        // Headroom, the mbuf structure, its private part and the object's header: 128 + 128 + 64, and the rings.
        mbufs as usize * (usize::from(room) + 352)
    }

    /// The same in plain pages of 4 KiB, where DPDK lets a buffer cross into a second page only if it fits none.
    pub fn plain_bytes(mbufs: u32, room: u16) -> usize {
        let buffer = Self::bytes(1, room);
        match PAGE / buffer {
            0 => mbufs as usize * buffer.next_multiple_of(PAGE),
            to_a_page => (mbufs as usize).div_ceil(to_a_page) * PAGE,
        }
    }

    /// Makes a pool of buffers with a data room of so many bytes, at most [`MOST_ROOM`], in memory of a NUMA node; `None`: of any.
    /// `mbufs` is best a power of two less one. With a second pool, ports go without the offload "fast free".
    ///
    /// # Errors
    /// Where there is no such memory, or a pool of that name; where `mbufs` are too few for the caches of the threads; and where an open
    /// port relies on there being no other pool: make all pools first.
    ///
    /// # Panics
    /// If the name has a NUL byte.
    pub fn create(
        eal: &Arc<Eal>,
        name: &str,
        mbufs: u32,
        room: u16,
        node: Option<u32>,
    ) -> Result<Arc<Mempool>, MempoolError> {
        let c_name = CString::new(name).expect("pools are named in the code");
        let room = room.min(MOST_ROOM);
        let size = HEADROOM + room;
        let socket = node.map_or(ANY_NODE, |node| i32::try_from(node).unwrap_or(i32::MAX));
        if mbufs < LEAST {
            return Err(MempoolError::TooFew { mbufs });
        }
        let mut registry = eal.registry();
        if let Some(device) = registry.against_one_more_pool() {
            return Err(MempoolError::Late { device: device.into() });
        }
        // SAFETY: EAL is initialized, as `eal` shows; the names are NUL-terminated and copied.
        let pool = unsafe {
            let (name, ops) = (c_name.as_ptr(), RING.as_ptr());
            dpdk_sys::rte_pktmbuf_pool_create_by_ops(name, mbufs, CACHE, 0, size, socket, ops)
        };
        match NonNull::new(pool) {
            Some(pool) => {
                registry.add_pool();
                Ok(Arc::new(Mempool { pool, size: mbufs, room, eal: eal.clone() }))
            }
            None => Err(MempoolError::Create { mbufs, mib: Self::bytes(mbufs, room) >> 20, source: DpdkError::last() }),
        }
    }

    /// The bytes of a frame that one buffer takes.
    pub fn room(&self) -> u16 {
        self.room
    }

    /// Buffers that are not in use, those in the workers' caches among them.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is valid while `self` is.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }

    /// Buffers that are in use: held by a worker or the slow path, in a device's rings, or on their way. Where the number grows while the
    /// traffic does not, buffers are lost.
    pub fn in_use(&self) -> u32 {
        // The caches are counted one after the other, while buffers move: the sum may be a few too many.
        self.size.saturating_sub(self.available())
    }

    /// All buffers.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether all buffers are in the common ring.
    fn all_are_back(&self) -> bool {
        // SAFETY: the pool is valid while `self` is; the cache that is emptied, if there is one, is this thread's own.
        unsafe { dpdk_sys::shunt_flush_cache(self.pool.as_ptr()) };
        // SAFETY: as above; reads the ring's indices.
        let back = unsafe { dpdk_sys::shunt_common_count(self.pool.as_ptr()) };
        // What the other threads did with the pool comes before what follows here.
        fence(Ordering::Acquire);
        back == self.size
    }

    /// The pool for DPDK's functions; valid while `self` is.
    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        if !self.all_are_back() {
            // Giving the memory back would pull it from under the buffers that are out. Nor may EAL unmap it.
            std::mem::forget(self.eal.clone());
            tracing::debug!(
                out = self.in_use(),
                "a mempool was not freed: buffers are in use, or in the cache of a thread"
            );
            return;
        }
        // SAFETY: no buffer is out, no thread is at work in the pool (see the module), and this was the last holder.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
        self.eal.registry().remove_pool();
    }
}
