//! The traits of packets and queues that the fast path works with. DPDK's mbufs and queues ([`crate::dpdk`]) implement
//! them, and so does plain memory ([`crate::testing`]). They are resolved at compile time.

use arrayvec::ArrayVec;

/// The most frames that are received, processed and sent together.
pub const BURST: usize = 32;

/// A burst: at most [`BURST`] packets, owned.
pub type Burst<P> = ArrayVec<P, BURST>;

/// A received frame, from its Ethernet header on. Dropping it gives its buffer back.
pub trait Packet {
    /// The bytes of the frame's first segment, which must contain all headers.
    fn data(&self) -> &[u8];

    /// The same for writing.
    fn data_mut(&mut self) -> &mut [u8];

    /// The frame's length on the wire, all segments.
    fn wire_len(&self) -> usize;

    /// Whether the NIC found no wrong IPv4 checksum and stripped no tags. `false` is always safe: then the packet only
    /// takes the slower way.
    fn is_plain(&self) -> bool {
        !self.bad_ip_checksum() && !self.has_stripped_tags()
    }

    /// Whether the NIC has found the IPv4 header checksum wrong.
    fn bad_ip_checksum(&self) -> bool;

    /// Whether the device has stripped VLAN tags from the frame.
    fn has_stripped_tags(&self) -> bool;

    /// The tag control information of the tags that the device has stripped, the outer one first.
    fn stripped_tags(&self) -> [Option<u16>; 2];

    /// Forgets the stripped tags, because they have been put back or replaced.
    fn forget_stripped_tags(&mut self);

    /// Adds this many bytes before the first byte; their content is arbitrary. Returns whether there was headroom.
    fn grow_front(&mut self, bytes: usize) -> bool;

    /// Removes this many bytes from the front; the first segment must have them.
    fn shrink_front(&mut self, bytes: usize);

    /// Asks the CPU to fetch the memory that a worker touches first.
    fn prefetch(&self);
}

/// A receive and transmit queue pair of one port.
pub trait PacketIo {
    /// The packets that it receives and sends.
    type Packet: Packet;

    /// Adds packets that have arrived to `burst`, as many as it has room for.
    fn rx_burst(&mut self, burst: &mut Burst<Self::Packet>);

    /// Sends from the front of `burst`. Packets for which the queue has no room stay in it.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Packet>);
}

/// Provides the slow path with memory for the frames that it builds.
pub trait FrameSource {
    /// The packets that it makes.
    type Packet: Packet;

    /// A packet with these bytes. `None` if there is no memory, or if the frame is too long.
    fn packet(&self, frame: &[u8]) -> Option<Self::Packet>;
}
