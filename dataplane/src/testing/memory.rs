//! A queue pair that is two lists.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::packet::{BURST, Burst, FrameSource, Packet, PacketIo};

/// A frame in plain memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPacket {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the NIC would say of its checksum.
    pub bad_ip_checksum: bool,
}

impl From<Vec<u8>> for MemoryPacket {
    fn from(bytes: Vec<u8>) -> Self {
        MemoryPacket { bytes, bad_ip_checksum: false }
    }
}

impl Packet for MemoryPacket {
    fn data(&self) -> &[u8] {
        &self.bytes
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn wire_len(&self) -> usize {
        self.bytes.len()
    }

    fn bad_ip_checksum(&self) -> bool {
        self.bad_ip_checksum
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

/// What a [`MemoryIo`] still has to receive, and what it has sent.
#[derive(Debug)]
pub struct Wire {
    /// To be received.
    pub rx: VecDeque<MemoryPacket>,
    /// Sent.
    pub tx: Vec<MemoryPacket>,
    /// How many more may be sent before the queue is full.
    pub tx_room: usize,
}

/// A queue pair whose other end the test holds.
#[derive(Debug, Clone)]
pub struct MemoryIo(pub Rc<RefCell<Wire>>);

impl Default for MemoryIo {
    fn default() -> Self {
        MemoryIo(Rc::new(RefCell::new(Wire { rx: VecDeque::new(), tx: Vec::new(), tx_room: usize::MAX })))
    }
}

impl PacketIo for MemoryIo {
    type Packet = MemoryPacket;

    fn rx_burst(&mut self, burst: &mut Burst<MemoryPacket>) {
        let mut wire = self.0.borrow_mut();
        let count = wire.rx.len().min(BURST);
        burst.extend(wire.rx.drain(..count));
    }

    fn tx_burst(&mut self, burst: &mut Burst<MemoryPacket>) {
        let mut wire = self.0.borrow_mut();
        let count = burst.len().min(wire.tx_room);
        wire.tx_room -= count;
        wire.tx.extend(burst.drain(..count));
    }
}
