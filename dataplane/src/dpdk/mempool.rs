//! Pools of packet buffers.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{RTE_PKTMBUF_HEADROOM, rte_mempool};

use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;

/// Buffers that each worker keeps for itself, so that the common ring is touched once in many bursts.
const CACHE: u32 = 256;

/// The slow path's thread may be descheduled while it gives a buffer back; with DPDK's usual ring, workers would wait for
/// it (Programmer's Guide, "Known Issues: rte_ring"). With this one (relaxed tail sync) they do not.
const RING: &CStr = c"ring_mt_rts";

/// The data room of an mbuf where nothing needs more: what NICs' receive descriptors like best.
pub const ROOM: u16 = 2_048;

const PAGE: usize = 4_096;

/// A pool of mbufs. Freed with its last holder.
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

    /// Makes a pool of buffers with that data room. `mbufs` is best a power of two less one.
    pub fn create(
        eal: &Arc<Eal>,
        name: &str,
        mbufs: u32,
        room: u16,
        socket: i32,
    ) -> Result<Arc<Mempool>, MempoolError> {
        let c_name = CString::new(name).expect("pools are named in the code");
        let size = u16::try_from(RTE_PKTMBUF_HEADROOM).expect("128").saturating_add(room);
        // SAFETY: EAL is initialized, as `eal` shows; the names are NUL-terminated and copied.
        let pool = unsafe {
            let (name, ops) = (c_name.as_ptr(), RING.as_ptr());
            dpdk_sys::rte_pktmbuf_pool_create_by_ops(name, mbufs, CACHE, 0, size, socket, ops)
        };
        match NonNull::new(pool) {
            Some(pool) => Ok(Arc::new(Mempool { pool, size: mbufs, room, eal: eal.clone() })),
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

    /// Buffers that are in use: held by somebody, in a device's rings, or on their way. Where this grows while the traffic does
    /// not, somebody loses them.
    pub fn in_use(&self) -> u32 {
        // The caches are counted one after the other, while buffers move: the sum may be a few too many.
        self.size.saturating_sub(self.available())
    }

    /// All buffers.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The pool for DPDK's functions; valid while `self` is.
    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        if self.in_use() > 0 {
            // Some buffers are still out: giving their memory back would pull it from under them.
            // Nor may EAL unmap it, as long as somebody could still look into one of them.
            std::mem::forget(self.eal.clone());
            tracing::debug!(out = self.in_use(), "a mempool was not freed: buffers are in use");
            return;
        }
        // SAFETY: no buffer is in use, and nobody else has the pool.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}
