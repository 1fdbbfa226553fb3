//! VLAN tags.

use ctl::Mac;

use crate::base::exit::DropReason;
use crate::base::exit::Exit;
use crate::base::exit::PuntReason;
use crate::control::model::Model;
use crate::count::lease::Leases;
use crate::forward::tests::rig::Rig;
use crate::forward::tests::rig::with_vlans;
use crate::testing::frame::CLIENT_MAC;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;
use crate::testing::model::PORT_MAC;
use crate::testing::model::network;
use crate::testing::model::service;

/// Description, the tags of a received packet (in the frame, stripped by the device), its port, and the tags that it is
/// sent with, or why it is not sent.
#[test]
fn tags_become_those_of_the_backends_network() {
    type Tags<'t> = &'t [(u16, u16)];
    let drop = |reason| Err(Exit::Drop(reason));
    let (tag, qinq): (Tags<'_>, Tags<'_>) = (&[(0x8100, 100)], &[(0x88a8, 200), (0x8100, 30)]);
    type Row<'t> = (&'t str, Tags<'t>, [Option<u16>; 2], u16, Result<Tags<'t>, Exit>);
    let table: [Row<'_>; 24] = [
        ("none to none", &[], [None; 2], 80, Ok(&[])),
        ("none to one", &[], [None; 2], 81, Ok(tag)),
        ("none to two", &[], [None; 2], 82, Ok(qinq)),
        ("one to none", tag, [None; 2], 80, Ok(&[])),
        ("one to the same", tag, [None; 2], 81, Ok(tag)),
        ("one to two", tag, [None; 2], 82, Ok(qinq)),
        ("two to none", qinq, [None; 2], 80, Ok(&[])),
        ("two to one", qinq, [None; 2], 81, Ok(tag)),
        ("two to two", qinq, [None; 2], 82, Ok(qinq)),
        ("two, both 0x8100", &[(0x8100, 200), (0x8100, 30)], [None; 2], 82, Ok(qinq)),
        ("a priority stays", &[(0x8100, 0xb064)], [None; 2], 82, Ok(&[(0x88a8, 0xb0c8), (0x8100, 0xb01e)])),
        (
            "each of two",
            &[(0x88a8, 0x20c8), (0x8100, 0xe01e)],
            [None; 2],
            82,
            Ok(&[(0x88a8, 0x20c8), (0x8100, 0xe01e)]),
        ),
        ("the outer one for one", &[(0x88a8, 0x20c8), (0x8100, 0xe01e)], [None; 2], 81, Ok(&[(0x8100, 0x2064)])),
        ("a priority alone is no VLAN", &[(0x8100, 0xa000)], [None; 2], 80, Ok(&[])),
        ("and stays in one", &[(0x8100, 0xa000)], [None; 2], 81, Ok(&[(0x8100, 0xa064)])),
        ("taken out, to none", &[], [Some(100), None], 80, Ok(&[])),
        ("taken out, to one", &[], [None, Some(0x6064)], 81, Ok(&[(0x8100, 0x6064)])),
        ("both taken out", &[], [Some(200), Some(30)], 82, Ok(qinq)),
        ("the outer one taken out", &[(0x8100, 30)], [Some(200), None], 81, Ok(tag)),
        ("no VLAN of ours", &[(0x8100, 101)], [None; 2], 80, drop(DropReason::UnknownVlan)),
        ("no VLAN of ours, taken out", &[], [Some(101), None], 80, drop(DropReason::UnknownVlan)),
        ("the outer one alone", &[(0x8100, 200)], [None; 2], 80, drop(DropReason::UnknownVlan)),
        ("three", &[(0x88a8, 200), (0x8100, 30), (0x8100, 1)], [None; 2], 80, drop(DropReason::UnknownVlan)),
        ("the reserved one", &[(0x8100, 4095)], [None; 2], 80, drop(DropReason::UnknownVlan)),
    ];
    let mut rig = with_vlans();
    let with = |tags: Tags<'_>| tags.iter().fold(eth(), |eth, &(kind, control)| eth.tag(kind, control));
    for (description, tags, stripped, port, expected) in table {
        let frame = |tags| with(tags).ipv4("10.0.0.1", "192.168.0.101").tcp(1234, port).data(b"GET /");
        let mac = Mac([2, 0, 0, 0, 0, u8::try_from(port - 77).unwrap()]);
        let expected = expected.map(|tags| [&mac.0[..], &PORT_MAC.0, &frame(tags)[12..]].concat());
        assert_eq!(rig.fate_of(MemoryPacket { stripped, ..frame(tags).into() }), expected, "{description}");
    }
    let v6 = eth().tag(0x8100, 100).ipv6("2001:db8::1", "fd01::101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&v6).unwrap()[12..], v6[12..]);
    let looped = eth().from(Mac([2, 0, 0, 0, 0, 4])).tag(0x8100, 100).ipv4("10.0.0.1", "10.1.0.101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&looped), Err(Exit::Drop(DropReason::Loop)));
    let other = eth().to(CLIENT_MAC).tag(0x8100, 100).ipv4("10.0.0.1", "10.1.0.101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&other), Err(Exit::Drop(DropReason::NotOurMac)));
    for length in 12..22 {
        let cut = eth().tag(0x88a8, 200).tag(0x8100, 30).payload(0x0800, &[])[..length].to_vec();
        assert!(matches!(rig.fate(&cut), Err(Exit::Drop(_))), "{length} bytes");
    }
}

#[test]
fn a_tag_needs_headroom() {
    let mut rig = with_vlans();
    let frame = || eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, 81).syn();
    let fate = rig.fate_of(MemoryPacket { headroom: 3, ..frame().into() });
    assert_eq!(fate, Err(Exit::Drop(DropReason::NoHeadroom)));
    assert!(rig.fate_of(MemoryPacket { headroom: 4, ..frame().into() }).is_ok());
}

#[test]
fn a_port_with_only_tagged_networks_takes_no_untagged_frames() {
    let mut model = Model::new([1; 16], 1_021, vec![network("lan0", 0, "7", &["192.168.0.2/24"])]);
    model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &Leases::new(vec![])).unwrap();
    let mut rig = Rig::new(model);
    let untagged = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&untagged), Err(Exit::Drop(DropReason::UnknownVlan)));
    let tagged = eth().tag(0x8100, 7).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&tagged).unwrap()[12..], tagged[12..]);
}

