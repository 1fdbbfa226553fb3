//! Neighbors that leave checksums and segmentation to a NIC, where there is none.

use ctl::answer::Event;
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, wait_for};

/// The events of a kind, as soon as there are some. Until then, the client tries to get something across.
fn after_requests(lab: &Lab, kind: &str, request: &str) -> Vec<Event> {
    wait_for(kind, || {
        let _ = lab.attempt("client", &["sh", "-c", request]);
        !lab.events(kind).is_empty()
    });
    lab.events(kind)
}

fn a_client_that_leaves_checksums_to_its_nic_is_named(driver: Driver) {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start_with([1, 1], driver);
    assert_eq!(lab.requests(VIP, 5).len(), 5);
    assert_eq!(lab.events("unfinished-checksums"), []);
    assert!(!lab.status().warnings.iter().any(|warning| warning.contains("unfinished checksum")));
    lab.on("client", &["ethtool", "-K", "lan0", "tx", "on"]);
    let events = after_requests(&lab, "unfinished-checksums", &format!("curl -s -m 1 http://{VIP}/"));
    assert_eq!(events[0].subject.mac, Some(lab.mac("client")), "{}", events[0]);
    assert!(events[0].message.contains("ethtool -K INTERFACE tx off"), "{}", events[0]);
    let warnings = lab.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("unfinished checksum")), "{warnings:?}");
    // As it says.
    lab.on("client", &["ethtool", "-K", "lan0", "tx", "off"]);
    assert_eq!(lab.requests(VIP, 5).len(), 5);
}

#[test]
fn a_client_that_leaves_checksums_to_its_nic_is_named_on_af_xdp() {
    a_client_that_leaves_checksums_to_its_nic_is_named(Driver::AfXdp);
}

#[test]
fn a_client_that_leaves_checksums_to_its_nic_is_named_on_af_packet() {
    a_client_that_leaves_checksums_to_its_nic_is_named(Driver::AfPacket);
}

/// The director's own kernel puts segments together before AF_PACKET sees them.
#[test]
fn segments_that_are_put_together_on_their_way_are_told_of() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.on("director", &["ethtool", "-K", "lan0", "gro", "on"]);
    // A veth interface puts segments together only if its other end does not send larger ones.
    lab.on("switch", &["ethtool", "-K", "director", "tso", "off"]);
    lab.start_with([1, 1], Driver::AfPacket);
    let head = "POST / HTTP/1.1\\r\\nHost: vip\\r\\nContent-Length: 900000\\r\\n\\r\\n";
    let upload = format!("(printf '{head}'; head -c 900000 /dev/zero) > /dev/tcp/{VIP}/80");
    let upload = format!("timeout 2 bash -c \"{upload}\"");
    let events = after_requests(&lab, "super-frames", &upload);
    assert!(events[0].message.contains("`ethtool -K INTERFACE gro off lro off` here"), "{}", events[0]);
    lab.on("director", &["ethtool", "-K", "lan0", "gro", "off"]);
    assert_eq!(lab.requests(VIP, 5).len(), 5);
}
