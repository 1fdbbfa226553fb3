//! HTTP requests to the VIP: which server answers, and which way the packets take.

use dataplane::dpdk::Driver;

use crate::lab::{Lab, Response, Topology, VIP, VIP6, by_server};
use crate::wire::Capture;

/// A thousand requests over distinct client ports, at equal weights and at 3:1.
fn shares_follow_the_weights(lab: &Lab, vip: &str, backends: [&str; 2]) {
    for (weights, percent) in [([1, 1], 50.0), ([3, 1], 75.0)] {
        for (backend, weight) in backends.into_iter().zip(weights) {
            lab.set_weight(vip, backend, weight);
        }
        let responses = lab.requests(vip, 1_000);
        let share = by_server(&responses)["rs1"] as f64 / 10.0;
        assert!((share - percent).abs() <= 3.0, "rs1 answered {share} % at weights {weights:?}");
    }
}

fn everything_goes_as_it_should(topology: Topology, client: &str, client6: &str) {
    let Some(mut lab) = Lab::new(topology) else { return };
    lab.start([1, 1]);
    let before = lab.status();
    for (vip, backends, client) in
        [(VIP, ["192.168.0.3", "192.168.0.4"], client), (VIP6, ["fd00::3", "fd00::4"], client6)]
    {
        shares_follow_the_weights(&lab, vip, backends);
        let responses = lab.requests(vip, 20);
        let own_address = |response: &Response| response.client.to_string() == client;
        assert!(responses.iter().all(own_address), "the servers see the client's own address: {responses:?}");
    }
    assert_eq!(lab.counted("return_via_director"), 0, "replies do not pass through the director");
    assert_eq!(lab.counted("loop"), 0);
    let forwarded = lab.status().forwarded_packets - before.forwarded_packets;
    // A request is at least SYN, ACK, request, FIN.
    assert!(forwarded >= 4 * 4_040, "{forwarded}");
}

#[test]
fn client_on_the_same_segment() {
    everything_goes_as_it_should(Topology::Segment, "192.168.0.10", "fd00::10");
}

#[test]
fn client_behind_a_gateway() {
    everything_goes_as_it_should(Topology::Gateway, "10.0.0.10", "fd01::10");
}

#[test]
fn each_driver_for_linux_interfaces_works() {
    for (driver, name) in [(Driver::AfPacket, "net_af_packet"), (Driver::AfXdp, "net_af_xdp")] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        lab.start_with([1, 1], driver);
        let ports = match lab.ask(ctl::request::Request::PortList) {
            ctl::answer::Answer::Ports(ports) => ports,
            other => panic!("{other:?}"),
        };
        assert_eq!(ports[0].driver, name);
        assert!(lab.logged().contains(name), "the log names the driver");
        assert_eq!(by_server(&lab.requests(VIP, 100)).len(), 2);
        assert_eq!(by_server(&lab.requests(VIP6, 100)).len(), 2);
    }
}

#[test]
fn replies_go_straight_to_the_client() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 0]);
    let capture = Capture::start(&lab, "client");
    lab.requests(VIP, 5);
    let (server, director) = (lab.mac("rs1"), lab.mac("director"));
    let vip: [u8; 4] = [192, 168, 0, 101];
    let frames = capture.finish();
    let from_vip: Vec<_> = frames.iter().filter(|f| f[12..14] == [8, 0] && f[26..30] == vip).collect();
    assert!(from_vip.len() >= 15);
    assert!(from_vip.iter().all(|frame| frame[6..12] == server.0 && frame[6..12] != director.0));
}

#[test]
fn two_workers_share_the_traffic_of_one_port() {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        println!("skipped: two workers need two cores");
        return;
    }
    // DPDK's AF_XDP driver needs two "combined" queues, which veth does not have. So "auto" takes AF_PACKET.
    for driver in [Driver::AfPacket, Driver::Auto] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        lab.configure_daemon([1, 1], driver, "workers = [0, 1]\nslow_path = 0\n");
        lab.restart();
        assert!(lab.logged().contains("net_af_packet"));
        let servers = by_server(&lab.requests(VIP, 300)).len() + by_server(&lab.requests(VIP6, 100)).len();
        assert_eq!(servers, 4);
        let workers = lab.workers();
        let forwarded: Vec<u64> = workers.iter().map(|worker| worker.forwarded_packets).collect();
        assert!(forwarded.iter().all(|&packets| packets > 100), "{driver:?}: {forwarded:?}");
        assert_eq!(workers.iter().map(|worker| worker.lcore).collect::<Vec<_>>(), [0, 1]);
    }
}

#[test]
fn fewer_queues_than_workers_is_a_clear_error() {
    let Some(lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::AfPacket, "workers = [0, 1]\nslow_path = 0\n");
    let one_queue = std::fs::read_to_string(lab.config())
        .unwrap()
        .replace("driver = \"af_packet\"\n", "")
        .replace("iface:lan0", "net_af_packet0,iface=lan0,qpairs=1");
    std::fs::write(lab.config(), one_queue).unwrap();
    let output = lab.daemon_output();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has 1 queue pairs, but there are 2 workers"), "{said}");
}