#[test]
fn the_slow_path_gets_frames_with_all_their_tags() {
    let mut rig = with_vlans();
    let asks = || crate::slow::arp::request(CLIENT_MAC, [10, 1, 0, 9].into(), [10, 1, 0, 101].into(), None);
    let arp = |eth: crate::testing::frame::Ethernet| eth.to(Mac([0xff; 6])).payload(0x0806, &asks()[14..]);
    let tagged = arp(eth().tag(0x8100, 100));
    for (frame, stripped) in [(tagged.clone(), [None; 2]), (arp(eth()), [None, Some(100)])] {
        let fate = rig.fate_of(MemoryPacket { stripped, ..frame.into() });
        assert_eq!(fate, Err(Exit::Punt(PuntReason::Arp)));
        assert_eq!(rig.punt().unwrap().packet.bytes, tagged);
    }
}

#[test]
fn fragments_keep_their_tags_while_they_are_held() {
    let mut rig = with_vlans();
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let (first, last) = (v4().fragment(0x2000).tcp(1234, 81).data(&[1; 4]), v4().fragment(3).protocol(6, &[2; 72]));
    let stripped = [None, Some(100)];
    let packets = [last, first].map(|frame| MemoryPacket { stripped, ..frame.into() });
    rig.wire.0.borrow_mut().rx.extend(packets);
    rig.worker.turn();
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|frame| frame[12..16] == [0x81, 0, 0, 100]));
}
