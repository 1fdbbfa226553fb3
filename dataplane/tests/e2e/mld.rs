//! A switch that snoops multicast listener discovery, as most do: it sends a neighbor solicitation only to ports from which a report
//! has come, and forgets the report after a time.

use std::time::{Duration, Instant};

use ctl::request::Request;

use crate::lab::{Lab, Topology, VIP6, service_id, wait_for};

/// How long the switch remembers a report. Its queries come five times as often.
const MEMBERSHIP: &str = "200";

/// The groups that the switch sends to the director, of those that solicitations for the VIP go to.
fn is_known(lab: &Lab) -> bool {
    let table = lab.on("switch", &["bridge", "mdb", "show", "dev", "br0"]);
    table.lines().any(|line| line.contains("port director ") && line.contains("ff02::1:ff00:101"))
}

fn snoop(lab: &Lab, version: &str) {
    let settings = [
        ["mcast_snooping", "1"],
        ["mcast_querier", "1"],
        ["mcast_mld_version", version],
        ["mcast_query_interval", "40"],
        ["mcast_startup_query_interval", "40"],
        ["mcast_query_response_interval", "10"],
        ["mcast_membership_interval", MEMBERSHIP],
    ];
    lab.on("switch", &[&["ip", "link", "set", "br0", "type", "bridge"][..], settings.as_flattened()].concat());
}

/// The director reports its groups unasked when it starts: the last time after 10 s, before that after 5, 2, 1. Between
/// these times, only its answers keep the switch from forgetting them.
#[test]
fn an_ipv6_vip_stays_reachable_behind_a_switch_that_snoops() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    snoop(&lab, "2");
    let begin = Instant::now();
    lab.start([1, 1]);
    wait_for("the switch has heard of the group", || is_known(&lab));
    for (version, until) in [("2", 5_000), ("1", 10_000)] {
        snoop(&lab, version);
        while begin.elapsed() < Duration::from_millis(until) {
            assert!(is_known(&lab), "forgotten after {:?}, with queries of version {version}", begin.elapsed());
            // Solicits anew, by multicast.
            lab.on("client", &["ip", "-6", "neighbor", "flush", "dev", "lan0"]);
            lab.on("client", &["ping", "-c", "1", "-w", "3", VIP6]);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    assert!(lab.counted("mld") > 5, "{} queries", lab.counted("mld"));
    assert_eq!((lab.counted("mld_invalid"), lab.counted("mld_limited")), (0, 0));
    // A VIP that is gone is forgotten before its time: the director says so.
    let left = Instant::now();
    lab.ask(Request::ServiceRemove(service_id(VIP6)));
    wait_for("the switch has forgotten the group", || !is_known(&lab));
    println!("forgotten after {:?}", left.elapsed());
}
