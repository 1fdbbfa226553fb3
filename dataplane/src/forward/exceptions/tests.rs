//! Which flows are remembered, for how long, and which backend gets their packets.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::request::{BackendEdit, ServiceAdd};
use ctl::{Scheduler, ServiceId, Tracking};

use super::remembered::*;
use super::rules::*;
use crate::base::ids::{BackendNo, WorkerNo};
use crate::control::compile::compile;
use crate::control::model::{Model, Outlook, Reachability};
use crate::count::counters::WorkerCounters;
use crate::count::lease::Leases;
use crate::state::snapshot::Snapshot;
use crate::testing::model::{PORT, backend, backend_mac, model, service};
use crate::wire::flow::Transport;
use crate::wire::flow::{Tuple, TupleV4, TupleV6};
use crate::wire::headers::Segment;

const OLD: BackendNo = BackendNo::new(0);
const NEW: BackendNo = BackendNo::new(1);

/// A small table, and a service whose slots have all just moved from the first backend to the second.
struct Scene {
    exceptions: Exceptions,
    counters: Arc<WorkerCounters>,
    snapshot: Arc<Snapshot>,
    model: Model,
    id: ServiceId,
}

impl Scene {
    fn new(room: usize) -> Scene {
        Scene::with(service("192.168.0.101:80", &[("192.168.0.3", 1)]), room)
    }

    /// The same for IPv6.
    fn v6(room: usize) -> Scene {
        Scene::with(service("[fd00::101]:80", &[("fd00::3", 1)]), room)
    }

    fn with(wanted: ServiceAdd, room: usize) -> Scene {
        let counters = Arc::new(WorkerCounters::new(1));
        let leases = Leases::new(vec![counters.clone()]);
        let mut model = model();
        let id = wanted.service;
        model.add_service(&wanted, &leases).unwrap();
        let [old, new] = if id.vip.is_ipv4() { ["192.168.0.3", "192.168.0.4"] } else { ["fd00::3", "fd00::4"] };
        model.add_backend(&id, &backend(new, 1), &leases).unwrap();
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| true });
        model.drain_backend(&id, old.parse().unwrap(), None).unwrap();
        let snapshot = snapshot(&model);
        let room = if id.vip.is_ipv4() { Room { v4: room, v6: 3 } } else { Room { v4: 4, v6: room } };
        let exceptions = Exceptions::new(room, WorkerNo::new(0));
        Scene { exceptions, counters, snapshot, model, id }
    }

    fn change(&mut self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model);
        self.snapshot = snapshot(&self.model);
    }

    fn at(&mut self, seconds: u64) -> &mut Scene {
        self.exceptions.advance(seconds * 1_000, &self.snapshot, &self.counters);
        self
    }

    /// The backend that gets a packet of the flow from this client.
    fn ask(&mut self, source: u32, segment: Segment) -> BackendNo {
        let transport = Transport::new(1_024, 80, self.id.protocol.number()).number();
        match self.id.vip {
            IpAddr::V4(vip) => {
                let addresses = u64::from(source) << 32 | u64::from(vip.to_bits());
                self.ask_for(TupleV4 { addresses, transport }, segment)
            }
            IpAddr::V6(vip) => {
                let (source, destination) = (u128::from(source), vip.to_bits());
                self.ask_for(TupleV6 { source, destination, transport }, segment)
            }
        }
    }

    fn ask_for(&mut self, flow: impl Tuple, segment: Segment) -> BackendNo {
        let service = &self.snapshot.services[0];
        let hash = flow.hash(&self.snapshot.hasher);
        let slot = service.slot(flow, hash, &self.snapshot.hasher);
        if !self.exceptions.may_concern(service, hash) {
            return service.now(slot);
        }
        let asked = Asked { hash, segment, service, slot };
        self.exceptions.resolve(flow.into(), &asked, &self.snapshot, &self.counters)
    }

    fn full(&self) -> u64 {
        self.counters.exceptions_full.read()
    }
}

fn snapshot(model: &Model) -> Arc<Snapshot> {
    compile(Arc::new(model.clone()), |address| Some(backend_mac(address)), &[PORT], 1).snapshot
}

#[test]
fn in_a_hand_over_new_flows_move_and_old_ones_stay() {
    let mut scene = Scene::new(64);
    assert_eq!(scene.ask(1, Segment::Open), NEW);
    assert_eq!(scene.ask(1, Segment::Data), NEW);
    assert_eq!(scene.ask(2, Segment::Data), OLD);
    assert_eq!(scene.ask(2, Segment::Data), OLD);
    let (used, targets) = (scene.exceptions.books.used, &scene.counters.targets);
    assert_eq!((used, targets[0].active.read(), targets[1].active.read()), (2, 1, 1));
}

