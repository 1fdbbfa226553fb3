//! The CPU's clock and its prefetch.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The time stamp counter, in cycles of [`tsc_hz`].
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: reads a register; needs no EAL.
    unsafe { dpdk_sys::shunt_tsc() }
}

/// As EAL has measured it: a copy, since EAL's own variable may be written while another thread reads it.
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

/// Cycles of the time stamp counter in a second; 0 before EAL is initialized.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Relaxed)
}

/// To be called once EAL knows.
pub(super) fn set_tsc_hz(hz: u64) {
    TSC_HZ.store(hz, Relaxed);
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
