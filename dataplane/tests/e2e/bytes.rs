//! Frame for frame: a backend gets what a client sends, except for the two MAC addresses.

use dataplane::testing::frame::eth;

use crate::lab::{Lab, Topology, VIP, VIP6};
use crate::wire::{Capture, send};

#[test]
fn frames_are_identical_behind_the_ethernet_header() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    let (client, director, server) = (lab.mac("client"), lab.mac("director"), lab.mac("rs1"));
    let eth = || eth().from(client).to(director);
    let text: Vec<u8> = (0..1_400u16).map(|i| i.to_le_bytes()[0]).collect();
    let mut frames = Vec::new();
    for port in 2_000..2_050u16 {
        let payload = &text[..usize::from(port - 2_000) * 28];
        frames.push(eth().ipv4("192.168.0.10", VIP).tcp(port, 80).data(payload));
        frames.push(eth().ipv4("192.168.0.10", VIP).options(&[1; 12]).tcp(port, 80).data(payload));
        frames.push(eth().ipv6("fd00::10", VIP6).tcp(port, 80).data(payload));
        frames.push(eth().ipv6("fd00::10", VIP6).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]).tcp(port, 80).data(payload));
    }
    let capture = Capture::start(&lab, "rs1");
    let forwarded = lab.status().forwarded_packets;
    // In portions, so that no queue on the way overflows.
    for portion in frames.chunks(20) {
        send(&lab, "client", portion.to_vec());
    }
    let received: Vec<Vec<u8>> = capture.finish().into_iter().filter(|frame| frame[6..12] == director.0).collect();
    for frame in &frames {
        let expected = [&server.0[..], &director.0, &frame[12..]].concat();
        assert!(received.contains(&expected), "not received as sent: {frame:02x?}");
    }
    assert_eq!(lab.status().forwarded_packets - forwarded, frames.len() as u64);
}
