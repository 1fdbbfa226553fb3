//! What DPDK's AF_XDP driver leaves when it closes a port. It is taken back here, so that an interface can be opened again, as often as it comes
//! back.
//!
//! The driver (DPDK 22.11) does not close the socket: it stays bound to its queue of the interface, which nobody can have any more. And the
//! packet buffers that lie in the socket's rings, some 2,050 of each queue, go to no pool: after a few times there would be none left to
//! receive into.
//!
//! So the rings are mapped here, too, when a port is opened; later, if the interface is gone, the kernel does not allow it. Once the driver has
//! closed the port, and the kernel has come to rest, the buffers in the rings are given back, and the socket is closed. What a device
//! with zero copy has taken out of the fill ring, and not received into, stays lost.

use std::ffi::c_void;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::Acquire};
use std::thread::sleep;
use std::time::Duration;

use nix::libc::{self, off_t, xdp_ring_offset};

use crate::dpdk::descriptors::{Descriptor, Descriptors, option};
use crate::dpdk::mempool::Mempool;

/// Buffers that the driver puts into a socket's fill ring at first, as many as are always there or on their way.
pub(super) const FILLED: u32 = 2_048;

/// How often, and in what time, the rings are looked at until the kernel has come to rest.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(5);

/// A frame's description in a receive or transmit ring (`struct xdp_desc`), which begins with its address.
const DESCRIPTION: usize = 16;
/// An entry of a fill or completion ring.
const ADDRESS: usize = 8;
/// The bits of an address that say where its buffer begins. Those above say where in it the frame is (`XSK_UNALIGNED_BUF_OFFSET_SHIFT`).
const BEGIN: u64 = (1 << 48) - 1;

/// What the driver has opened since: what comes meanwhile by another thread must not be of these kinds.
pub(super) fn opened_since(before: &Descriptors) -> XdpRings {
    let descriptors = of_driver(before);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let sockets = descriptors.iter().filter(|descriptor| is_socket(descriptor));
    let sockets = sockets.filter_map(|socket| Rings::of(socket, &maps)).collect();
    XdpRings { descriptors, sockets }
}

/// What the driver has opened for a port.
#[derive(Debug)]
pub(super) struct XdpRings {
    descriptors: Vec<Descriptor>,
    sockets: Vec<Rings>,
}

/// The same of a port that the driver is to close now. While it does, it opens some more, which it forgets where the interface has another name.
pub(super) struct Closing {
    rings: XdpRings,
    before: Descriptors,
}

impl XdpRings {
    /// To be called before the driver closes the port.
    pub(super) fn before_closing(self) -> Closing {
        Closing { rings: self, before: Descriptors::now() }
    }
}

impl Closing {
    /// Takes back what is left, and gives the buffers to their pool. The thread waits meanwhile, for some milliseconds.
    ///
    /// # Safety
    /// The driver has closed the port whose pool this is, and nobody else has opened or closed a port of the driver since
    /// [`XdpRings::before_closing`].
    pub(super) unsafe fn take_back(self, pool: &Mempool) {
        let Closing { rings, before } = self;
        // SAFETY: the driver does not look into the rings any more; nor does the kernel, since the driver has taken the program off the
        // interface, and nothing has changed for a while. What lies in them is nobody's, and was taken out of the pool.
        let taken = rings.at_rest().map(|buffers| unsafe { pool.take_back(&buffers) });
        match taken {
            Some(taken) => tracing::debug!("{taken} packet buffers are taken back from the rings of AF_XDP sockets"),
            None => {
                tracing::warn!("frames still come to closed AF_XDP sockets: the packet buffers in their rings are lost")
            }
        }
        let there = Descriptors::now();
        let still = rings.descriptors.into_iter().filter(|known| there.contains(known));
        for descriptor in still.chain(of_driver(&before)) {
            // SAFETY: it is what the driver had opened, and the driver has forgotten it.
            unsafe { libc::close(descriptor.number) };
        }
        // With the last mapping of its rings, the kernel lets go of a socket.
        drop(rings.sockets);
    }
}

impl XdpRings {
    /// What lies in the rings when the kernel is at rest. `None` if it is not.
    fn at_rest(&self) -> Option<Vec<u64>> {
        let mut before = self.lie();
        let mut at_rest = false;
        for _ in 0..LOOKS {
            sleep(BETWEEN);
            let now = self.lie();
            at_rest = now == before;
            // What the kernel has refused to send is never completed.
            if at_rest && self.sockets.iter().all(Rings::rests) {
                break;
            }
            before = now;
        }
        at_rest.then_some(before)
    }

