//! Memory that is there before it is needed.
//!
//! The kernel gives a page of memory when it is first written to, from the NUMA node of the thread that writes. So what a worker is to
//! work with is made by the worker's own thread, when it is pinned, and written to at once: allocators hand out zeroed memory untouched,
//! and compilers know that and leave zeros out.

use std::hint::black_box;

/// So many values, in memory that the calling thread has written to.
pub fn touched<T>(count: usize, value: impl FnMut() -> T) -> Box<[T]> {
    let mut values: Vec<T> = Vec::with_capacity(count);
    // From here on, the compiler does not know what is in there, and that some of it may be zero.
    black_box(values.as_mut_ptr());
    // Bound: `count`.
    values.extend(std::iter::repeat_with(value).take(count));
    values.into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    const PAGE: usize = 4_096;

    /// How many of the pages that lie within are there (proc_pid_pagemap(5)), and how many lie within.
    fn present<T>(values: &[T]) -> (usize, usize) {
        let (start, end) = (values.as_ptr_range().start as usize, values.as_ptr_range().end as usize);
        let pages = start.div_ceil(PAGE)..end / PAGE;
        let map = File::open("/proc/self/pagemap").unwrap();
        let is_present = |page: &usize| {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, 8 * *page as u64).unwrap();
            u64::from_ne_bytes(entry) >> 63 == 1
        };
        (pages.clone().filter(is_present).count(), pages.len())
    }

    #[test]
    fn memory_is_there_even_where_it_is_zero() {
        let zeros = touched(1 << 20, || 0_u64);
        let (there, all) = present(&zeros);
        assert!(all > 2_000 && there == all, "{there} of {all} pages");
        assert!(zeros.iter().all(|&zero| zero == 0));
        // What this is about.
        let (there, all) = present(&black_box(vec![0_u64; 1 << 20]));
        assert!(there < all / 2, "{there} of {all} pages");
    }
}