#[test]
fn after_a_hand_over_only_flows_that_differ_from_their_slot_are_kept() {
    let mut scene = Scene::new(64);
    for _ in 0..2 {
        assert_eq!(
            [scene.ask(1, Segment::Open), scene.ask(1, Segment::Data), scene.ask(2, Segment::Data)],
            [NEW, NEW, OLD]
        );
    }
    scene.at(899);
    scene.ask(1, Segment::Data);
    scene.ask(2, Segment::Data);
    scene.change(|model| {
        model.now_ms = 901_000;
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| false });
    });
    assert!(scene.snapshot.services[0].had.is_none());
    for seconds in (901..1_000).step_by(4) {
        assert_eq!((scene.at(seconds).ask(2, Segment::Data), scene.ask(3, Segment::Data)), (OLD, NEW));
    }
    assert_eq!(scene.exceptions.books.used, 1, "the flow that its slot knows is forgotten");
    for seconds in (1_000..2_000).step_by(4) {
        scene.at(seconds);
    }
    assert_eq!(scene.exceptions.books.used, 0, "idle for too long");
    assert_eq!(scene.ask(2, Segment::Data), NEW);
}

/// Whatever packets arrive, 8 entries hold 8 confirmed flows for as long as these live.
#[test]
fn floods_push_out_no_confirmed_flow() {
    let mut scene = Scene::new(8);
    for source in 0..8 {
        assert_eq!((scene.ask(source, Segment::Data), scene.ask(source, Segment::Data)), (OLD, OLD));
    }
    assert_eq!(scene.exceptions.books.used, 8, "two buckets hold them all");
    for second in 0..100u32 {
        scene.at(u64::from(second));
        for number in 0..100 {
            let stranger = 1_000 + second * 100 + number;
            assert_eq!(scene.ask(stranger, if number % 2 == 0 { Segment::Open } else { Segment::Data }), OLD);
        }
    }
    assert_eq!(scene.full(), 10_000);
    scene.change(|model| {
        model
            .edit_backend(&ctl::request::BackendEdit {
                service: model.services.keys().next().copied().unwrap(),
                address: "192.168.0.4".parse().unwrap(),
                weight: Some(5),
                mac: None,
            })
            .unwrap()
    });
    assert!((0..8).all(|source| scene.ask(source, Segment::Data) == OLD));
}

#[test]
fn a_syn_takes_only_a_free_entry_and_an_old_flow_the_oldest_on_probation() {
    let mut scene = Scene::new(8);
    for source in 0..8 {
        assert_eq!(scene.at(u64::from(source) / 4).ask(source, Segment::Open), NEW);
    }
    assert_eq!(scene.ask(100, Segment::Open), OLD, "without an entry, it goes where its next packet will go");
    assert_eq!(scene.full(), 1);
    assert_eq!(scene.ask(100, Segment::Data), OLD, "it counts as an old flow: it replaces an entry on probation");
    assert_eq!((scene.full(), scene.exceptions.books.used), (1, 8));
    let left = (0..8).filter(|&source| scene.ask(source, Segment::Related) == NEW).count();
    assert_eq!(left, 7);
    // Seconds later, probation is over, and a SYN may take such an entry, too.
    assert_eq!(scene.at(12).ask(200, Segment::Open), NEW);
    assert_eq!(scene.full(), 1);
}

/// A late repetition, a forgery, or a new connection on old ports: the backend can tell.
#[test]
fn a_syn_goes_where_the_flow_is_remembered_as_long_as_the_entry_lives() {
    for scene in [Scene::new, Scene::v6] {
        for packets in [1, 2] {
            for silent_s in [0, 3, 9, 60, 400, 896] {
                let mut scene = scene(64);
                (0..packets).for_each(|_| assert_eq!(scene.ask(1, Segment::Data), OLD));
                assert_eq!(scene.at(silent_s).ask(1, Segment::Open), OLD, "{packets} packets, {silent_s} s ago");
                assert_eq!(scene.at(silent_s + 1).ask(1, Segment::Data), OLD, "and so does what follows");
            }
            let mut scene = scene(64);
            (0..packets).for_each(|_| assert_eq!(scene.ask(1, Segment::Data), OLD));
            assert_eq!(
                (scene.at(904).ask(1, Segment::Open), scene.ask(1, Segment::Data)),
                (NEW, NEW),
                "idle for too long"
            );
        }
    }
}

