//! Linux interfaces: a port by AF_XDP goes on for as long as frames come, with buffers in plain pages; what the kernel loses is counted; and
//! a port that sends nothing is reported.

use std::time::Duration;

use ctl::answer::{Answer, Port, Severity};
use ctl::request::Request;
use dataplane::dpdk::Driver;
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Topology, VIP, wait_for};
use crate::wire::send;

fn port(lab: &Lab) -> Port {
    let Answer::Ports(ports) = lab.ask(Request::PortList) else { panic!("no ports") };
    ports.into_iter().next().unwrap()
}

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

/// A daemon that is stopped takes no frames. What finds no place in the kernel's rings meanwhile is missed, each frame once.
fn what_the_kernel_drops_is_counted_as_missed(driver: Driver) {
    const FRAMES: u64 = 6_000;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start_with([1, 1], driver);
    let to_director = |lab: &Lab| -> i64 {
        lab.on("switch", &["cat", "/sys/class/net/director/statistics/tx_packets"]).trim().parse().unwrap()
    };
    let known = |lab: &Lab| {
        let port = port(lab);
        i64::try_from(port.rx_packets + port.rx_missed).unwrap()
    };
    let unknown = |lab: &Lab| to_director(lab) - known(lab);
    // Probes come and go: what was on its way between the two readings is no loss.
    let mut lost = unknown(&lab);
    wait_for("the frames on their way have come", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::mem::replace(&mut lost, unknown(&lab)) == lost
    });
    kill(lab.daemon_pid(), Signal::SIGSTOP).unwrap();
    let frame = dataplane::testing::frame::eth().to(lab.mac("director")).ipv4("192.168.0.10", VIP).udp(1, 9, &[7; 100]);
    send(&lab, "client", vec![frame; usize::try_from(FRAMES).unwrap()]);
    kill(lab.daemon_pid(), Signal::SIGCONT).unwrap();
    wait_for("all frames are received or missed", || unknown(&lab) == lost && lab.counted("no_service") > 0);
    let port = port(&lab);
    assert!(port.rx_missed > FRAMES / 2, "{port:?}");
    assert!(port.rx_missed + lab.counted("no_service") >= FRAMES, "{port:?}");
    assert_eq!(port.xdp.is_some_and(|xdp| xdp.rx_ring_full > FRAMES / 2), driver == Driver::AfXdp, "{port:?}");
    assert_eq!(port.xdp.map_or(0, |xdp| xdp.rx_invalid + xdp.tx_invalid), 0, "{port:?}");
    wait_for("it is reported", || !lab.events("rx-missed").is_empty());
    assert_eq!(lab.requests(VIP, 20).len(), 20);
}

#[test]
fn what_the_kernel_drops_is_counted_as_missed_by_af_xdp() {
    what_the_kernel_drops_is_counted_as_missed(Driver::AfXdp);
}

#[test]
fn what_the_kernel_drops_is_counted_as_missed_by_af_packet() {
    what_the_kernel_drops_is_counted_as_missed(Driver::AfPacket);
}

/// The kernel takes what the driver gives it, and nothing leaves: here, because of a queue that holds nothing.
#[test]
fn a_port_that_sends_nothing_is_reported() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    let text = std::fs::read_to_string(lab.config()).unwrap();
    let device = "device = \"net_af_packet0,iface=lan0,qdisc_bypass=0\"";
    let text = text.replace("device = \"iface:lan0\"\ndriver = \"auto\"", device);
    std::fs::write(lab.config(), text).unwrap();
    lab.restart();
    lab.on("client", &["ping", "-q", "-c", "5", "-i", "0.2", "-w", "5", VIP]);
    lab.on("director", &["tc", "qdisc", "replace", "dev", "lan0", "root", "pfifo", "limit", "0"]);
    lab.spawn("client", &["ping", "-q", "-i", "0.2", "-w", "20", VIP]);
    wait_for("it is reported", || !lab.events("tx-stalled").is_empty());
    let event = lab.events("tx-stalled").remove(0);
    assert_eq!((event.severity, event.subject.port.as_deref()), (Severity::Error, Some("lan0")));
    assert!(event.message.contains("tx_packets") && event.message.contains("restart shuntd"), "{event}");
    lab.on("director", &["tc", "qdisc", "delete", "dev", "lan0", "root"]);
    assert_eq!(lab.requests(VIP, 20).len(), 20);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(lab.events("tx-stalled").len(), 1);
}
