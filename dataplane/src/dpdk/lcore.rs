//! Threads that use DPDK.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;

/// The registration of a thread with EAL: it has an lcore id of its own and with it a cache of each mempool. Ends with the
/// value, which cannot leave its thread: it is neither `Send` nor `Sync`.
///
/// A thread can use all of this room without it; then it goes to the pools' common rings for each buffer. At the end, the thread's caches
/// are emptied into the pools: so whether buffers are missing can be told exactly.
#[derive(Debug)]
pub struct RegisteredThread {
    /// The registration ends before DPDK does.
    _eal: Arc<Eal>,
    /// Makes the type neither `Send` nor `Sync`.
    _thread: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// Where the thread is registered already or is the one that initialized EAL, and where all of EAL's 128 lcore ids are taken.
    pub fn register(eal: &Arc<Eal>) -> Result<Self, DpdkError> {
        // SAFETY: reads a thread-local integer.
        if unsafe { dpdk_sys::shunt_is_registered() } != 0 {
            return Err(DpdkError::exists());
        }
        // SAFETY: EAL is initialized, as `eal` shows, and this thread has no lcore id yet.
        let code = unsafe { dpdk_sys::rte_thread_register() };
        if code < 0 {
            return Err(DpdkError::last());
        }
        Ok(RegisteredThread { _eal: eal.clone(), _thread: PhantomData })
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: EAL is initialized, as `_eal` shows. Caches are their thread's own, and this is the thread: the value cannot
        // have moved to another one. The walk through the pools excludes that one of them is freed meanwhile.
        unsafe { dpdk_sys::shunt_flush_caches() };
        // SAFETY: this thread was registered by `register`, once.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
