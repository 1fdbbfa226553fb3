//! Pools of packet buffers.
//!
//! A buffer belongs to whichever thread has it and knows nothing of its pool's holders, so a pool must find out by itself whether its
//! memory can be given back. Counts that are read while other threads give buffers back do not tell: DPDK's own adds up the
//! caches of threads that are at work in them. What tells is the common ring: where *all* buffers are in it, the thread that gave
//! back the last one has finished, since putting it there is the last that it does with the pool's memory. So caches are
//! emptied when their thread ends ([`crate::dpdk::RegisteredThread`]), and where a buffer is missing, the pool stays, and EAL with it.
//!
//! A pool for AF_XDP ports is made in steps, because DPDK has no single call for one whose buffers lie back to back; `umem.rs` says why
//! they must. Those few that lie outside the memory that sockets can use are taken out of it, and held until the pool's end.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use dpdk_sys::{RTE_MEMPOOL_F_NO_SPREAD, rte_mbuf, rte_mempool, rte_pktmbuf_pool_private};

use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;
use crate::dpdk::layout::{HEADROOM, Layout};
use crate::dpdk::umem::Umem;

/// Buffers that each worker keeps for itself, so that the common ring is touched once in many bursts.
const CACHE: u32 = 256;

/// DPDK lets a cache fill to one and a half times its size, and a pool must have as many buffers.
const LEAST: u32 = CACHE + CACHE / 2;

/// The slow path's thread may be descheduled while it gives a buffer back; with DPDK's usual ring, workers would wait for
/// it (Programmer's Guide, "Known Issues: rte_ring"). With this one (relaxed tail sync) they do not.
const RING: &CStr = c"ring_mt_rts";

/// DPDK's `SOCKET_ID_ANY`.
const ANY_NODE: i32 = -1;

/// Of so many buffers, one may lie outside the memory that AF_XDP sockets can use, and is then taken out. With more, something is wrong.
const MAY_LACK_ONE_OF: u32 = 100;

