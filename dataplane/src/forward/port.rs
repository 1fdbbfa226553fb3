//! A worker's share of a port: its queue pair, and the frames that are to be sent.

use crate::base::exit::DropReason;
use crate::base::packet::{Burst, Packet, PacketIo};
use crate::count::counters::PortCounters;
use crate::forward::lending::Borrower;
use crate::state::networks::PortLink;
use crate::wire::ethernet::MacNumber;

/// A worker's share of a port.
pub struct WorkerPort<Io: PacketIo> {
    /// `None` while its device is away.
    io: Option<Io>,
    borrower: Option<Borrower<Io>>,
    pub(super) mac: MacNumber,
    /// Whether its link is up.
    pub(super) up: bool,
    /// The frames that are sent at the end of the burst.
    tx: Burst<Io::Packet>,
    /// The bytes of these frames.
    tx_bytes: u64,
    /// Whether these frames are the slow path's, and not forwarded ones.
    pub(super) of_slow_path: bool,
    /// When a frame's checksum was last looked at, in ms.
    pub(super) looked_ms: u64,
}

impl<Io: PacketIo> WorkerPort<Io> {
    /// With a queue pair of the port. Its MAC address and its link are the snapshot's.
    pub fn new(io: Io) -> Self {
        WorkerPort {
            io: Some(io),
            borrower: None,
            mac: MacNumber::NONE,
            up: false,
            tx: Burst::new(),
            tx_bytes: 0,
            of_slow_path: false,
            looked_ms: u64::MAX,
        }
    }

    /// Has it ask for another queue pair, as its device goes and comes.
    #[must_use]
    pub fn borrowing(self, borrower: Borrower<Io>) -> Self {
        WorkerPort { borrower: Some(borrower), ..self }
    }

    /// Takes what is new of the port. No frames are queued at that time.
    pub(super) fn follow(&mut self, link: PortLink) {
        self.mac = link.mac.into();
        self.up = link.up;
        if let Some(borrower) = &mut self.borrower {
            borrower.exchange(&mut self.io);
        }
    }

    /// Adds frames that have arrived to the burst.
    #[inline(always)]
    pub(super) fn receive(&mut self, burst: &mut Burst<Io::Packet>) {
        if let Some(io) = &mut self.io {
            io.rx_burst(burst);
        }
    }

    /// Queues a frame of this many bytes. If there is no room, the queued frames are sent first.
    #[inline(always)]
    pub(super) fn send(&mut self, packet: Io::Packet, bytes: u64, counters: &PortCounters) {
        if self.tx.is_full() {
            self.flush(counters);
        }
        self.tx.push(packet);
        self.tx_bytes += bytes;
    }

    /// Sends the queued frames.
    #[inline]
    pub(super) fn flush(&mut self, counters: &PortCounters) {
        if !self.tx.is_empty() {
            let bytes = std::mem::take(&mut self.tx_bytes);
            let sent = transmit(&mut self.io, &mut self.tx, bytes, counters);
            if !self.of_slow_path {
                counters.forwarded.add(sent);
            }
        }
    }

    /// Sends the queued frames, then a burst of forwarded frames that has this many bytes.
    #[inline]
    pub(super) fn send_all(&mut self, burst: &mut Burst<Io::Packet>, bytes: u64, counters: &PortCounters) {
        self.flush(counters);
        counters.forwarded.add(transmit(&mut self.io, burst, bytes, counters));
    }
}

/// Sends a burst that has this many bytes. Frames for which the device has no room, or that have no device, are freed and counted. Returns
/// the number of frames sent.
#[inline]
fn transmit<Io: PacketIo>(
    io: &mut Option<Io>,
    burst: &mut Burst<Io::Packet>,
    bytes: u64,
    counters: &PortCounters,
) -> u64 {
    let queued = burst.len();
    let unsent = match io {
        Some(io) => {
            io.tx_burst(burst);
            DropReason::TxFull
        }
        None => DropReason::LinkDown,
    };
    let sent = (queued - burst.len()) as u64;
    counters.tx_packets.add(sent);
    counters.tx_bytes.add(bytes);
    if !burst.is_empty() {
        drop_unsent(burst, unsent, counters);
    }
    sent
}

#[cold]
fn drop_unsent<P: Packet>(burst: &mut Burst<P>, reason: DropReason, counters: &PortCounters) {
    counters.tx_bytes.sub(burst.iter().map(|packet| packet.wire_len() as u64).sum());
    counters.drops[reason.index()].add(burst.len() as u64);
    burst.clear();
}
