//! The control socket's lines, through decoding and into a real director, whose state is kept from line to line. Where the first
//! byte is 0, the rest decides which requests to write, so that more of them get past the decoder.
#![no_main]

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use ctl::answer::{Envelope, Outcome};
use ctl::request::{
    self, BackendAdd, BackendDrain, BackendEdit, BackendName, BackendSpec, CheckSpec, EventQuery, FallbackChange, MacChange, Request,
    ServiceAdd, ServiceEdit,
};
use ctl::{FlowHash, Mac, OnAllDown, Passive, Protocol, Scheduler, ServiceId, Start, Tracking, verb};
use dataplane::api::{Facts, answer, decode};
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::control::director::Director;
use dataplane::wire::flow::{Flow, Transport};
use dataplane::control::model::{Backend, Contact, Duty, Model, Outlook, Reach, Service};
use dataplane::base::ids::BackendNo;
use dataplane::control::compile::Compiled;
use dataplane::testing::choices::Choices;
use dataplane::testing::facts::facts as facts_of;
use dataplane::testing::model::{PORT, PORT_MAC, model};
use dataplane::state::vips::LastService;
use libfuzzer_sys::fuzz_target;

/// Nothing is counted here; making them takes longer than all the rest.
static COUNTERS: LazyLock<Arc<WorkerCounters>> = LazyLock::new(|| Arc::new(WorkerCounters::new(1)));

fuzz_target!(|bytes: &[u8]| {
    let facts = facts();
    match bytes {
        [0, rest @ ..] => {
            let mut choices = Choices::new(rest);
            while !choices.is_empty() {
                if choices.one_in(8) {
                    network(&facts.director, &mut choices);
                    check(&facts.director.current());
                    continue;
                }
                let request = request(&mut choices);
                let written = request::Envelope { version: ctl::VERSION, request: request.clone() };
                let line = serde_json::to_vec(&written).expect("requests can be written");
                assert_eq!(decode::request(&line), Ok(request), "what is written is understood");
                carry_out(&facts, &line);
            }
        }
        lines => lines.split(|&byte| byte == b'\n').for_each(|line| carry_out(&facts, line)),
    }
});

fn facts() -> Facts {
    let workers = vec![COUNTERS.clone()];
    let leases = Leases::new(workers.clone());
    let model = Model::new([1; 16], 61, model().networks.to_vec());
    facts_of(Arc::new(Director::new(model, leases, workers, vec![PORT])))
}

/// As the socket's server does. A change is a new snapshot; a refusal and a question change nothing.
fn carry_out(facts: &Facts, line: &[u8]) {
    let before = facts.director.current();
    let outcome = match decode::request(line) {
        Ok(request) => {
            let changes = request.changes();
            let outcome = answer(facts, request);
            let done = changes && matches!(outcome, Outcome::Ok(_));
            let after = facts.director.current();
            assert_eq!(after.generation, before.generation + u64::from(done));
            assert_eq!(Arc::ptr_eq(&after.model, &before.model), !done);
            outcome
        }
        Err(refusal) => Outcome::Error(refusal),
    };
    if let Outcome::Error(refusal) = &outcome {
        assert!(!refusal.message.is_empty());
    }
    let written = serde_json::to_vec(&Envelope { version: ctl::VERSION, outcome }).expect("answers can be written");
    let _: Envelope = serde_json::from_slice(&written).expect("shuntctl understands it");
    // A change may name backends that have failed; others stand in for these, until its tables follow.
    while facts.director.catch_up() {}
    check(&facts.director.current());
}

/// What holds of each snapshot.
fn check(snapshot: &Compiled) {
    let Model { services, .. } = &*snapshot.model;
    assert_eq!(snapshot.services.len(), services.len());
    assert_eq!(snapshot.targets.len(), services.values().map(|service| service.backends.len()).sum::<usize>());
    let vips: HashSet<IpAddr> = services.keys().map(|id| id.vip).collect();
    for (id, service) in services {
        assert_eq!(*id, service.id);
        assert!(!snapshot.model.is_own(id.vip));
        assert!(service.backends.is_sorted_by(|a, b| a.address < b.address));
        assert!(service.backends.iter().all(|backend| !vips.contains(&backend.address)));
        check_table(service);
        for range in id.port.ranges() {
            let transport = Transport::new(1, range.first, id.protocol.number());
            let flow = match id.vip {
                IpAddr::V4(vip) => Flow::V4 { source: 1, destination: vip.to_bits(), transport },
                IpAddr::V6(vip) => Flow::V6 { source: 1, destination: vip.to_bits(), transport },
            };
            assert!(snapshot.service(&flow, &mut LastService::default()).is_some(), "{id} has no port {}", range.first);
        }
    }
}