#[test]
fn syns_keep_no_confirmed_entry_alive() {
    for scene in [Scene::new, Scene::v6] {
        let mut scene = scene(64);
        assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, Segment::Data)), (OLD, OLD));
        for second in (0..900).step_by(4) {
            assert_eq!(scene.at(second).ask(1, Segment::Open), OLD, "second {second}");
        }
        assert_eq!(scene.at(904).ask(1, Segment::Open), NEW);
    }
}

/// The client's own RST, in answer to the backend's challenge, ends the old connection. Then the repeated SYN opens the
/// new one.
#[test]
fn a_client_that_has_forgotten_its_connection_gets_a_new_one_after_its_rst() {
    let mut scene = Scene::new(64);
    assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, Segment::Data)), (OLD, OLD));
    scene.at(100);
    assert_eq!([Segment::Open, Segment::Rst, Segment::Open].map(|segment| scene.ask(1, segment)), [OLD, OLD, NEW]);
    assert_eq!(scene.ask(1, Segment::Data), NEW);
}

#[test]
fn a_syn_is_not_held_by_the_entry_of_a_backend_that_does_not_serve() {
    let mut scene = Scene::new(64);
    assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, Segment::Data)), (OLD, OLD));
    let id = scene.id;
    scene.change(|model| model.drain_backend(&id, "192.168.0.3".parse().unwrap(), Some(0)).unwrap());
    assert_eq!((scene.ask(1, Segment::Open), scene.ask(1, Segment::Data)), (NEW, NEW));
}

#[test]
fn after_a_fin_or_a_rst_a_syn_begins_anew_at_once() {
    for segments in [
        &[Segment::Data, Segment::Fin][..],
        &[Segment::Data, Segment::Rst],
        // The first packet since the change is the last one of the connection, or the last but one.
        &[Segment::Fin],
        &[Segment::Fin, Segment::Data],
        &[Segment::Rst],
    ] {
        for scene in [Scene::new, Scene::v6] {
            let mut scene = scene(64);
            assert!(segments.iter().all(|&segment| scene.ask(1, segment) == OLD));
            assert_eq!((scene.ask(1, Segment::Open), scene.ask(1, Segment::Data)), (NEW, NEW), "{segments:?}");
        }
    }
}

#[test]
fn a_flood_of_fins_makes_no_confirmed_entry() {
    let mut scene = Scene::new(8);
    (0..8).for_each(|source| assert_eq!(scene.ask(source, Segment::Fin), OLD));
    assert_eq!(scene.ask(100, Segment::Data), OLD);
    assert_eq!((scene.full(), scene.exceptions.books.used), (0, 8), "an old flow takes the place of a FIN");
    assert_eq!(scene.at(12).ask(200, Segment::Open), NEW, "seconds later, a SYN does, too");
}

#[test]
fn timeouts_depend_on_what_was_seen() {
    for (segments, remembered_s, forgotten_s) in [
        (&[Segment::Open][..], 56, 90),
        (&[Segment::Data, Segment::Data], 896, 940),
        (&[Segment::Data, Segment::Fin], 116, 150),
        (&[Segment::Fin], 116, 150),
        (&[Segment::Fin, Segment::Data], 116, 150),
        (&[Segment::Data, Segment::Rst], 10, 44),
        (&[Segment::Data, Segment::Rst, Segment::Data], 896, 940),
    ] {
        let used = |until: u64| {
            let mut scene = Scene::new(64);
            for &segment in segments {
                scene.ask(1, segment);
            }
            for second in 0..=until {
                scene.at(second);
            }
            scene.exceptions.books.used
        };
        assert_eq!((used(remembered_s), used(forgotten_s)), (1, 0), "{segments:?}");
    }
}

#[test]
fn packets_that_any_host_can_forge_are_not_remembered() {
    let mut scene = Scene::new(64);
    assert_eq!(scene.ask(1, Segment::Related), OLD);
    assert_eq!(scene.ask(2, Segment::Rst), OLD);
    assert_eq!(scene.exceptions.books.used, 0);
}

