//! Where packet memory comes from: hugepages where there are enough, plain pages elsewhere.

use std::fs;
use std::path::Path;

use crate::config::Hugepages;
use crate::dpdk::{Memory, Mempool};

/// What DPDK needs of hugepages besides the packet buffers: its own structures, the devices' rings. Measured on igb: 4 MiB.
const HUGE_OVERHEAD: usize = 24 << 20;
/// The same of plain pages. These cost nothing until they are touched.
const PLAIN_OVERHEAD: usize = 96 << 20;

/// Packet buffers for a queue pair with its rings, the worker's cache, the rings to the slow path, and a virtual
/// device's own queue.
const MBUFS_PER_QUEUE: usize = 8_192;

/// There are not as many hugepages as the operator insists on.
#[derive(Debug, thiserror::Error)]
#[error(
    "director.hugepages is \"on\", but {free_mib} MiB of hugepages are free and mounted, and {needed_mib} MiB are needed: \
     reserve more (scripts/setup-hugepages)"
)]
pub struct TooFewHugepages {
    free_mib: usize,
    needed_mib: usize,
}

/// How many packet buffers ports and workers need: a power of two less one, as mempools like it.
pub fn mbufs(ports: usize, workers: usize) -> u32 {
    let needed = (ports * workers + 1) * MBUFS_PER_QUEUE;
    u32::try_from(needed.next_power_of_two() - 1).expect("a few ports and a few workers")
}

/// Chooses the memory for so many packet buffers with that room.
pub fn choose(wish: Hugepages, mbufs: u32, room: u16) -> Result<Memory, TooFewHugepages> {
    let needed = Mempool::bytes(mbufs, room) + HUGE_OVERHEAD;
    let plain = Memory::Plain { mib: (Mempool::plain_bytes(mbufs, room) + PLAIN_OVERHEAD).div_ceil(1 << 20) };
    let free = || free_hugepages(Path::new("/sys/kernel/mm/hugepages"), &mounts());
    match wish {
        Hugepages::Off => Ok(plain),
        Hugepages::Auto if free() >= needed => Ok(Memory::Huge),
        Hugepages::Auto => Ok(plain),
        Hugepages::On if free() >= needed => Ok(Memory::Huge),
        Hugepages::On => Err(TooFewHugepages { free_mib: free() >> 20, needed_mib: needed >> 20 }),
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/mounts").unwrap_or_default()
}

/// Bytes in free hugepages; none where no hugetlbfs is mounted, because DPDK takes them from there.
fn free_hugepages(folder: &Path, mounts: &str) -> usize {
    if !mounts.lines().any(|line| line.split(' ').nth(2) == Some("hugetlbfs")) {
        return 0;
    }
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    sizes
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: usize = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: usize = fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib * 1024 * free)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTED: &str = "sysfs /sys sysfs rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw 0 0\n";

    #[test]
    fn free_hugepages_of_all_sizes_are_summed_where_they_are_mounted() {
        let folder = tempfile::tempdir().unwrap();
        for (size, free) in [("hugepages-2048kB", "10\n"), ("hugepages-1048576kB", "1\n")] {
            let size = folder.path().join(size);
            fs::create_dir(&size).unwrap();
            fs::write(size.join("free_hugepages"), free).unwrap();
        }
        assert_eq!(free_hugepages(folder.path(), MOUNTED), (20 << 20) + (1 << 30));
        assert_eq!(free_hugepages(folder.path(), "sysfs /sys sysfs rw 0 0\n"), 0);
    }

    #[test]
    fn buffers_grow_with_ports_and_workers() {
        assert_eq!(mbufs(1, 1), 16_383);
        assert_eq!(mbufs(2, 8), 262_143);
    }

    #[test]
    fn in_plain_pages_each_buffer_has_pages_of_its_own() {
        let mib = |mbufs, room| match choose(Hugepages::Off, mbufs, room) {
            Ok(Memory::Plain { mib }) => mib,
            other => panic!("hugepages were not asked for, and {other:?} came"),
        };
        assert_eq!(mib(131_072, 2_048), 96 + 512, "one to a page of 4 KiB");
        assert_eq!(mib(131_072, 1_536), 96 + 256, "two");
        assert_eq!(mib(131_072, 9_216), 96 + 1_536, "three pages each");
    }
}