/// A pool of mbufs. Freed with its last holder if all buffers are back by then; if not, it stays until the process ends.
///
/// `Send` and `Sync`: any thread may take buffers from it and give them back.
#[derive(Debug)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    /// Those that may be in use.
    size: u32,
    layout: Layout,
    /// Buffers that are never used: taken out of the pool, and ours until its end.
    apart: Vec<NonNull<rte_mbuf>>,
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
    /// Makes a pool of buffers in memory of a NUMA node; `None`: of any. A number for the layout is a data room, at most
    /// [`MOST_ROOM`](crate::dpdk::MOST_ROOM). `mbufs` is best a power of two less one. With a second pool, ports go without the offload
    /// "fast free".
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
        layout: impl Into<Layout>,
        node: Option<u32>,
    ) -> Result<Arc<Mempool>, MempoolError> {
        let c_name = CString::new(name).expect("pools are named in the code");
        let layout = layout.into();
        let socket = node.map_or(ANY_NODE, |node| i32::try_from(node).unwrap_or(i32::MAX));
        if mbufs < LEAST {
            return Err(MempoolError::TooFew { mbufs });
        }
        let mut registry = eal.registry();
        if let Some(device) = registry.against_one_more_pool() {
            return Err(MempoolError::Late { device: device.into() });
        }
        let made = match layout {
            Layout::Spread(room) => spread(&c_name, mbufs, room, socket, eal),
            Layout::Pages => pages(&c_name, mbufs, socket, eal),
        };
        let failed = |source| MempoolError::Create { mbufs, mib: layout.bytes(mbufs) >> 20, source };
        let pool = made.map_err(failed)?;
        registry.add_pool();
        drop(registry);
        let mut pool = Mempool { pool, size: mbufs, layout, apart: Vec::new(), eal: eal.clone() };
        if layout == Layout::Pages {
            pool.set_apart(name);
        }
        Ok(Arc::new(pool))
    }

    /// Takes the buffers out that AF_XDP sockets cannot use, if they are few.
    fn set_apart(&mut self, name: &str) {
        let outside = self.outside_umem();
        if outside == 0 || outside > self.size / MAY_LACK_ONE_OF {
            return;
        }
        let umem = self.umem();
        // SAFETY: the pool is valid while `self` is.
        let take = || NonNull::new(unsafe { dpdk_sys::shunt_pktmbuf_alloc(self.pool.as_ptr()) });
        // Bound: the pool's buffers; nobody else has the pool yet.
        let all: Vec<NonNull<rte_mbuf>> = std::iter::from_fn(take).collect();
        let (inside, apart) = all.into_iter().partition(|mbuf| umem.holds(mbuf.addr().get()));
        give_back(inside);
        self.apart = apart;
        self.size -= outside;
        tracing::debug!("{outside} buffers of the pool {name} are not used: AF_XDP sockets cannot reach them");
    }

    /// How many buffers that may be in use lie where AF_XDP sockets cannot use them.
    pub(super) fn outside_umem(&self) -> u32 {
        // SAFETY: the pool is valid while `self` is, and this is its umem.
        let outside = unsafe { self.umem().outside(self.pool) };
        outside - u32::try_from(self.apart.len()).expect("a pool has at most 2^32 buffers")
    }

    /// Takes back buffers that an AF_XDP socket has not given back, by the addresses that it has for them. Returns how many they were.
    ///
    /// # Safety
    /// A buffer that is there was taken out of the pool, and nobody has it.
    pub(super) unsafe fn take_back(&self, addresses: &[u64]) -> usize {
        // SAFETY: the pool is valid while `self` is, and this is its umem.
        let mut buffers = unsafe { self.umem().buffers(self.pool) };
        // None of them twice, whatever stands in the rings.
        let mbufs: Vec<NonNull<rte_mbuf>> = addresses.iter().filter_map(|address| buffers.remove(address)).collect();
        let count = mbufs.len();
        give_back(mbufs);
        count
    }

    fn umem(&self) -> Umem {
        // SAFETY: the pool is valid while `self` is, and was populated before.
        unsafe { Umem::of(self.pool) }
    }

    /// The bytes of a frame that one buffer takes.
    pub fn room(&self) -> u16 {
        self.layout.room()
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

    /// All buffers that may be in use.
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
        self.size += u32::try_from(self.apart.len()).expect("a pool has at most 2^32 buffers");
        give_back(std::mem::take(&mut self.apart));
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

/// Gives buffers back that were taken from a pool, and that nothing else has.
fn give_back(mbufs: Vec<NonNull<rte_mbuf>>) {
    for mbuf in mbufs {
        // SAFETY: taken from a pool that is there, and given back once.
        unsafe { dpdk_sys::shunt_pktmbuf_free(mbuf.as_ptr()) };
    }
}

/// A pool as DPDK makes it by itself.
fn spread(name: &CStr, mbufs: u32, room: u16, socket: i32, _: &Eal) -> Result<NonNull<rte_mempool>, DpdkError> {
    let (name, ops, size) = (name.as_ptr(), RING.as_ptr(), HEADROOM + room);
    // SAFETY: EAL is initialized, as its value shows; the names are NUL-terminated and copied.
    let pool = unsafe { dpdk_sys::rte_pktmbuf_pool_create_by_ops(name, mbufs, CACHE, 0, size, socket, ops) };
    NonNull::new(pool).ok_or_else(DpdkError::last)
}

/// The same in steps, with buffers of a page that lie back to back.
fn pages(name: &CStr, mbufs: u32, socket: i32, _: &Eal) -> Result<NonNull<rte_mempool>, DpdkError> {
    let size = HEADROOM + Layout::Pages.room();
    let element = u32::try_from(size_of::<rte_mbuf>()).expect("128") + u32::from(size);
    let private = u32::try_from(size_of::<rte_pktmbuf_pool_private>()).expect("a few bytes");
    // SAFETY: EAL is initialized, as its value shows; the name is NUL-terminated and copied.
    let pool = unsafe {
        let name = name.as_ptr();
        dpdk_sys::rte_mempool_create_empty(name, mbufs, element, CACHE, private, socket, RTE_MEMPOOL_F_NO_SPREAD)
    };
    let pool = NonNull::new(pool).ok_or_else(DpdkError::last)?;
    populate(pool, size).inspect_err(|_| {
        // SAFETY: the pool has just been made, and nothing has a buffer of it.
        unsafe { dpdk_sys::rte_mempool_free(pool.as_ptr()) };
    })?;
    Ok(pool)
}

/// Gives an empty pool its ring and its buffers.
fn populate(pool: NonNull<rte_mempool>, size: u16) -> Result<(), DpdkError> {
    let pool = pool.as_ptr();
    // SAFETY: the pool is empty, and nobody else has it; the name is NUL-terminated, and stays with the operations that it finds.
    DpdkError::check(unsafe { dpdk_sys::rte_mempool_set_ops_byname(pool, RING.as_ptr(), std::ptr::null_mut()) })?;
    let mut private = rte_pktmbuf_pool_private { mbuf_data_room_size: size, mbuf_priv_size: 0, flags: 0 };
    // SAFETY: the pool has room for this structure, which is copied.
    unsafe { dpdk_sys::rte_pktmbuf_pool_init(pool, (&raw mut private).cast()) };
    // SAFETY: the pool has its operations and no buffers yet.
    let count = unsafe { dpdk_sys::rte_mempool_populate_default(pool) };
    DpdkError::check(count.min(0))?;
    // SAFETY: `rte_pktmbuf_init` is made for the objects of a pool of mbufs, and wants no argument.
    unsafe { dpdk_sys::rte_mempool_obj_iter(pool, Some(dpdk_sys::rte_pktmbuf_init), std::ptr::null_mut()) };
    Ok(())
}