#[test]
fn a_backend_that_serves_no_more_is_forgotten_at_once() {
    let mut scene = Scene::new(64);
    assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, Segment::Data)), (OLD, OLD));
    let id = scene.id;
    scene.change(|model| model.remove_backend(&id, "192.168.0.3".parse().unwrap()).unwrap());
    // The second backend is the first one now.
    assert_eq!(scene.ask(1, Segment::Data), OLD);
    assert_eq!(scene.exceptions.books.used, 0);
    assert_eq!(scene.counters.targets[0].active.read(), 0);
}

#[test]
fn a_scheduler_that_decides_by_flow_is_asked_once_for_each() {
    let wanted = ServiceAdd { scheduler: Scheduler::Rr, ..service("192.168.0.101:80", &[("192.168.0.3", 1)]) };
    let mut scene = Scene::with(wanted, 4_096);
    let id = scene.id;
    scene.change(|model| model.enable_backend(&id, "192.168.0.3".parse().unwrap()).unwrap());
    let first: Vec<BackendNo> = (0..100).map(|source| scene.ask(source, Segment::Open)).collect();
    assert!(first.chunks(2).all(|pair| pair == [OLD, NEW]), "{first:?}");
    let again: Vec<BackendNo> = (0..100).map(|source| scene.ask(source, Segment::Open)).collect();
    let data: Vec<BackendNo> = (0..100).map(|source| scene.ask(source, Segment::Data)).collect();
    assert_eq!((&again, &data), (&first, &first));
    assert_eq!(scene.counters.targets[0].active.read(), 50);
}

/// A datagram does not tell whether its flow is new. So for the hand-over time, all unknown flows are old ones.
#[test]
fn in_a_hand_over_an_unknown_flow_of_udp_goes_where_its_slot_was() {
    for (vip, backend) in [("192.168.0.101:80/udp", "192.168.0.3"), ("[fd00::101]:80/udp", "fd00::3")] {
        let mut scene = Scene::with(service(vip, &[(backend, 1)]), 64);
        assert_eq!(scene.at(29).ask(1, Segment::Data), OLD);
        scene.change(|model| {
            model.now_ms = 31_000;
            model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| false });
        });
        assert_eq!((scene.at(31).ask(1, Segment::Data), scene.ask(2, Segment::Data)), (OLD, NEW), "30 s by default");
        assert_eq!(scene.at(330).ask(1, Segment::Data), OLD, "it is remembered for the idle timeout");
    }
}

/// The service has remembered all flows since it was added, for longer than a hand-over lasts.
#[test]
fn where_all_flows_of_udp_are_known_an_unknown_one_is_new() {
    let known_for = |known_ms: u64, room| {
        let wanted = service("192.168.0.101:80/udp", &[("192.168.0.3", 1)]);
        let mut scene = Scene::with(ServiceAdd { tracking: Some(Tracking::All), ..wanted }, room);
        let (id, drained) = (scene.id, "192.168.0.3".parse().unwrap());
        scene.change(|model| model.enable_backend(&id, drained).unwrap());
        scene.change(|model| {
            model.now_ms = known_ms;
            model.drain_backend(&id, drained, None).unwrap();
        });
        scene
    };
    let mut scene = known_for(29_000, 64);
    assert_eq!(scene.ask(1, Segment::Data), OLD, "the flow may be older than the service");
    scene.change(|model| {
        model.now_ms = 31_000;
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| false });
    });
    assert_eq!((scene.ask(1, Segment::Data), scene.ask(2, Segment::Data)), (OLD, NEW), "from here on, all are known");

    let mut scene = known_for(30_000, 8);
    for source in 0..8 {
        assert_eq!((scene.ask(source, Segment::Data), scene.ask(source, Segment::Data)), (NEW, NEW));
    }
    assert_eq!(scene.ask(100, Segment::Data), OLD, "without room it is not known, so it may be old");
}

#[test]
fn without_tracking_each_packet_goes_by_the_table_as_it_is() {
    let wanted = service("192.168.0.101:80/udp", &[("192.168.0.3", 1)]);
    let mut scene = Scene::with(ServiceAdd { tracking: Some(Tracking::None), ..wanted }, 64);
    assert_eq!(scene.ask(1, Segment::Data), NEW);
    let (id, drained) = (scene.id, "192.168.0.3".parse().unwrap());
    scene.change(|model| model.enable_backend(&id, drained).unwrap());
    let both: HashSet<BackendNo> = (0..100).map(|source| scene.ask(source, Segment::Data)).collect();
    assert_eq!(both.len(), 2);
    scene.change(|model| model.take_note(&id, &Outlook::with_down([drained])));
    assert!((0..100).all(|source| scene.ask(source, Segment::Data) == NEW));
    assert!(scene.snapshot.services[0].outage.is_some(), "without a new table yet");
    assert_eq!(scene.exceptions.books.used, 0, "nothing is remembered");
}

