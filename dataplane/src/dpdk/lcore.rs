//! Threads that use DPDK, its clock, and the CPU's prefetch.

use crate::dpdk::eal::Eal;
use crate::dpdk::error::DpdkError;

/// The registration of a thread with EAL: it has an lcore id of its own and with it a mempool cache. Ends with the
/// value, which cannot leave its thread.
#[derive(Debug)]
pub struct RegisteredThread {
    /// Makes the type neither `Send` nor `Sync`.
    _thread: std::marker::PhantomData<*const ()>,
}

impl RegisteredThread {
    /// Registers the calling thread. EAL must be initialized.
    pub fn register(_eal: &Eal) -> Result<Self, DpdkError> {
        // SAFETY: EAL is initialized, as `_eal` shows, and this thread is not one of EAL's own.
        let code = unsafe { dpdk_sys::rte_thread_register() };
        if code < 0 {
            return Err(DpdkError::last());
        }
        Ok(RegisteredThread { _thread: std::marker::PhantomData })
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this thread was registered by `register`; the value cannot have moved to another one.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The time stamp counter, in cycles of [`tsc_hz`].
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: reads a register; needs no EAL.
    unsafe { dpdk_sys::shunt_tsc() }
}

/// Cycles of the time stamp counter in a second; 0 before EAL is initialized.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a variable of EAL's.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

/// Has the CPU fetch the cache line that `value` begins in. Never faults, changes nothing.
#[inline(always)]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_pointer(std::ptr::from_ref(value).cast());
}

/// The same by address, which may be any.
#[inline(always)]
pub(super) fn prefetch_pointer(pointer: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64; a prefetch of any address, valid or not, is only a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pointer;
}
