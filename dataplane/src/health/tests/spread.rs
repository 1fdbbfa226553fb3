//! When probes begin, of many backends.

use std::time::Duration;

use hashbrown::HashMap;

use super::{Manner, Rig, SERVICES};
use crate::health::engine::{FIRST_PORT, LAST_PORT, next_port};

/// A service with 200 backends that say nothing. A silent probe repeats its SYN.
fn many() -> Rig {
    let backends: Vec<String> = (3..=202).map(|last| format!("192.168.0.{last}")).collect();
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    Rig::new("192.168.0.250:80", &backends, Manner::Silent, |wanted| {
        wanted.checks = Some(vec!["tcp interval=400ms".parse().unwrap()]);
    })
}

fn are_spread(rig: &Rig, from: u64, to: u64) {
    let count = |from: u64| rig.begun.iter().filter(|&&ms| (from..from + 40).contains(&ms)).count();
    for from in (from..to).step_by(40) {
        assert!((16..=48).contains(&count(from)), "{} from {from} ms on", count(from));
    }
}

#[test]
fn probes_are_spread_over_the_interval() {
    let mut rig = many();
    rig.pass(4_000);
    are_spread(&rig, 800, 3_900);
}

#[test]
fn probes_are_spread_over_the_interval_after_the_director_was_stopped() {
    let mut rig = many();
    rig.pass(2_000);
    rig.ms += 20_000;
    rig.pass(4_000);
    are_spread(&rig, 23_500, 25_900);
    let missed = |backend: &str| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].void;
    assert!((1..=2).contains(&missed("192.168.0.3")), "its turn, and the probe that was under way");
}

#[test]
fn who_asks_all_the_time_costs_no_memory_and_keeps_nobody_from_being_asked() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Serve, |wanted| {
            wanted.checks = Some(vec!["tcp interval=1h timeout=1s".parse().unwrap()]);
        });
        for _ in 0..500 {
            rig.engine.ask_all(rig.begin + Duration::from_millis(rig.ms));
            rig.pass(20);
        }
        assert!(rig.engine.timers.len() < 200, "{} timers", rig.engine.timers.len());
        assert!(rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].passed > 100);
    }
    let mut rig = many();
    for _ in 0..20 {
        rig.engine.ask_all(rig.begin + Duration::from_millis(rig.ms));
        rig.pass(100);
    }
    for last in [3, 100, 202] {
        let backend = format!("192.168.0.{last}").parse().unwrap();
        assert!(rig.engine.results(&rig.service, backend, rig.now())[0].failed >= 3, "{backend}");
    }
}

#[test]
fn a_port_that_is_free_is_found_and_where_there_is_none_nobody_looks_for_it() {
    let mut probes: HashMap<u16, ()> = (FIRST_PORT..=LAST_PORT).map(|port| (port, ())).collect();
    let mut next = 40_000;
    assert_eq!((next_port(&probes, &mut next), next), (None, 40_000));
    probes.remove(&39_000);
    assert_eq!((next_port(&probes, &mut next), next), (Some(39_000), 39_001));
}
