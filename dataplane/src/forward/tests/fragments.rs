//! Fragments wait for their first fragment, and follow it.

use crate::base::exit::DropReason;
use crate::forward::tests::rig::Rig;
use crate::testing::frame::eth;
use crate::testing::model::PORT_MAC;

#[test]
fn fragments_follow_their_first_in_whatever_order_they_arrive() {
    let mut rig = Rig::example();
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let first = v4().fragment(0x2000).udp(1234, 53, &[1; 64]);
    let later: Vec<Vec<u8>> = (1..9).map(|index| v4().fragment(0x2000 + index * 9).protocol(17, &[2; 72])).collect();
    let expected = |frame: &Vec<u8>| [&[2, 0, 0, 0, 0, 5][..], &PORT_MAC.0, &frame[12..]].concat();
    rig.receive(later.iter().take(4).cloned());
    assert!(rig.sent().is_empty());
    // The first fragment, with fragments before and behind it in the same burst.
    rig.receive([&later[4..6], std::slice::from_ref(&first), &later[6..]].concat());
    let mut sent = rig.sent();
    sent.sort();
    let mut all: Vec<Vec<u8>> = later.iter().chain([&first]).map(expected).collect();
    all.sort();
    assert_eq!(sent, all);
    assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "nothing is lost");
    assert_eq!(rig.counters.ports[0].rx_packets.read(), 9);
    assert_eq!(rig.counters.ports[0].forwarded.read(), 9);
}

#[test]
fn a_fragment_without_its_first_is_dropped_in_the_end() {
    let mut rig = Rig::example();
    rig.receive([eth().ipv4("10.0.0.1", "192.168.0.101").fragment(9).protocol(17, &[0; 64])]);
    assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "it is held");
    rig.let_time_pass();
    assert_eq!(rig.counters.ports[0].drops[DropReason::FragmentOrphan.index()].read(), 1);
}
