//! Exits: the reasons why a frame leaves the fast path without going to a backend.
//!
//! Each frame that is not forwarded has exactly one [`Exit`], and each exit has one counter of the same name
//! (`docs/metrics.md`). The sentences for operators stand here and nowhere else: listings and the tables of that document are made of
//! them.

use crate::base::ids::{ServiceCounterNo, WorkerNo};

/// What happens to a frame that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is freed.
    Drop(DropReason),
    /// It is freed. It is also counted in these counters, which are those of its service.
    DropOf(DropReason, ServiceCounterNo),
    /// It is given to the slow path.
    Punt(PuntReason),
    /// It is larger than this MTU, which is that of the backend's port. Its sender may be told.
    TooBig(u16),
    /// It is held until the first fragment of its packet arrives.
    Hold,
    /// It is passed to the worker that handles all fragments of its packet.
    Pass(WorkerNo),
}

impl From<DropReason> for Exit {
    fn from(reason: DropReason) -> Self {
        Exit::Drop(reason)
    }
}

impl From<PuntReason> for Exit {
    fn from(reason: PuntReason) -> Self {
        Exit::Punt(reason)
    }
}

/// Declares a reason enum together with its names and its sentences.
macro_rules! reasons {
    ($(#[$outer:meta])* $kind:ident { $($variant:ident = $name:literal: $meaning:literal, $advice:literal;)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $kind {
            $(#[doc = $meaning] $variant,)*
        }

        impl $kind {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [$kind] = &[$($kind::$variant),*];
            /// The number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The name, as in the metrics.
            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $name),* }
            }

            /// What the reason means, a sentence for the operator.
            pub fn meaning(self) -> &'static str {
                match self { $($kind::$variant => $meaning),* }
            }

            /// What the operator may do about it.
            pub fn advice(self) -> &'static str {
                match self { $($kind::$variant => $advice),* }
            }

            /// The index of the reason's counter.
            pub(crate) fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a frame is dropped.
    DropReason {
        Runt = "runt": "The frame is shorter than an Ethernet header.",
            "Look for a broken sender or cable.";
        NotOurMac = "not_our_mac": "The frame is for another station's MAC address.",
            "Normal in small numbers (switches flood); in large ones, check that clients resolve the VIP to this port.";
        Multicast = "multicast": "A broadcast or multicast frame that is neither ARP, a neighbor solicitation or advertisement, nor a query for listeners.",
            "Normal: the chatter of a LAN.";
        UnknownVlan = "unknown_vlan": "No network of ours on that port has the frame's VLAN tags; or, where it has none, all of them have tags.",
            "Compare the port's `vlans` with the VLANs that the switch sends there (`shuntctl port list`).";
        NotIp = "not_ip": "A unicast frame that carries neither IPv4, IPv6 nor ARP.",
            "Normal in small numbers (LLDP, spanning tree).";
        Truncated = "truncated": "The frame ends before the packet that its headers announce.",
            "Look for an MTU mismatch or a broken sender.";
        HeadersSplit = "headers_split": "The frame came in several packet buffers, and the first ends within its headers.",
            "Report the device and its driver: none is known that does this.";
        BadIpHeader = "bad_ip_header": "The IP header contradicts itself: version, header length or extension headers.",
            "Look for a broken sender or a scan.";
        BadIpChecksum = "bad_ip_checksum": "The NIC found a wrong IPv4 header checksum.",
            "Look for a broken device on the way.";
        NotForUs = "not_for_us": "The packet's destination is neither a VIP nor an address of ours.",
            "A host uses this director as a router; check the routes to it.";
        MartianSource = "martian_source": "The packet's source is no address that a client can have: unspecified, loopback, multicast, \
            broadcast or reserved, IPv4 in an IPv6 address, or the director's own, or that of a VIP where the destination is one, too.",
            "Such sources are forged, or a sender is broken: look for it, and filter them at the border (BCP 38).";
        NoService = "no_service": "The VIP is ours, but there is no service on that port and protocol.",
            "Check `shuntctl service list`; scans cause this, too.";
        IcmpUnhandled = "icmp_unhandled": "An ICMP or ICMPv6 message to a VIP that is neither an echo request nor an error.",
            "Nothing: redirects, timestamp requests and the like are not for a VIP.";
        IcmpQuote = "icmp_quote": "An ICMP error to a VIP that quotes no packet a backend can have sent from it.",
            "Forged errors, or errors about later fragments; look for the sender if there are many.";
        FragmentNoPorts = "fragment_no_ports": "A fragment to a VIP of a protocol without ports, such as a large ping.",
            "Nothing: services are TCP, UDP and SCTP; a VIP answers pings that fit the MTU.";
        FragmentTiny = "fragment_tiny": "A first fragment that is too short for the ports.",
            "No ordinary sender makes such fragments; look for the sender.";
        FragmentOrphan = "fragment_orphan": "A later fragment whose first fragment did not come in time, or was forgotten in a flood of others.",
            "Look for loss on the way to the director, or a flood of fragments.";
        FragmentHoldFull = "fragment_hold_full": "Too many fragments wait for their first ones: one of the senders with the most, or the oldest, gave way.",
            "Look for a flood of fragments, or heavy reordering.";
        FragmentPassFull = "fragment_pass_full": "The worker that has the packet's fragments was too busy to take one more, or one more of that sender.",
            "Look for a flood of fragments; see `shuntctl worker list`.";
        NoBackend = "no_backend": "The service has no backend that takes the flow.",
            "Are all down, drained, or of weight 0? See `shuntctl service list`.";
        BackendMacUnknown = "backend_mac_unknown": "The chosen backend's MAC address is not known (yet).",
            "See `shuntctl neighbor list`; is the backend up and on this segment?";
        ReturnViaDirector = "return_via_director": "A backend's reply, sent from a VIP, came to the director.",
            "The backend's route to the client points at the director: give it the real gateway.";
        Loop = "loop": "The chosen backend itself sent the frame: it does not own the VIP and routes it back.",
            "Configure the VIP on that backend's loopback (scripts/real-server start VIP).";
        TooBigUnanswered = "too_big_unanswered": "A packet larger than the MTU of the backend's port, whose sender was not told: too many \
            at that time, or an ICMP error or later fragment.",
            "See `too_big`.";
        NoHeadroom = "no_headroom": "The packet buffer had no room before the frame for a VLAN tag.",
            "The device's driver leaves none: take another driver, or untagged backends.";
        LinkDown = "link_down": "The link of the port that leads to the backend is down, or its device is gone.",
            "See `shuntctl port list` and the event `link-down`.";
        TxFull = "tx_full": "The port's transmit queue was full.",
            "The link is saturated, or the device too slow: see `shuntctl port list`. On memif and AF_PACKET, the other end does not \
             empty its ring in time: it is the limit then, not Shunt; for memif, `rsize=14` at both ends makes the ring longer.";
        PuntFull = "punt_full": "The slow path was too busy to take the frame.",
            "The slow path's core is too busy with other work: see which punt reason grows.";
        ArpInvalid = "arp_invalid": "An ARP packet that asks and answers nothing, or that no station can have sent.",
            "Look for a broken or hostile station on that segment.";
        NdpInvalid = "ndp_invalid": "A neighbor solicitation or advertisement that no neighbor has sent (hop limit not 255), \
            or that RFC 4861 §7.1 forbids.",
            "One from afar is an attack: filter ICMPv6 types 133 to 137 at the router. Else look for a broken station.";
        MldInvalid = "mld_invalid": "A query for multicast listeners (MLD) that no neighbor has sent, or that is damaged.",
            "Look for a broken router or switch; a query needs hop limit 1, a link-local source and a router alert.";
        ResolutionOfOthers = "resolution_of_others": "ARP or neighbor discovery between other stations: it asks for no address of \
            ours, and tells of no backend.",
            "Normal: the chatter of a LAN.";
        ArpLimited = "arp_limited": "An ARP packet above the rate that is answered: of its sender, or of all.",
            "Look for a station that floods, or for a loop in the network.";
        NdpLimited = "ndp_limited": "The same for a neighbor solicitation or advertisement.",
            "See `arp_limited`.";
        MldLimited = "mld_limited": "A query for multicast listeners above the rate that is answered.",
            "Look for a broken router or switch.";
        OwnAddressLimited = "own_address_limited": "A packet to an address of the director itself, above the rate that is looked at.",
            "Look for a scan or a flood; nothing listens there.";
        EchoLimited = "echo_limited": "A ping to a VIP or to an address of ours, above the rate that is answered.",
            "Look for the sender of a ping flood; director.echo_rate sets the limit.";
    }
}

