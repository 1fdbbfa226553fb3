//! DPDK's error numbers.

use std::ffi::CStr;
use std::fmt;

/// An error number as DPDK returns it, a positive `errno` or one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpdkError(i32);

impl DpdkError {
    /// From a function's negative return value.
    pub(super) fn from_return(value: i32) -> Self {
        DpdkError(value.wrapping_neg())
    }

    /// From `rte_errno` of this thread.
    pub(super) fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        DpdkError(unsafe { dpdk_sys::shunt_errno() })
    }

    /// What is to be made is there already.
    pub(super) fn exists() -> Self {
        DpdkError(nix::libc::EEXIST)
    }

    /// Nothing where `value` is not negative.
    pub(super) fn check(value: i32) -> Result<(), DpdkError> {
        if value < 0 { Err(Self::from_return(value)) } else { Ok(()) }
    }
}

impl fmt::Display for DpdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: returns a string in a per-thread buffer or a constant one, valid until this thread's next call; it is
        // copied before that.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for DpdkError {}