/// The slots are those of backends that take new flows, and of all of these together.
fn check_table(service: &Service) {
    let table = &service.table;
    assert_eq!(table.len(), 61);
    let mut slots = vec![0; service.backends.len()];
    let held = table.iter().filter(|&&number| number != BackendNo::NONE);
    held.for_each(|&number| slots[number.index()] += 1);
    for (backend, slots) in service.backends.iter().zip(&slots) {
        assert_eq!(backend.slots, *slots, "{} of {}", backend.address, service.id);
        let wanted = backend.joined && backend.weight > 0 && backend.duty == Duty::Serve;
        assert!(*slots == 0 || wanted && service.serves(backend), "{} of {}", backend.address, service.id);
    }
    // What may only seem dead gives its slots to a backend that answers, and to no other.
    let takes = |b: &Backend| b.joined && b.weight > 0 && b.duty == Duty::Serve && b.contact != Contact::Down;
    let somebody = service.backends.iter().any(takes);
    let held = slots.iter().sum::<u32>();
    assert!(held == 61 || held == 0 && !somebody, "{held} slots of {} are held", service.id);
    if let Some(handover) = &service.handover {
        let legal = |&number: &BackendNo| number == BackendNo::NONE || number.index() < service.backends.len();
        assert!(handover.had.len() == table.len() && handover.had.iter().all(legal));
    }
}

/// What the network tells the director.
fn network(director: &Director, choices: &mut Choices<'_>) {
    let some = |choices: &mut Choices<'_>| -> Vec<IpAddr> { (0..choices.below(5)).map(|_| address(choices)).collect() };
    let macs: Vec<(IpAddr, Option<Mac>)> = match choices.below(2) {
        0 => Vec::new(),
        _ => {
            let mac = |choices: &mut Choices<'_>| Some(Mac([2, 0, 0, 0, 0, choices.byte()])).filter(|mac| mac.0[5] > 9);
            some(choices).into_iter().map(|address| (address, mac(choices))).collect()
        }
    };
    let reaches = [Reach::Asked, Reach::Silent, Reach::NoLink, Reach::Down];
    let outlook: Outlook = some(choices).into_iter().map(|address| (address, *choices.of(&reaches))).collect();
    director.hear(&macs, &outlook);
    while director.catch_up() {}
    director.reclaim();
}

fn address(choices: &mut Choices<'_>) -> IpAddr {
    let number = choices.byte();
    match number >> 6 {
        0 | 1 => [192, 168, 0, 1 + number % 8].into(),
        2 => [0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::from(number % 8)].into(),
        _ => *choices.of(&[
            [192, 168, 0, 255].into(),
            [10, 0, 0, 1].into(),
            [224, 0, 0, 1].into(),
            [0, 0, 0, 0].into(),
            [203, 0, 113, 5].into(),
            [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
            [0, 0, 0, 0, 0, 0xffff, 0xc0a8, 3].into(),
        ]),
    }
}

fn service(choices: &mut Choices<'_>) -> ServiceId {
    const PORTS: [&str; 8] = ["80", "443", "80,443", "1-65535", "any", "8000-8100", "8050-8200", "53,80-90"];
    let number = choices.byte();
    let vip = match number & 3 {
        0 | 1 => [192, 168, 0, 101 + (number & 1)].into(),
        2 => [0xfd00, 0, 0, 0, 0, 0, 0, 0x101].into(),
        _ => address(choices),
    };
    let port = PORTS[usize::from(number >> 2 & 7)].parse().expect("ports");
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Tcp][usize::from(number >> 5 & 3)];
    ServiceId { vip, port, protocol }
}

fn weight(choices: &mut Choices<'_>) -> u32 {
    *choices.of(&[0, 1, 1, 2, 3, 7, 100, 65_535, 65_536, u32::MAX])
}

fn mac(choices: &mut Choices<'_>) -> Mac {
    *choices.of(&[Mac([2, 0, 0, 0, 0, 3]), Mac([1, 0, 0x5e, 0, 0, 1]), Mac([0xff; 6]), Mac([0; 6]), PORT_MAC])
}

fn backend(choices: &mut Choices<'_>) -> BackendSpec {
    let port = choices.one_in(8).then(|| *choices.of(&[80, 443, 0, 65_535]));
    let mac = choices.one_in(4).then(|| mac(choices));
    let disabled = choices.one_in(8);
    BackendSpec { address: address(choices), port, weight: weight(choices), mac, disabled }
}

fn maybe<T: Copy>(choices: &mut Choices<'_>, values: &[T]) -> Option<T> {
    choices.one_in(2).then(|| *choices.of(values))
}

