//! The C library's heap. Not DPDK's; but here is where unsafe code is.

/// Gives memory that is free back to the system. The C library keeps what lies between blocks that are in use, and after a
/// thousand changes of large tables that can be more than what is in use. Takes some milliseconds, in which other threads that
/// need memory wait; workers never do.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time by any thread, and touches nothing that is allocated. It is safe with the
    // Rust allocator, which is this heap.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