reasons! {
    /// Why a frame is given to the slow path.
    PuntReason {
        Arp = "arp": "An ARP packet.",
            "Normal.";
        Ndp = "ndp": "An IPv6 neighbor solicitation or advertisement.",
            "Normal.";
        Mld = "mld": "A query of a router or switch: who listens to multicast groups (MLD)?",
            "Normal, every minute or two.";
        Echo = "echo": "A ping to a VIP or to an address of ours.",
            "Normal.";
        TooBig = "too_big": "A packet larger than the MTU of the backend's port; dropped, its sender is told.",
            "Normal while senders find the path's MTU; else compare the ports' MTUs, or turn off TSO/GSO on a veth sender.";
        OwnAddress = "own_address": "Another packet to an address of the director itself.",
            "Nothing listens there; a host probes the director.";
    }
}

reasons! {
    /// Why a frame of the director's own (an answer, a probe, an announcement) is not sent.
    UnsentReason {
        NoBuffer = "no_buffer": "The slow path found no packet buffer for a frame.",
            "Set director.mbufs higher; see the event `buffers-exhausted`.";
        RingFull = "ring_full": "The ring to the worker that sends for the slow path had no room; answers to others leave some of it to probes and announcements.",
            "Look for a flood of ARP, NDP or pings in the reasons above, and at worker 0's LOAD in `shuntctl worker list`.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testing::docs;

    #[test]
    fn reasons_have_distinct_names() {
        let (drops, punts) = (DropReason::ALL.iter().map(|r| r.name()), PuntReason::ALL.iter().map(|r| r.name()));
        let names: Vec<&str> = drops.chain(punts).chain(UnsentReason::ALL.iter().map(|r| r.name())).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn the_docs_say_the_same_of_each_reason() {
        let check = |section, reasons: Vec<[&str; 3]>| {
            let rows = reasons
                .iter()
                .map(|[name, meaning, advice]| vec![format!("`{name}`"), meaning.to_string(), advice.to_string()]);
            docs::check("docs/metrics.md", section, &docs::table(&["reason", "meaning", "what to do"], rows));
        };
        check("drop reasons", DropReason::ALL.iter().map(|r| [r.name(), r.meaning(), r.advice()]).collect());
        check("punt reasons", PuntReason::ALL.iter().map(|r| [r.name(), r.meaning(), r.advice()]).collect());
        check("unsent reasons", UnsentReason::ALL.iter().map(|r| [r.name(), r.meaning(), r.advice()]).collect());
    }

    #[test]
    fn a_reasons_index_is_its_position_in_the_list() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
