//! Packets and queue pairs in plain memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::packet::{BURST, Burst, FrameSource, Packet, PacketIo};

/// A frame in plain memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPacket {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether the NIC has found its checksum wrong.
    pub bad_ip_checksum: bool,
    /// The tags that the NIC has stripped.
    pub stripped: [Option<u16>; 2],
    /// The bytes of room before the first byte.
    pub headroom: usize,
    /// The length of its first segment, if it has several.
    pub first_segment: Option<usize>,
}

impl MemoryPacket {
    /// A frame whose first segment has `first` bytes.
    pub fn segmented(bytes: Vec<u8>, first: usize) -> Self {
        MemoryPacket { first_segment: Some(first.min(bytes.len())), ..bytes.into() }
    }
}

impl From<Vec<u8>> for MemoryPacket {
    fn from(bytes: Vec<u8>) -> Self {
        MemoryPacket { bytes, bad_ip_checksum: false, stripped: [None; 2], headroom: 128, first_segment: None }
    }
}

impl Packet for MemoryPacket {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.first_segment.unwrap_or(self.bytes.len())]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        let first = self.first_segment.unwrap_or(self.bytes.len());
        &mut self.bytes[..first]
    }

    fn wire_len(&self) -> usize {
        self.bytes.len()
    }

    fn bad_ip_checksum(&self) -> bool {
        self.bad_ip_checksum
    }

    fn has_stripped_tags(&self) -> bool {
        self.stripped != [None; 2]
    }

    fn stripped_tags(&self) -> [Option<u16>; 2] {
        self.stripped
    }

    fn forget_stripped_tags(&mut self) {
        self.stripped = [None; 2];
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        let Some(left) = self.headroom.checked_sub(bytes) else { return false };
        self.headroom = left;
        self.bytes.splice(0..0, vec![0xee; bytes]);
        self.first_segment = self.first_segment.map(|first| first + bytes);
        true
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        self.headroom += bytes;
        self.first_segment = self.first_segment.map(|first| first - bytes);
    }

    fn prefetch(&self) {}
}

/// Makes packets from the heap.
#[derive(Debug, Default)]
pub struct MemorySource;

impl FrameSource for MemorySource {
    type Packet = MemoryPacket;

    fn packet(&self, frame: &[u8]) -> Option<MemoryPacket> {
        Some(frame.to_vec().into())
    }
}

/// The two lists of a [`ListIo`]: frames to receive, and frames that it has sent.
#[derive(Debug)]
pub struct Wire<P> {
    /// Frames that will be received.
    pub rx: VecDeque<P>,
    /// Frames that were sent.
    pub tx: Vec<P>,
    /// The number of frames that may still be sent before the queue is full.
    pub tx_room: usize,
}

/// A queue pair of two lists, whose other end the test holds.
#[derive(Debug)]
pub struct ListIo<P>(pub Rc<RefCell<Wire<P>>>);

/// A queue pair of frames in plain memory.
pub type MemoryIo = ListIo<MemoryPacket>;

impl<P> Default for ListIo<P> {
    fn default() -> Self {
        ListIo(Rc::new(RefCell::new(Wire { rx: VecDeque::new(), tx: Vec::new(), tx_room: usize::MAX })))
    }
}

impl<P> Clone for ListIo<P> {
    fn clone(&self) -> Self {
        ListIo(self.0.clone())
    }
}

impl<P: Packet> PacketIo for ListIo<P> {
    type Packet = P;

    fn rx_burst(&mut self, burst: &mut Burst<P>) {
        let mut wire = self.0.borrow_mut();
        let count = wire.rx.len().min(BURST);
        burst.extend(wire.rx.drain(..count));
    }

    fn tx_burst(&mut self, burst: &mut Burst<P>) {
        let mut wire = self.0.borrow_mut();
        let count = burst.len().min(wire.tx_room);
        wire.tx_room -= count;
        wire.tx.extend(burst.drain(..count));
    }
}
