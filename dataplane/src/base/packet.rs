//! What the fast path needs of a packet and of a queue: implemented by DPDK's mbufs and queues
//! ([`crate::dpdk`]) and by plain memory ([`crate::testing`]), resolved at compile time.

use arrayvec::ArrayVec;

/// Frames that are received, worked on and sent together.
pub const BURST: usize = 32;

/// A burst: at most [`BURST`] packets, owned.
pub type Burst<P> = ArrayVec<P, BURST>;

/// A received frame, from its Ethernet header on. Dropping it gives its buffer back.
pub trait Packet {
    /// The frame's bytes as far as they lie in the first segment; all headers must.
    fn data(&self) -> &[u8];

    /// The same for writing.
    fn data_mut(&mut self) -> &mut [u8];

    /// The frame's length on the wire, all segments.
    fn wire_len(&self) -> usize;

    /// Whether the frame is all there is: its IPv4 checksum was not found wrong, and no tags were taken out. May be `false`
    /// though it is so: then it takes longer to find out.
    fn is_plain(&self) -> bool {
        !self.bad_ip_checksum() && !self.has_stripped_tags()
    }

    /// Whether the NIC has found the IPv4 header checksum wrong.
    fn bad_ip_checksum(&self) -> bool;

    /// Whether the device has taken VLAN tags out of the frame.
    fn has_stripped_tags(&self) -> bool;

    /// The tag control information of the tags that the device has taken out, the outer one first.
    fn stripped_tags(&self) -> [Option<u16>; 2];

    /// Forgets these: they have been put back, or replaced.
    fn forget_stripped_tags(&mut self);

    /// Makes room for so many bytes before the first; their content is arbitrary. Says whether there was room.
    fn grow_front(&mut self, bytes: usize) -> bool;

    /// Takes so many bytes off the front; the first segment must have them.
    fn shrink_front(&mut self, bytes: usize);

    /// Asks the CPU to fetch what a worker touches first.
    fn prefetch(&self);
}

/// A receive and transmit queue pair of one port.
pub trait PacketIo {
    /// What comes out of it and goes into it.
    type Packet: Packet;

    /// Fills what room `burst` has with what has arrived.
    fn rx_burst(&mut self, burst: &mut Burst<Self::Packet>);

    /// Sends from the front of `burst`; what the queue has no room for stays in it.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Packet>);
}

/// Where the slow path gets memory for the frames that it makes.
pub trait FrameSource {
    /// What it makes.
    type Packet: Packet;

    /// A packet with these bytes; `None` where there is no memory or the frame is too long.
    fn packet(&self, frame: &[u8]) -> Option<Self::Packet>;
}
