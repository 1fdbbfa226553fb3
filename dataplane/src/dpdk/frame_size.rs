//! What frames need besides their L3 packet, in buffers and in rings.

use dpdk_sys::{RTE_PKTMBUF_HEADROOM, rte_mbuf};

/// What a frame has besides its L3 packet: Ethernet header, two VLAN tags, checksum.
pub(super) const FRAME_OVERHEAD: usize = 14 + 8 + 4;
/// A page of memory.
pub(super) const PAGE: usize = 4_096;
/// What a mempool has before each object: `struct rte_mempool_objhdr`, to a whole cache line.
pub(super) const OBJECT_HEADER: usize = 64;
/// The largest frame that AF_XDP takes, in bytes without checksum. The driver has a page for it, of which the object's header, the mbuf and
/// its headroom are not the frame's, and the kernel keeps some more for XDP programs (`XDP_PACKET_HEADROOM`).
const XDP_FRAME: usize = PAGE - OBJECT_HEADER - size_of::<rte_mbuf>() - RTE_PKTMBUF_HEADROOM as usize - 256;
/// The largest MTU that AF_XDP takes, with Ethernet header and two VLAN tags.
#[expect(clippy::cast_possible_truncation, reason = "less than a page")]
pub(super) const XDP_MTU: u16 = (XDP_FRAME - 14 - 8) as u16;

/// What AF_PACKET's ring has before a frame. It is 66 bytes (`TPACKET2_HDRLEN`, rounded up twice, less the Ethernet header), and a received
/// frame lacks the checksum.
const RING_HEADER: usize = 64;
/// What its driver takes it for, at least (`struct tpacket2_hdr`).
const RING_LEAST_HEADER: usize = 32;

/// A frame's place in AF_PACKET's ring, where it is larger than the usual 2 KiB, and the frames of a block. DPDK's driver takes the ring for
/// one row of frames, the kernel for blocks of whole pages: so the frames of a block make whole pages.
fn ring_frame(mtu: u16) -> Option<(usize, usize)> {
    let frame = usize::from(mtu) + FRAME_OVERHEAD + RING_HEADER;
    match frame {
        ..=2_048 => None,
        2_049..=4_096 => Some((frame.next_multiple_of(128), 32)),
        _ => Some((frame.next_multiple_of(1_024), 4)),
    }
}

/// AF_PACKET's ring for frames larger than its usual 2 KiB.
pub(super) fn ring(mtu: Option<u16>) -> String {
    let Some((frame, to_a_block)) = mtu.and_then(ring_frame) else { return String::new() };
    format!(",framesz={frame},blocksz={}", frame * to_a_block)
}

/// The largest MTU whose frames fit a ring that was made for this one.
pub(super) fn most_in_ring(mtu: u16) -> u16 {
    let frame = ring_frame(mtu).map_or(2_048, |(frame, _)| frame);
    u16::try_from(frame - FRAME_OVERHEAD - RING_HEADER).unwrap_or(u16::MAX)
}

/// The packet buffer that such a frame needs, in one piece: the driver copies it whole, and asks for as much as the ring lets it be. Frames of
/// the usual ring fit any buffer.
pub(super) fn ring_room(mtu: u16) -> usize {
    ring_frame(mtu).map_or(0, |(frame, _)| frame - RING_LEAST_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MTUS;

    #[test]
    fn rings_have_blocks_of_whole_pages_and_room_for_each_frame() {
        for mtu in MTUS {
            let Some((frame, to_a_block)) = ring_frame(mtu) else { continue };
            assert_eq!((frame * to_a_block % PAGE, frame % 16), (0, 0), "{mtu}");
            assert!(frame - 66 >= usize::from(mtu) + FRAME_OVERHEAD - 4, "{mtu}");
            assert!(ring_room(mtu) >= frame - 66, "{mtu}");
        }
        assert_eq!(ring(Some(1_500)) + &ring(None), "");
        assert_eq!(ring(Some(3_498)), ",framesz=3712,blocksz=118784");
        assert_eq!(ring(Some(9_000)), ",framesz=9216,blocksz=36864");
    }
}
