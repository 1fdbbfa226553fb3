//! What frames need besides their L3 packet, in buffers and in rings.

/// What a frame has besides its L3 packet: Ethernet header, two VLAN tags, checksum.
pub(super) const FRAME_OVERHEAD: usize = 14 + 8 + 4;
/// The largest MTU that AF_XDP and its buffers of 2 KiB take.
pub(super) const XDP_MTU: u16 = 2_048 - 14 - 8;
/// What AF_PACKET's ring has before a frame (`TPACKET2_HDRLEN`), and some room.
pub(super) const RING_HEADER: usize = 64;
/// DPDK's driver takes the ring for one row of frames, the kernel for blocks of whole pages: four frames of so many times
/// this make a block.
pub(super) const RING_UNIT: usize = 1_024;
/// AF_PACKET's ring for frames larger than its usual 2 KiB.
pub(super) fn ring(mtu: Option<u16>) -> String {
    match mtu.map(|mtu| usize::from(mtu) + FRAME_OVERHEAD + RING_HEADER) {
        Some(frame) if frame > 2_048 => {
            let frame = frame.next_multiple_of(RING_UNIT);
            format!(",framesz={frame},blocksz={}", frame * 4)
        }
        _ => String::new(),
    }
}