    /// The addresses of the buffers that lie in the rings.
    fn lie(&self) -> Vec<u64> {
        self.sockets.iter().flat_map(|socket| socket.all().into_iter().flat_map(Ring::lie)).collect()
    }
}

/// The rings of a socket.
#[derive(Debug)]
struct Rings {
    receive: Ring,
    transmit: Ring,
    fill: Ring,
    completion: Ring,
}

impl Rings {
    /// `maps` are the places in memory at which the driver has mapped the rings. They tell how large these are.
    fn of(socket: &Descriptor, maps: &str) -> Option<Rings> {
        let offsets = offsets(socket.number)?;
        let ring = |place: u64, offsets: &xdp_ring_offset, entry| {
            let len = mapped(maps, &socket.target.to_string_lossy(), place)?;
            Ring::map(socket.number, off_t::try_from(place).ok()?, len, offsets, entry)
        };
        Some(Rings {
            receive: ring(libc::XDP_PGOFF_RX_RING.try_into().ok()?, &offsets.rx, DESCRIPTION)?,
            transmit: ring(libc::XDP_PGOFF_TX_RING.try_into().ok()?, &offsets.tx, DESCRIPTION)?,
            fill: ring(libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, ADDRESS)?,
            completion: ring(libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, ADDRESS)?,
        })
    }

    fn all(&self) -> [&Ring; 4] {
        [&self.receive, &self.transmit, &self.fill, &self.completion]
    }

    /// Whether the kernel has completed all that it has taken to send.
    fn rests(&self) -> bool {
        self.transmit.consumed() == self.completion.produced()
    }
}

/// A ring that one side writes and the other reads, in memory of the kernel's.
#[derive(Debug)]
struct Ring {
    memory: NonNull<c_void>,
    len: usize,
    producer: usize,
    consumer: usize,
    entries: usize,
    /// An entry's size.
    entry: usize,
    /// A power of two.
    count: u32,
}

// SAFETY: the memory is mapped until this is dropped, whichever thread has it; nothing is written there, and what the kernel writes at the
// same time is read as an atomic.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    fn map(socket: RawFd, place: off_t, len: usize, offsets: &xdp_ring_offset, entry: usize) -> Option<Ring> {
        // SAFETY: a new mapping at a place that the kernel chooses, which nothing else knows of.
        let memory = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, socket, place)
        };
        if memory == libc::MAP_FAILED {
            return None;
        }
        Ring::in_memory(NonNull::new(memory)?, len, offsets, entry)
    }

    /// The ring in this memory, which is unmapped with it.
    fn in_memory(memory: NonNull<c_void>, len: usize, offsets: &xdp_ring_offset, entry: usize) -> Option<Ring> {
        let [producer, consumer, entries] =
            [offsets.producer, offsets.consumer, offsets.desc].map(|offset| usize::try_from(offset).unwrap_or(len));
        // Of a few hundred entries or more, twice as many do not fit the memory, though it is rounded up to whole pages.
        let count = (len.saturating_sub(entries) / entry).checked_ilog2().map_or(0, |log| 1 << log);
        let ring = Ring { memory, len, producer, consumer, entries, entry, count };
        let fits = [producer, consumer].iter().all(|&at| at.is_multiple_of(4) && at + 4 <= len);
        (fits && entries.is_multiple_of(8)).then_some(ring)
    }

    /// How much was ever put in, and taken out, from 2^32 on from 0 on again.
    fn produced(&self) -> u32 {
        self.counter(self.producer)
    }

    fn consumed(&self) -> u32 {
        self.counter(self.consumer)
    }

    fn counter(&self, at: usize) -> u32 {
        // SAFETY: within the memory, aligned, and changed by atomic operations alone.
        unsafe { AtomicU32::from_ptr(self.memory.byte_add(at).cast().as_ptr()) }.load(Acquire)
    }

    /// The addresses of the buffers that lie in it.
    fn lie(&self) -> Vec<u64> {
        let (produced, consumed) = (self.produced(), self.consumed());
        let count = produced.wrapping_sub(consumed);
        if count > self.count {
            return Vec::new();
        }
        let address = |number: u32| {
            let place = consumed.wrapping_add(number) & (self.count - 1);
            // SAFETY: within the memory, aligned; whoever has put it in has done so before it counted it.
            let address: u64 =
                unsafe { self.memory.byte_add(self.entries + place as usize * self.entry).cast().read_volatile() };
            address & BEGIN
        };
        (0..count).map(address).collect()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped for this value alone.
        unsafe { libc::munmap(self.memory.as_ptr(), self.len) };
    }
}

