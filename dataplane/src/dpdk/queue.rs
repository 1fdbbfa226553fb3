//! A worker's end of a port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use dpdk_sys::rte_mbuf;

use crate::base::packet::{Burst, Packet, PacketIo};
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::open_port::OpenPort;

/// Whether a frame may lie in several buffers, or be longer than a buffer of another pool: some port of this process may receive such. Set
/// before that port's first burst, and never taken back, since its frames may be anywhere.
static UNUSUAL: AtomicBool = AtomicBool::new(false);

/// A receive and a transmit queue of one port. There is one value for each pair, and it is neither `Clone` nor
/// `Sync`: two threads cannot poll one queue. It is `Send`: it may be given to the thread that is to poll it. The port stays open
/// while it is held.
///
/// Any [`Mbuf`] may be sent, of whichever pool and port. Frames that the device does not take, in several buffers or too long, stay in
/// the burst, as those do for which there is no room.
#[derive(Debug)]
pub struct QueuePair {
    port: Arc<OpenPort>,
    queue: u16,
    takes: Takes,
    /// Makes the type not `Sync`.
    _one_thread: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// Which frames a device takes to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takes {
    /// Also those that lie in several buffers.
    pub(super) segments: bool,
    /// Only those of so many bytes: it copies what is in another pool's buffers to one of its own, and does not look whether it fits.
    pub(super) longest: Option<u16>,
}

impl Takes {
    #[inline(always)]
    fn all(self) -> bool {
        self.segments && self.longest.is_none()
    }

    fn takes(self, mbuf: &Mbuf) -> bool {
        let fits = self.longest.is_none_or(|longest| mbuf.wire_len() <= usize::from(longest));
        fits && (self.segments || !mbuf.has_segments())
    }
}

impl QueuePair {
    /// The pair of this number. There must be no other value for it.
    pub(super) fn new(port: Arc<OpenPort>, queue: u16, takes: Takes) -> Self {
        QueuePair { port, queue, takes, _one_thread: std::marker::PhantomData }
    }

    /// To be called before a port is started that may receive frames into several buffers, or frames longer than the buffers of an
    /// AF_XDP port.
    pub(super) fn expect_unusual() {
        UNUSUAL.store(true, Relaxed);
    }

    /// The bytes of a frame that one of the port's buffers takes.
    pub(super) fn room(&self) -> u16 {
        self.port.room()
    }

    /// DPDK's number of the port.
    pub(super) fn port_number(&self) -> u16 {
        self.port.number()
    }

    /// Its own number.
    pub(super) fn number(&self) -> u16 {
        self.queue
    }
}

impl PacketIo for QueuePair {
    type Packet = Mbuf;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Burst<Mbuf>) {
        let filled = burst.len();
        let room = burst.remaining_capacity();
        let wanted = u16::try_from(room).expect("a burst is small");
        // SAFETY: the queue is set up and started while the port is held, and only this thread polls it. There are
        // `room` entries behind the filled ones, each the size of a pointer.
        let received = unsafe {
            let free = burst.as_mut_ptr().add(filled).cast::<*mut rte_mbuf>();
            dpdk_sys::shunt_rx_burst(self.port.number(), self.queue, free, wanted)
        };
        let received = usize::from(received).min(room);
        // SAFETY: the driver has written `received` pointers to mbufs that are now ours.
        unsafe { burst.set_len(filled + received) };
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) {
        if !self.takes.all() && UNUSUAL.load(Relaxed) && !burst.iter().all(|mbuf| self.takes.takes(mbuf)) {
            return self.send_taken(burst);
        }
        self.send(burst);
    }
}

impl QueuePair {
    /// Sends the frames that the device takes; the others stay.
    #[cold]
    fn send_taken(&mut self, burst: &mut Burst<Mbuf>) {
        let takes = self.takes;
        let (mut taken, others): (Burst<Mbuf>, Burst<Mbuf>) = burst.drain(..).partition(|mbuf| takes.takes(mbuf));
        self.send(&mut taken);
        burst.extend(taken.into_iter().chain(others));
    }

