//! AF_XDP: a port that goes on for as long as frames come, with buffers in plain pages; and what its sockets lose, in counters.

use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP};

/// The slow path takes fresh buffers, and so comes by all of the pool. Each of them can be sent and received into.
#[test]
fn a_pool_in_plain_pages_serves_for_ever() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::AfXdp, "mbufs = 4095\necho_rate = 1000000\n");
    lab.restart();
    let printed = lab.attempt("client", &["ping", "-q", "-f", "-c", "3000", "-w", "20", VIP]);
    let printed = printed.unwrap_or_else(|error| panic!("{error}"));
    assert!(printed.contains("3000 packets transmitted, 3000 received"), "{printed}");
    assert_eq!(lab.requests(VIP, 50).len(), 50);
}
