//! What is asked when a check fails, and how often.

use std::time::Duration;

use ctl::request::ServiceAdd;

use crate::base::token_bucket::TokenBucket;
use crate::control::fault::FaultKind;
use crate::health::news::Seen;
use crate::health::tests::{Manner, Rig, SERVICES};
use crate::testing::model::backend_mac;

#[test]
fn a_backend_that_answers_nothing_is_mute_and_a_round_waits_until_that_is_known() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
        rig.pass(1_100);
        assert_eq!(rig.faults(), [] as [&str; 0]);
        assert!(!rig.engine.is_known_since(rig.begin), "questions are under way");
        rig.pass(450);
        assert!(rig.engine.is_known_since(rig.begin));
        let seen = rig.engine.take_sightings();
        let [Seen::Mute { sighting, since }] = &seen[..] else { panic!("{seen:?}") };
        assert!(sighting.kind == FaultKind::Hung && sighting.text.contains("and nothing else"), "{sighting:?}");
        assert!(*since >= rig.begin + Duration::from_secs(1) && *since < rig.now());
        // Nobody asks for the MAC address of a pinned one.
        let pin = |wanted: &mut ServiceAdd| wanted.backends[0].mac = Some(backend_mac(backend.parse().unwrap()));
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, pin);
        rig.pass(1_550);
        let seen = rig.engine.take_sightings();
        assert!(
            matches!(&seen[..], [Seen::Silent(_), Seen::Fault(sighting)] if sighting.text.contains("pinned")),
            "{seen:?}"
        );
    }
}

#[test]
fn a_check_that_goes_on_failing_is_diagnosed_now_and_then() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |wanted| {
            wanted.checks = Some(vec!["tcp interval=100ms".parse().unwrap()]);
        });
        rig.pass(10_000);
        // Two pings each; a hundred probes have failed.
        assert!((8..=14).contains(&rig.pings), "{}", rig.pings);
        assert!(rig.faults().len() > 60, "the fault is told again, all the same");
        // Another trouble is asked about at once.
        rig.manner = Manner::Refuse;
        rig.pass(550);
        assert_eq!(rig.faults().last(), Some(&"service-closed"));
        // No more than so many in a second, of all checks together.
        rig.engine.questions = TokenBucket::new(0, 1);
        (rig.pings, rig.manner) = (0, Manner::Silent);
        rig.pass(5_000);
        assert_eq!(rig.pings, 0);
    }
}
