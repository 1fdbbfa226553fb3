//! VLAN tags: IEEE 802.1Q, and two of them on top of each other (802.1ad, "QinQ").
//!
//! Reads the [`Tags`] of a received frame, which may be in the frame or stripped by the device. Writes the tags of the
//! network that the frame leaves by. Tags with VLAN id 0 carry a priority only (802.1Q §6.9.1) and count as no tag. The
//! priority of the received frame stays that of the sent one. Some equipment uses EtherType 0x8100 for the outer of two
//! tags, too: both types are accepted. Frames without tags to networks without tags never come here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayVec;

use crate::base::ethertype::{ETHERTYPE_QINQ, ETHERTYPE_VLAN};
use crate::base::exit::DropReason;
use crate::base::limits::VLAN_IDS;
use crate::base::packet::Packet;

/// The offset of the tags: behind the two MAC addresses.
const OFFSET: usize = 12;
/// Length of a tag: EtherType and tag control information.
const TAG: usize = 4;
/// The bits of the tag control information that hold the VLAN id.
const ID: u16 = 0x0fff;
/// The most tags of a frame that are read. None of our networks has more.
const MOST: usize = 4;

/// The tags that mark a network's frames on a port: none, one or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tags {
    /// The VLAN id of the outer tag; 0: there is no tag.
    outer: u16,
    /// The VLAN id of the inner tag; 0: there is no second tag.
    inner: u16,
}

/// Text that names no VLAN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no VLAN: use {first} to {last}, or two of them for QinQ, the outer one first (\"200.30\")",
    first = VLAN_IDS.start(),
    last = VLAN_IDS.end()
)]
pub struct NoVlan(String);

impl Tags {
    /// A network without tags.
    pub const NONE: Tags = Tags { outer: 0, inner: 0 };

    /// Whether there are no tags.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The VLAN ids, outer first.
    fn ids(self) -> ArrayVec<u16, 2> {
        [self.outer, self.inner].into_iter().filter(|&id| id != 0).collect()
    }

    /// The bytes of the tags in a frame, with these priorities.
    fn bytes(self, priorities: [u16; 2]) -> ArrayVec<u8, { 2 * TAG }> {
        let ids = self.ids();
        let types = if ids.len() == 2 { [ETHERTYPE_QINQ, ETHERTYPE_VLAN] } else { [ETHERTYPE_VLAN; 2] };
        let words = ids.iter().zip(types).zip(priorities).flat_map(|((id, kind), priority)| [kind, priority | id]);
        words.flat_map(u16::to_be_bytes).collect()
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids();
        f.write_str(&ids.iter().map(u16::to_string).collect::<Vec<_>>().join("."))
    }
}

impl FromStr for Tags {
    type Err = NoVlan;

    fn from_str(text: &str) -> Result<Self, NoVlan> {
        let id = |text: &str| ctl::parse_number(text).filter(|id| VLAN_IDS.contains(id)).ok_or(());
        let (outer, inner) = text.split_once('.').map_or((text, None), |(outer, inner)| (outer, Some(inner)));
        let ids = id(outer).and_then(|outer| Ok((outer, inner.map_or(Ok(0), id)?)));
        ids.map(|(outer, inner)| Tags { outer, inner }).map_err(|()| NoVlan(text.into()))
    }
}

/// The tags of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The tags that name a VLAN.
    pub tags: Tags,
    /// The bytes of tags that are in the frame.
    pub len: usize,
    /// The upper four bits of the outer and the inner tag: the priority, and the "drop eligible" bit.
    priorities: [u16; 2],
}

/// Whether a received frame has a tag, or had one that the device has stripped.
#[inline(always)]
pub fn is_tagged<P: Packet>(packet: &P) -> bool {
    packet.has_stripped_tags() || tag_at(packet.data(), OFFSET)
}

#[inline(always)]
fn tag_at(frame: &[u8], offset: usize) -> bool {
    matches!(word_at(frame, offset), Some(ETHERTYPE_QINQ | ETHERTYPE_VLAN))
}