/// One of those that take no arguments, by the API's table.
fn plain(choices: &mut Choices<'_>) -> Request {
    let plain: Vec<&verb::Row> = verb::ALL.iter().filter(|row| !row.takes_arguments).collect();
    let read = Request::read(choices.of(&plain).name, serde_json::Value::Null);
    read.expect("the table knows it").expect("it takes no arguments")
}

/// Checks that work, and some that cannot.
fn check_spec(choices: &mut Choices<'_>) -> CheckSpec {
    let text = choices.of(&[
        "none",
        "arp",
        "icmp to=backend",
        "tcp interval=100ms rise=1 fall=1",
        "tcp port=8080 timeout=50ms",
        "http host=www.example.org status=200,301-302 body=^well",
        "http body=(",
        "udp port=53 'payload=\\x00'",
        "dns name=www.example.org record=AAAA answer=2001:db8::1",
        "dns",
        "tcp interval=2h",
        "https host=www.example.org sni=example.org",
        "https verify=/does/not/exist host=a",
    ]);
    text.parse().expect("it is the text of a check")
}

fn request(choices: &mut Choices<'_>) -> Request {
    match choices.below(22) {
        0 | 1 | 3..=6 => plain(choices),
        2 => Request::ServiceShow(service(choices)),
        7 => {
            let since = maybe(choices, &[0, 1, 5, u64::MAX]);
            Request::Events(EventQuery { since, limit: maybe(choices, &[0, 1, 3, usize::MAX]) })
        }
        8..=11 => Request::ServiceAdd(ServiceAdd {
            scheduler: *choices.of(Scheduler::ALL),
            hash: maybe(
                choices,
                &[FlowHash::FiveTuple, source(None), source(Some(1)), source(Some(33)), source(Some(128))],
            ),
            tracking: maybe(choices, &[Tracking::Exceptions, Tracking::All, Tracking::None]),
            idle_timeout_s: maybe(choices, &[0, 1, 30, 7_200, 7_201, u32::MAX]),
            handover_time_s: maybe(choices, &[0, 1, 30, 7_200, 7_201, u32::MAX]),
            on_all_down: *choices.of(&[OnAllDown::Drop, OnAllDown::All]),
            checks: choices.one_in(2).then(|| (0..choices.below(10)).map(|_| check_spec(choices)).collect()),
            min_up: maybe(choices, &[0, 1, 50, 100, 101]),
            start: *choices.of(&[Start::Down, Start::Up]),
            fallback: choices.one_in(4).then(|| address(choices)),
            slow_start_s: maybe(choices, &[0, 1, 60, 3_601]),
            passive: maybe(choices, &[Passive::Off, Passive::Report, Passive::Remove]),
            backends: (0..choices.below(6)).map(|_| backend(choices)).collect(),
            ..ServiceAdd::new(service(choices), Vec::new())
        }),
        12 => Request::ServiceRemove(service(choices)),
        13 | 14 => Request::BackendAdd(BackendAdd { service: service(choices), backend: backend(choices) }),
        15 | 16 => {
            let mac = maybe(
                choices,
                &[MacChange::Resolve, MacChange::Pin(Mac([2, 0, 0, 0, 0, 9])), MacChange::Pin(PORT_MAC)],
            );
            let weight = choices.one_in(2).then(|| weight(choices));
            Request::BackendEdit(BackendEdit { service: service(choices), address: address(choices), weight, mac })
        }
        17 => Request::BackendDrain(BackendDrain {
            service: service(choices),
            address: address(choices),
            deadline_s: maybe(choices, &[0, 1, 60, u32::MAX]),
        }),
        18 => Request::BackendDisable(BackendName { service: service(choices), address: address(choices) }),
        19 => Request::ServiceEdit(ServiceEdit {
            scheduler: maybe(choices, Scheduler::ALL),
            on_all_down: maybe(choices, &[OnAllDown::Drop, OnAllDown::All]),
            checks: choices.one_in(2).then(|| (0..choices.below(10)).map(|_| check_spec(choices)).collect()),
            min_up: maybe(choices, &[0, 50, 100, 101]),
            slow_start_s: maybe(choices, &[0, 1, 60, 3_601]),
            passive: maybe(choices, &[Passive::Off, Passive::Report, Passive::Remove]),
            fallback: choices.one_in(4).then(|| match choices.one_in(2) {
                true => FallbackChange::Use(address(choices)),
                false => FallbackChange::None,
            }),
            ..ServiceEdit::new(service(choices))
        }),
        20 => Request::BackendEnable(BackendName { service: service(choices), address: address(choices) }),
        _ => Request::BackendRemove(BackendName { service: service(choices), address: address(choices) }),
    }
}

fn source(prefix: Option<u8>) -> FlowHash {
    FlowHash::Source { prefix }
}