/// The ranking follows the flows: as they begin, are confirmed, end and idle out, and when weights change.
#[test]
fn with_wlc_the_backend_with_the_fewest_flows_for_its_weight_gets_the_next() {
    let wanted = ServiceAdd { scheduler: Scheduler::Wlc, ..service("192.168.0.101:80", &[("192.168.0.3", 1)]) };
    let mut scene = Scene::with(wanted, 4_096);
    let id = scene.id;
    scene.change(|model| model.enable_backend(&id, "192.168.0.3".parse().unwrap()).unwrap());
    let mut client = 0;
    let mut open = |scene: &mut Scene, flows: usize| -> Vec<(u32, BackendNo)> {
        let opened = (0..flows).map(|_| {
            client += 1;
            let backend = scene.ask(client, Segment::Open);
            assert_eq!(scene.ask(client, Segment::Data), backend);
            (client, backend)
        });
        opened.collect()
    };
    let count = |flows: &[(u32, BackendNo)], of| flows.iter().filter(|(_, backend)| *backend == of).count();
    let first = open(&mut scene, 100);
    assert_eq!((count(&first, OLD), count(&first, NEW)), (50, 50));
    // Half of one backend's flows are aborted: from then on, they weigh nearly nothing.
    let ended = first.iter().filter(|(_, backend)| *backend == OLD).take(20);
    ended.for_each(|&(client, _)| _ = scene.ask(client, Segment::Rst));
    let second = open(&mut scene, 20);
    assert_eq!(count(&second, OLD), 20);
    assert_eq!(count(&open(&mut scene, 40), OLD), 20);
    // The weight of one backend is doubled: 70 and 70 become 70 and 140.
    scene.change(|model| {
        let edit = BackendEdit { service: id, address: "192.168.0.4".parse().unwrap(), weight: Some(2), mac: None };
        model.edit_backend(&edit).unwrap();
    });
    assert_eq!(count(&open(&mut scene, 70), NEW), 70);
    assert_eq!(count(&open(&mut scene, 90), NEW), 60);
    // All flows idle out, those of the second backend earlier.
    scene.at(600);
    let old: Vec<u32> =
        first.iter().filter(|(_, backend)| *backend == OLD).map(|(client, _)| *client).skip(20).collect();
    old.iter().for_each(|&client| _ = scene.ask(client, Segment::Data));
    (600..1_200).step_by(4).for_each(|seconds| _ = scene.at(seconds));
    assert_eq!((scene.exceptions.books.used, scene.counters.targets[1].active.read()), (30, 0));
    assert_eq!(count(&open(&mut scene, 60), NEW), 60);
    assert_eq!(count(&open(&mut scene, 30), NEW), 20);
}

/// The worker pauses in the middle of a sweep, and still remembers all flows.
#[test]
fn a_pause_forgets_nothing() {
    let mut scene = Scene::new(4_096);
    for source in 0..500 {
        assert_eq!((scene.ask(source, Segment::Data), scene.ask(source, Segment::Data)), (OLD, OLD));
    }
    scene.change(|model| {
        model.now_ms = 901_000;
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| false });
    });
    for (pause_ms, steps) in [(1_000, 5), (20_000, 9), (50_000, 40), (33_333, 17), (16_001, 60)] {
        let mut now_ms = scene.exceptions.swept * SWEEP_MS / (scene.exceptions.v4.buckets() + 2) as u64 + pause_ms;
        for _ in 0..steps {
            now_ms += 700;
            scene.exceptions.advance(now_ms, &scene.snapshot, &scene.counters);
            assert!((0..500).all(|source| scene.ask(source, Segment::Data) == OLD), "after {pause_ms} ms");
        }
    }
}

/// The steady state costs nothing: without a hand-over and without exceptions, the table is not asked.
#[test]
fn without_hand_over_and_exceptions_the_table_is_not_asked() {
    let mut scene = Scene::new(64);
    scene.change(|model| {
        model.now_ms = 901_000;
        model.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| false });
    });
    let asked = |scene: &Scene| scene.exceptions.may_concern(&scene.snapshot.services[0], 7);
    assert!(!asked(&scene));
    scene.exceptions.books.used = 1;
    assert!(!asked(&scene), "other flows are remembered, this one is not");
    scene.exceptions.books.filter.mark(7);
    assert!(asked(&scene));
}