#[inline(always)]
fn word_at(frame: &[u8], offset: usize) -> Option<u16> {
    frame.get(offset..).and_then(<[u8]>::first_chunk).copied().map(u16::from_be_bytes)
}

/// The tags of a received packet. `UnknownVlan` if it has more than two, which no network has.
pub fn read<P: Packet>(packet: &P) -> Result<Received, DropReason> {
    let stripped = packet.stripped_tags().into_iter().flatten();
    Received::new(stripped, packet.data()).map_err(|reason| match reason {
        DropReason::Runt if packet.data().len() < packet.wire_len() => DropReason::HeadersSplit,
        reason => reason,
    })
}

impl Received {
    /// From the tags that the device has stripped, outer first, and the frame without them.
    fn new(stripped: impl IntoIterator<Item = u16>, frame: &[u8]) -> Result<Received, DropReason> {
        let mut tags: ArrayVec<u16, { MOST + 2 }> = stripped.into_iter().collect();
        let mut offset = OFFSET;
        // Bound: each round adds a tag, until there are too many.
        while tag_at(frame, offset) {
            let control = word_at(frame, offset + 2).ok_or(DropReason::Runt)?;
            tags.try_push(control).map_err(|_| DropReason::UnknownVlan)?;
            offset += TAG;
        }
        let named: ArrayVec<u16, { MOST + 2 }> = tags.iter().copied().filter(|control| control & ID != 0).collect();
        let id = |control: u16| control & ID;
        let priority = |control: u16| control & !ID;
        let (outer, inner) = match named[..] {
            [] => (tags.first().map_or(0, |&control| priority(control)), None),
            [one] => (one, None),
            [outer, inner] => (outer, Some(inner)),
            _ => return Err(DropReason::UnknownVlan),
        };
        Ok(Received {
            tags: Tags { outer: id(outer), inner: inner.map_or(0, id) },
            len: offset - OFFSET,
            priorities: [outer, inner.unwrap_or(outer)].map(priority),
        })
    }
}

/// Writes a packet's new MAC addresses, and replaces its tags. The priorities stay, and nothing behind the tags
/// changes.
pub fn rewrite<P: Packet>(packet: &mut P, received: &Received, macs: &[u8; 12], tags: Tags) -> Result<(), DropReason> {
    let new = tags.bytes(received.priorities);
    if new.len() > received.len && !packet.grow_front(new.len() - received.len) {
        return Err(DropReason::NoHeadroom);
    }
    packet.shrink_front(received.len.saturating_sub(new.len()));
    packet.forget_stripped_tags();
    let header = &mut packet.data_mut()[..OFFSET + new.len()];
    header[..OFFSET].copy_from_slice(macs);
    header[OFFSET..].copy_from_slice(&new);
    Ok(())
}

/// Puts the tags that the device has stripped back, so that the frame is as it was on the wire.
pub fn restore<P: Packet>(packet: &mut P) -> Result<(), DropReason> {
    let stripped: ArrayVec<u16, 2> = packet.stripped_tags().into_iter().flatten().collect();
    let inner_stays = tag_at(packet.data(), OFFSET);
    let types = if stripped.len() == 2 || inner_stays { [ETHERTYPE_QINQ, ETHERTYPE_VLAN] } else { [ETHERTYPE_VLAN; 2] };
    let words = types.into_iter().zip(&stripped).flat_map(|(kind, &control)| [kind, control]);
    let tags: ArrayVec<u8, { 2 * TAG }> = words.flat_map(u16::to_be_bytes).collect();
    if packet.data().len() < OFFSET {
        return Err(DropReason::Runt);
    }
    if !packet.grow_front(tags.len()) {
        return Err(DropReason::NoHeadroom);
    }
    packet.forget_stripped_tags();
    let data = packet.data_mut();
    data.copy_within(tags.len()..tags.len() + OFFSET, 0);
    data[OFFSET..OFFSET + tags.len()].copy_from_slice(&tags);
    Ok(())
}

