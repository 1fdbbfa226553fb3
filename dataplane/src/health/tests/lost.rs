//! Probes whose silence says nothing, because the director has lost what would have said it.

use super::{Manner, Rig, SERVICES};
use crate::control::compile::compile;
use crate::state::networks::PortLink;
use crate::testing::model::{PORT, backend_mac};

#[test]
fn silence_that_is_good_is_void_where_the_director_may_have_lost_the_error() {
    for (vip, backend) in [("192.168.0.101:53/udp", "192.168.0.3"), ("[fd00::101]:53/udp", "fd00::3")] {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |wanted| {
            wanted.checks = Some(vec!["udp payload=x".parse().unwrap()]);
        });
        let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now()).remove(0);
        for _ in 0..4 {
            rig.pass(500);
            rig.lost += 1;
            rig.pass(500);
        }
        let lost = result(&rig);
        assert_eq!((lost.up, lost.passed, lost.failed), (None, 0, 0), "{lost:?}");
        assert!(lost.void >= 3, "{lost:?}");
        rig.pass(3_500);
        assert_eq!((result(&rig).up, result(&rig).failed), (Some(true), 0));
    }
}

#[test]
fn a_probe_under_way_says_nothing_when_the_directors_own_link_goes_down() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
        rig.pass(500);
        let link = |rig: &mut Rig, up| {
            let port = PortLink { up, ..PORT };
            let mac = |address| Some(backend_mac(address));
            rig.current = compile(rig.current.model.clone(), mac, &[port], rig.current.generation + 1);
            rig.engine.sync(&rig.current, rig.now());
        };
        link(&mut rig, false);
        rig.pass(3_000);
        let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now()).remove(0);
        assert_eq!((result(&rig).failed, result(&rig).void), (0, 1));
        link(&mut rig, true);
        rig.pass(2_500);
        assert!(result(&rig).failed >= 1, "{:?}", result(&rig));
    }
}
