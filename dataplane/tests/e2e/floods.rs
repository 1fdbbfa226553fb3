//! Floods of what the slow path is given: ARP keeps its answers, backends stay up, and requests are forwarded.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::NeighborState;
use dataplane::slow::{arp, ndp};
use dataplane::testing::frame::eth;

use crate::lab::{DIRECTOR, Lab, Topology, VIP, VIP6};
use crate::wire::open;

/// How long a flood lasts, and how many frames it has at most.
const FLOOD: Duration = Duration::from_millis(700);
const MOST_FRAMES: usize = 100_000;
/// The requests whose answers are timed.
const REQUESTS: usize = 15;

/// The times from the client's ARP requests for the VIP to their answers, sorted.
fn answer_times(lab: &Lab) -> Vec<Duration> {
    let (client, vip): (Mac, Ipv4Addr) = (lab.mac("client"), VIP.parse().unwrap());
    let request = arp::request(client, [192, 168, 0, 10].into(), vip, None);
    let asking = lab.inside("client", move || {
        let (mut sender, mut receiver) = open("lan0");
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let asked = Instant::now();
            sender.send_to(&request, None).unwrap().unwrap();
            // An answer: operation 2, from the VIP. What does not come within a second counts as that.
            while asked.elapsed() < Duration::from_secs(1) {
                let answer =
                    receiver.next().is_ok_and(|f| f[12..14] == [8, 6] && f[21] == 2 && f[28..32] == vip.octets());
                if answer {
                    break;
                }
            }
            times.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        times.sort_unstable();
        times
    });
    asking.join().unwrap()
}

/// Sends frames from the gateway's host, some 50,000 a second. They end when the returned function is called.
fn flood(lab: &Lab, frames: Vec<Vec<u8>>) -> impl FnOnce() -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = stop.clone();
    let flooding = lab.inside("gw", move || {
        let (mut sender, _) = open("lan0");
        let (begin, mut count) = (Instant::now(), 0);
        while !ended.load(Ordering::Relaxed) && count < MOST_FRAMES && begin.elapsed() < 4 * FLOOD {
            for frame in frames.iter().take(64) {
                count += usize::from(sender.send_to(frame, None).is_some_and(|sent| sent.is_ok()));
            }
            // Slower than the driver and the kernel can take.
            std::thread::sleep(Duration::from_micros(500));
        }
        count
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    }
}

#[test]
fn arp_is_answered_whatever_is_flooded() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let (director, vip, vip6): (Mac, Ipv4Addr, Ipv6Addr) =
        (lab.mac("director"), VIP.parse().unwrap(), VIP6.parse().unwrap());
    let station = |number: u8| (Mac([2, 9, 9, 9, 9, number]), Ipv4Addr::new(192, 168, 0, 128 + number));
    let one = |frame: Vec<u8>| vec![frame; 64];
    let each = |frame: &dyn Fn(Mac, Ipv4Addr) -> Vec<u8>| -> Vec<Vec<u8>> {
        (0..64).map(station).map(|(mac, address)| frame(mac, address)).collect()
    };
    let (mac, address) = station(1);
    let to_director = || eth().from(mac).to(director);
    let solicitation = |hop_limit: u8| {
        let body = [&[0; 4][..], &vip6.octets()].concat();
        to_director().ipv6("fd00::77", VIP6).hop_limit(hop_limit).icmp(58, 135, 0, &body)
    };
    let query = eth().from(mac).to(Mac([0x33, 0x33, 0, 0, 0, 1])).ipv6("fe80::1", "ff02::1").hop_limit(1);
    let query =
        query.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]).icmp(58, 130, 0, &[&[0; 20][..], &[2, 125, 0, 0]].concat());
    let quoted = eth().ipv4(VIP, "10.0.0.1").tcp(80, 1).ack();
    let error = to_director().ipv4("172.16.0.1", VIP).icmp(1, 3, 1, &[&[0; 4], &quoted[14..]].concat());
    let mut forged = arp::request(mac, [192, 168, 0, 77].into(), DIRECTOR.parse().unwrap(), Some(director));
    forged[21] = 2;
    let quiet = answer_times(&lab);
    let most = 20 * quiet[REQUESTS / 2] + Duration::from_millis(50);
    // Packets that are too big cannot be sent here: the sender's interface has the same MTU.
    for (what, frames, lost) in [
        ("ARP of one station", one(arp::request(mac, address, vip, None)), "arp_limited"),
        (
            "ARP between others",
            each(&|mac, address| arp::request(mac, address, [192, 168, 0, 1].into(), None)),
            "resolution_of_others",
        ),
        ("answers that nobody has asked for", one(forged), "resolution_of_others"),
        (
            "neighbor discovery of one station",
            one(ndp::request(mac, "fd00::77".parse().unwrap(), vip6, None)),
            "ndp_limited",
        ),
        ("neighbor discovery from afar", one(solicitation(64)), "ndp_invalid"),
        ("queries for listeners", one(query), "mld_limited"),
        ("pings", one(to_director().ipv4("10.0.0.1", VIP).echo(b"ping")), "echo_limited"),
        ("packets to the director", one(to_director().ipv4("10.0.0.1", DIRECTOR).udp(1, 161, b"?")), "own_address"),
        (
            "neighbor discovery in IPv4",
            one(to_director().ipv4("10.0.0.1", VIP).icmp(58, 135, 0, &[0; 20])),
            "no_service",
        ),
        ("ICMP errors", one(error), ""),
    ] {
        let before = if lost.is_empty() { 0 } else { lab.counted(lost) };
        let end = flood(&lab, frames);
        std::thread::sleep(FLOOD / 4);
        let times = answer_times(&lab);
        let sent = end();
        println!(
            "{what}: {sent} frames; answers after {:?} to {:?}, {:?} without",
            times[0],
            times[REQUESTS / 2],
            quiet[REQUESTS / 2]
        );
        assert!(times[REQUESTS / 2] <= most, "{what}: {times:?}, and without: {quiet:?}");
        if !lost.is_empty() {
            let counted = lab.counted(lost) - before;
            assert!(counted > 0 && sent > 1_000, "{what}: {counted} counted as {lost} of {sent}");
        }
    }
    assert!(lab.neighbors().iter().all(|neighbor| neighbor.state == NeighborState::Reachable), "{:?}", lab.neighbors());
    assert_eq!(lab.requests(VIP, 20).len(), 20);
}
