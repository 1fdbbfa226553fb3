//! How packet buffers lie in memory.

use dpdk_sys::{RTE_PKTMBUF_HEADROOM, rte_mbuf};

use crate::dpdk::frame_size::{OBJECT_HEADER, PAGE};

/// The data room of an mbuf where nothing needs more: what NICs' receive descriptors like best.
pub const ROOM: u16 = 2_048;

/// The most data room: with the headroom before it, a buffer's length has 16 bits.
pub const MOST_ROOM: u16 = u16::MAX - HEADROOM;

#[expect(clippy::cast_possible_truncation, reason = "looked at")]
pub(super) const HEADROOM: u16 = {
    assert!(RTE_PKTMBUF_HEADROOM < 1_024, "a build option of DPDK's, 128 unless changed");
    RTE_PKTMBUF_HEADROOM as u16
};

/// The data room of a buffer that is a page with all that belongs to it.
#[expect(clippy::cast_possible_truncation, reason = "less than a page")]
const PAGE_ROOM: u16 = (PAGE - OBJECT_HEADER - size_of::<rte_mbuf>()) as u16 - HEADROOM;

/// A pool's rings have a place of 8 bytes for each buffer, and are a power of two.
const RINGS: usize = 32;

/// How the buffers of a pool lie in memory, and how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As DPDK spreads them over the memory's channels, with this data room. Right for all but AF_XDP.
    Spread(u16),
    /// A page of 4 KiB each, back to back: what AF_XDP sockets can use all of (see `umem.rs`).
    Pages,
}

impl From<u16> for Layout {
    /// With a data room of so many bytes, at most [`MOST_ROOM`].
    fn from(room: u16) -> Self {
        Layout::Spread(room.min(MOST_ROOM))
    }
}

impl Layout {
    /// The bytes of a frame that one buffer takes.
    pub const fn room(self) -> u16 {
        match self {
            Layout::Spread(room) => room,
            Layout::Pages => PAGE_ROOM,
        }
    }

    /// About what so many buffers need, in bytes.
    pub fn bytes(self, mbufs: u32) -> usize {
        mbufs as usize * (self.buffer() + RINGS)
    }

    /// The same in plain pages of 4 KiB, where DPDK lets a buffer cross into a second page only if it fits none.
    pub fn plain_bytes(self, mbufs: u32) -> usize {
        let (mbufs, buffer) = (mbufs as usize, self.buffer());
        let pages = match PAGE / buffer {
            0 => mbufs * buffer.next_multiple_of(PAGE),
            to_a_page => mbufs.div_ceil(to_a_page) * PAGE,
        };
        pages + mbufs * RINGS
    }

    /// About what a buffer needs by itself.
    fn buffer(self) -> usize {
        match self {
            // Headroom, the mbuf structure and the object's header: 128 + 128 + 64.
            Layout::Spread(room) => usize::from(room) + 320,
            Layout::Pages => PAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MTUS;
    use crate::dpdk::frame_size::{XDP_MTU, ring_room};

    #[test]
    fn in_plain_pages_each_buffer_has_pages_of_its_own() {
        let mib = |layout: Layout| (layout.plain_bytes(131_072) - 131_072 * RINGS) >> 20;
        assert_eq!(mib(Layout::Spread(2_048)), 512, "one to a page of 4 KiB");
        assert_eq!(mib(Layout::Spread(1_536)), 256, "two");
        assert_eq!(mib(Layout::Spread(9_216)), 1_536, "three pages each");
        assert_eq!(mib(Layout::Pages), 512, "just one");
    }

    #[test]
    fn a_page_has_all_that_belongs_to_a_buffer() {
        assert_eq!(usize::from(Layout::Pages.room()), 4_096 - 64 - 128 - 128);
        assert_eq!(Layout::Pages.bytes(1_000), 1_000 * (4_096 + 32));
        assert_eq!(Layout::from(u16::MAX).room(), MOST_ROOM);
    }

    #[test]
    fn a_page_takes_the_largest_frame_of_af_xdp_and_where_that_is_not_to_be_had_of_af_packet() {
        assert_eq!(XDP_MTU, 4_096 - 64 - 128 - 128 - 256 - 14 - 8);
        for mtu in *MTUS.start()..=XDP_MTU {
            assert!(ring_room(mtu) <= usize::from(PAGE_ROOM), "{mtu}");
        }
    }
}