    #[inline(always)]
    fn send(&mut self, burst: &mut Burst<Mbuf>) {
        let queued = burst.len();
        let count = u16::try_from(queued).expect("a burst is small");
        // SAFETY: as in `rx_burst`; the pointers are to mbufs that we own, and the device takes them: they are of one buffer, or it
        // takes several, and fit where it copies them to; and where it was promised one pool, there is one. The driver owns those
        // that it reports as sent.
        unsafe {
            let mbufs = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
            let sent = usize::from(dpdk_sys::shunt_tx_burst(self.port.number(), self.queue, mbufs, count)).min(queued);
            // Of no length while it is rearranged; then the unsent ones, moved to the front, are ours again.
            burst.set_len(0);
            if sent < queued {
                std::ptr::copy(mbufs.add(sent), mbufs, queued - sent);
                burst.set_len(queued - sent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::{Device, Eal, EalOptions, Memory, Mempool, Port, PortSettings, ROOM};

    const LONG: u32 = 3_000;

    /// A capture with a frame of each length, in the pcap format: magic number, version 2.4, time zone, accuracy, longest frame,
    /// Ethernet; then each frame with its time and its length, captured and sent.
    fn capture(lengths: &[u32]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let frame = |&length: &u32| [words(&[0, 0, length, length]), vec![2; length as usize]].concat();
        [words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1]), lengths.iter().flat_map(frame).collect()].concat()
    }

    /// The only test of the crate's own that starts DPDK, which a process can do once; see tests/dpdk.rs.
    #[test]
    fn frames_stay_that_the_device_does_not_take() {
        let options = EalOptions {
            main_lcore: 0,
            memory: Memory::Plain { mib: 64 },
            file_prefix: format!("shunt-queue-{}", std::process::id()),
            pci: Vec::new(),
            extra: Vec::new(),
        };
        let eal = Eal::init(&options).unwrap();
        let _ = std::fs::remove_dir(eal.runtime_folder());
        let pool = Mempool::create(&eal, "queue", 4_095, ROOM, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (source, sink) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
        let lengths = [60, LONG, 61, LONG, 62];
        std::fs::write(&source, capture(&lengths)).unwrap();
        let open = |arguments: String| {
            let device = Device::Vdev(arguments);
            let settings = PortSettings { index: 0, device, queues: 1, vlan_strip: false, mtu: None };
            Port::open(&eal, &pool, &settings).unwrap().1.remove(0)
        };
        let wire_lengths = |burst: &Burst<Mbuf>| burst.iter().map(Packet::wire_len).collect::<Vec<usize>>();

        let mut from = open(format!("net_pcap0,rx_pcap={},tx_pcap={}", source.display(), sink.display()));
        let mut burst = Burst::new();
        from.rx_burst(&mut burst);
        assert_eq!(wire_lengths(&burst), lengths.map(|length| length as usize));
        assert_eq!(burst.iter().map(Mbuf::has_segments).collect::<Vec<_>>(), [false, true, false, true, false]);

        // What is sent to a ring is received from it.
        let mut to = open("net_ring0".into());
        assert!(to.takes.all());
        to.takes.segments = false;
        to.tx_burst(&mut burst);
        assert_eq!(wire_lengths(&burst), [LONG as usize; 2]);
        let mut sent = Burst::new();
        to.rx_burst(&mut sent);
        assert_eq!(wire_lengths(&sent), [60, 61, 62]);

        to.takes = Takes { segments: true, longest: Some(61) };
        burst.extend(sent.drain(..));
        to.tx_burst(&mut burst);
        assert_eq!(wire_lengths(&burst), [LONG as usize, LONG as usize, 62]);
        to.rx_burst(&mut sent);
        assert_eq!(wire_lengths(&sent), [60, 61]);

        to.takes.longest = None;
        to.tx_burst(&mut burst);
        to.rx_burst(&mut sent);
        assert_eq!((burst.len(), sent.len()), (0, 5));
        drop((burst, sent));
        assert_eq!(pool.in_use(), 0);
    }
}
