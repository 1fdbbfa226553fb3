//! Scripts are errands: others look after them.

use std::net::IpAddr;

use super::{Manner, Rig};
use crate::commands::{Ended, How};
use crate::health::news::Seen;

#[test]
fn a_script_is_an_errand_and_what_comes_of_it_counts_once() {
    for (vip, backend) in [("192.0.2.1:80", "192.168.0.3"), ("[2001:db8::1]:80", "fd00::3")] {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |wanted| {
            wanted.checks =
                Some(vec!["script 'command=/bin/check -x' interval=1s timeout=400ms rise=1 fall=2".parse().unwrap()]);
        });
        let address: IpAddr = backend.parse().unwrap();
        let result = |rig: &Rig| rig.engine.results(&rig.service, address, rig.now()).remove(0);
        let next = |rig: &mut Rig| {
            rig.pass(1_000);
            let mut orders = rig.engine.take_orders();
            assert_eq!(orders.len(), 1, "{orders:?}");
            orders.remove(0)
        };
        let said = |text: &str| text.to_string();
        let first = next(&mut rig);
        assert_eq!((first.command.clone(), first.limit_ms), (vec![said("/bin/check"), said("-x")], 400));
        for (name, value) in [("SHUNT_BACKEND", backend), ("SHUNT_PORT", "80"), ("SHUNT_PROTOCOL", "tcp")] {
            assert!(first.environment.contains(&(said(name), said(value))), "{:?}", first.environment);
        }
        let good = How::Exit { status: 0, said: said("all well") };
        rig.engine.hear_of(&Ended { id: first.id, how: good.clone() }, rig.now());
        assert_eq!((result(&rig).up, result(&rig).words.as_str()), (Some(true), "exit status 0: all well"));
        // What belongs to no probe, or not to this one, is no result.
        for id in [first.id, 0, u64::MAX] {
            rig.engine.hear_of(&Ended { id, how: How::Overran }, rig.now());
        }
        let hear = |rig: &mut Rig, id, how| rig.engine.hear_of(&Ended { id, how }, rig.now());
        let second = next(&mut rig).id;
        hear(&mut rig, first.id, How::Overran);
        hear(&mut rig, second, How::NotBegun { why: said("too many others wait") });
        assert_eq!((result(&rig).passed, result(&rig).failed, result(&rig).void), (1, 0, 1));
        let third = next(&mut rig).id;
        hear(&mut rig, third, How::Overran);
        let fourth = next(&mut rig).id;
        hear(&mut rig, fourth, How::Exit { status: 2, said: said("disk full") });
        let now = result(&rig);
        assert_eq!((now.up, now.failed, now.words.as_str()), (Some(false), 2, "exit status 2: disk full"));
        assert!(rig.engine.take_verdicts().is_some());
        let seen = rig.engine.take_sightings();
        assert!(
            matches!(&seen[0], Seen::Fault(sighting) if sighting.text.contains("did not end in 400ms")),
            "{seen:?}"
        );
        // Nobody says what became of it.
        let silent = next(&mut rig).id;
        rig.pass(2_500);
        assert_eq!((result(&rig).failed, result(&rig).void), (2, 2), "errand {silent}");
        hear(&mut rig, silent, good.clone());
        assert_eq!(result(&rig).passed, 1);
        // The next one is late, and begins as soon as this one is over.
        let waiting = rig.engine.take_orders().pop().unwrap().id;
        rig.pass(50);
        assert_eq!(rig.engine.take_orders(), []);
        hear(&mut rig, waiting, good.clone());
        rig.pass(5);
        assert_eq!(rig.engine.take_orders().len(), 1);
    }
}