/// A frame's tags, and the frame without them. The slow path's protocols work on frames without tags.
pub fn untagged(frame: &[u8]) -> Option<(Tags, Cow<'_, [u8]>)> {
    let Received { tags, len, .. } = Received::new([], frame).ok()?;
    if len == 0 {
        return Some((tags, frame.into()));
    }
    Some((tags, [&frame[..OFFSET], &frame[OFFSET + len..]].concat().into()))
}

/// Adds the tags of a network to a frame of the slow path.
pub fn tagged(mut frame: Vec<u8>, tags: Tags) -> Vec<u8> {
    frame.splice(OFFSET..OFFSET, tags.bytes([0; 2]));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame::eth;
    use crate::testing::memory::MemoryPacket;

    fn tags(text: &str) -> Tags {
        text.parse().unwrap()
    }

    #[test]
    fn tags_are_read_as_they_are_written() {
        for text in ["1", "100", "4094", "200.30"] {
            assert_eq!(tags(text).to_string(), text);
        }
        for text in ["", "0", "4095", "x", "+1", "01", " 1", "200.030", "1.", ".1", "1.2.3", "100.0", "0.100", "65536"]
        {
            assert!(text.parse::<Tags>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_priority_tag_counts_as_no_tag() {
        let frame = eth().tag(0x8100, 0xe000).payload(0x0800, &[0; 46]);
        assert_eq!(untagged(&frame).unwrap(), (Tags::NONE, eth().payload(0x0800, &[0; 46]).into()));
        let frame = eth().tag(0x8100, 0xe000).tag(0x8100, 100).payload(0x0800, &[]);
        assert_eq!(untagged(&frame).unwrap().0, tags("100"));
    }

    #[test]
    fn frames_are_untagged_and_tagged() {
        let plain = eth().payload(0x0806, &[7; 28]);
        for (text, frame) in [
            ("100", eth().tag(0x8100, 100).payload(0x0806, &[7; 28])),
            ("200.30", eth().tag(0x88a8, 200).tag(0x8100, 30).payload(0x0806, &[7; 28])),
        ] {
            assert_eq!(tagged(plain.clone(), tags(text)), frame);
            assert_eq!(untagged(&frame).unwrap(), (tags(text), plain.clone().into()));
            assert!(
                (0..frame.len())
                    .all(|length| untagged(&frame[..length]).is_none_or(|(_, rest)| rest.len() < length + 1))
            );
        }
        assert_eq!(tagged(plain.clone(), Tags::NONE), plain);
        let outer_8100 = eth().tag(0x8100, 200).tag(0x8100, 30).payload(0x0806, &[]);
        assert_eq!(untagged(&outer_8100).unwrap().0, tags("200.30"));
        let three = eth().tag(0x88a8, 1).tag(0x8100, 2).tag(0x8100, 3).payload(0x0800, &[0; 40]);
        assert_eq!(untagged(&three), None);
    }

    #[test]
    fn stripped_tags_are_put_back() {
        for (stripped, before, after) in [
            ([None, None], eth().payload(0x0800, &[1; 40]), eth().payload(0x0800, &[1; 40])),
            (
                [Some(0x2064), None],
                eth().payload(0x0800, &[1; 40]),
                eth().tag(0x8100, 0x2064).payload(0x0800, &[1; 40]),
            ),
            (
                [Some(200), Some(30)],
                eth().payload(0x0800, &[1; 40]),
                eth().tag(0x88a8, 200).tag(0x8100, 30).payload(0x0800, &[1; 40]),
            ),
            (
                [Some(200), None],
                eth().tag(0x8100, 30).payload(0x0800, &[1; 40]),
                eth().tag(0x88a8, 200).tag(0x8100, 30).payload(0x0800, &[1; 40]),
            ),
        ] {
            let mut packet = MemoryPacket { stripped, ..before.into() };
            restore(&mut packet).unwrap();
            assert_eq!(packet.bytes, after);
            assert!(!packet.has_stripped_tags());
        }
        let mut packet = MemoryPacket { stripped: [Some(1), None], headroom: 3, ..eth().payload(0x0800, &[]).into() };
        assert_eq!(restore(&mut packet), Err(DropReason::NoHeadroom));
    }
}