/// The descriptors that have come since, of the kinds that the driver makes: AF_XDP sockets, and programs and maps of the kernel's virtual machine.
fn of_driver(before: &Descriptors) -> Vec<Descriptor> {
    before.more().filter(|descriptor| descriptor.is_bpf() || is_socket(descriptor)).collect()
}

fn is_socket(descriptor: &Descriptor) -> bool {
    descriptor.family() == Some(libc::AF_XDP)
}

fn offsets(socket: RawFd) -> Option<libc::xdp_mmap_offsets> {
    // SAFETY: numbers alone.
    unsafe { option(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS) }
}

/// How long the mapping of a file is that begins at a place in it, as /proc/self/maps has it.
fn mapped(maps: &str, file: &str, place: u64) -> Option<usize> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let [range, _, offset, _, _, path] = std::array::from_fn(|_| fields.next());
        let offset = u64::from_str_radix(offset?, 16).ok()?;
        let (begin, end) = range?.split_once('-')?;
        let [begin, end] = [begin, end].map(|address| usize::from_str_radix(address, 16).ok());
        (path? == file && offset == place).then(|| end?.checked_sub(begin?)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: xdp_ring_offset = xdp_ring_offset { producer: 0, consumer: 64, desc: 320, flags: 128 };

    /// A ring of 256 entries in plain memory.
    fn ring(entry: usize, produced: u32, consumed: u32) -> Ring {
        let len = (320 + 256 * entry).next_multiple_of(4_096);
        // SAFETY: new memory.
        let memory = unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0)
        };
        let memory = NonNull::new(memory).unwrap();
        // SAFETY: within the memory, which nothing else has.
        unsafe {
            memory.byte_add(0).cast().write(produced);
            memory.byte_add(64).cast().write(consumed);
            (0..256).for_each(|number| memory.byte_add(320 + number * entry).cast().write(1_000 + number as u64));
        }
        Ring::in_memory(memory, len, &OFFSETS, entry).unwrap()
    }

    #[test]
    fn what_lies_between_the_two_counters_of_a_ring_is_found() {
        for entry in [ADDRESS, DESCRIPTION] {
            assert!(ring(entry, 0, 0).lie().is_empty());
            assert_eq!(ring(entry, 258, 255).lie(), [1_255, 1_000, 1_001]);
            assert_eq!(ring(entry, 1, u32::MAX).lie(), [1_255, 1_000], "past 2^32");
            assert_eq!(ring(entry, 300, 44).lie().len(), 256, "a full one");
        }
        assert!(ring(DESCRIPTION, 2_000, 0).lie().is_empty(), "that cannot be");
    }

    #[test]
    fn the_length_of_a_mapping_is_the_kernel_s() {
        const MAPS: &str = "\
            7f8e55e6b000-7f8e55e70000 rw-s 80000000 00:09 2933651                    socket:[2933651]\n\
            7f8e55e75000-7f8e55e7e000 rw-s 100000000 00:09 2933651                   socket:[2933651]\n\
            7f8e55e7e000-7f8e55e7f000 rw-p 00000000 00:00 0\n\
            7f8e55e90000-7f8e55e95000 rw-s 80000000 00:09 2933652                    socket:[2933652]\n";
        let of = |file, place| mapped(MAPS, file, place);
        assert_eq!((of("socket:[2933651]", 0x8000_0000), of("socket:[2933651]", 0)), (Some(0x5000), None));
        assert_eq!((of("socket:[2933651]", 0x1_0000_0000), of("socket:[1]", 0)), (Some(0x9000), None));
    }

    #[test]
    fn files_of_other_kinds_are_not_the_driver_s() {
        let before = Descriptors::now();
        let _file = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let since = opened_since(&before);
        assert!(since.descriptors.is_empty() && since.sockets.is_empty(), "{since:?}");
    }
}
