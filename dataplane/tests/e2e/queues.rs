//! AF_XDP and an interface's receive queues: it is taken where it works, and nowhere else.

use ctl::answer::Answer;
use ctl::request::Request;
use dataplane::dpdk::Driver;
use nix::sys::signal::Signal;

use crate::lab::{Lab, Topology, VIP, VIP6, wait_for};

/// Starts a daemon that is to choose the driver itself; returns which it took, and ends it.
fn driver_taken(lab: &mut Lab) -> String {
    lab.configure_daemon([1, 1], Driver::Auto, "");
    lab.restart();
    let Answer::Ports(ports) = lab.ask(Request::PortList) else { panic!("no ports") };
    // Each request is a flow of its own.
    assert_eq!(lab.requests(VIP, 20).len() + lab.requests(VIP6, 20).len(), 40);
    let buffers = lab.status().packet_buffers;
    if ports[0].driver == "net_af_packet" {
        assert!(buffers.in_use < 500, "a driver that failed would keep some 2,000: {buffers:?}");
    }
    lab.end_daemon(Signal::SIGTERM);
    ports[0].driver.clone()
}

#[test]
fn af_xdp_is_taken_only_where_no_flow_and_no_buffer_is_lost() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    let channels = |lab: &Lab, host: &str, interface: &str, count: &[&str]| {
        lab.on(host, &[&["ethtool", "-L", interface], count].concat());
    };
    // Flows come to both of two receive queues.
    channels(&lab, "director", "lan0", &["rx", "2"]);
    channels(&lab, "switch", "director", &["tx", "2"]);
    lab.configure_daemon([1, 1], Driver::AfXdp, "");
    let config = lab.config();
    let command = ["timeout", "10", env!("CARGO_BIN_EXE_shuntd"), "--config", config.to_str().unwrap()];
    let refused = lab.attempt("director", &command).unwrap_err();
    assert!(refused.contains("lan0 has 2 receive queues for 1 worker"), "{refused}");
    assert!(refused.contains("`ethtool -L lan0 rx 1 tx 1`"), "{refused}");
    assert_eq!(driver_taken(&mut lab), "net_af_packet");
    assert!(lab.logged().contains("taking AF_PACKET, because AF_XDP is not to be had: lan0 has 2 receive queues"));

    // As it says. The other end's second transmit queue is still in the way: DPDK's driver would fail.
    channels(&lab, "director", "lan0", &["rx", "1", "tx", "1"]);
    assert_eq!(driver_taken(&mut lab), "net_af_packet");
    assert!(lab.logged().contains("its driver takes no XDP program"), "{}", lab.logged());

    channels(&lab, "switch", "director", &["tx", "1"]);
    assert_eq!(driver_taken(&mut lab), "net_af_xdp");

    // Queues that come later.
    lab.restart();
    assert_eq!(lab.events("queues-unread"), []);
    channels(&lab, "director", "lan0", &["rx", "2"]);
    wait_for("the event", || !lab.events("queues-unread").is_empty());
    let message = &lab.events("queues-unread")[0].message;
    assert!(message.contains("lan0 has 2 receive queues for 1 worker"), "{message}");
    let warnings = lab.status().warnings;
    assert!(warnings.iter().any(|said| said.contains("`ethtool -L lan0 rx 1 tx 1`")), "{warnings:?}");
    channels(&lab, "director", "lan0", &["rx", "1", "tx", "1"]);
    wait_for("the event", || !lab.events("queues-read").is_empty());
    assert_eq!(lab.requests(VIP, 5).len(), 5);
}
