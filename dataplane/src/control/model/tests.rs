//! What the model accepts, and what it refuses.

use std::sync::Arc;

use ctl::request::{BackendEdit, MacChange, ServiceAdd};
use ctl::{Passive, Protocol, Scheduler, Tracking};

use super::*;
use crate::base::ids::NetworkNo;
use crate::testing::model::{backend, leases, model, network, service};

#[test]
fn a_table_does_not_depend_on_the_order_in_which_backends_were_added() {
    let (mut one, mut other) = (model(), model());
    one.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 3)]), &leases()).unwrap();
    other.add_service(&service("192.168.0.101:80", &[("192.168.0.4", 3)]), &leases()).unwrap();
    let id = service("192.168.0.101:80", &[]).service;
    other.add_backend(&id, &backend("192.168.0.3", 1), &leases()).unwrap();
    other.renew_all(&Reachability { outlook: &Outlook::default(), resolved: &|_| true });
    assert_eq!(one.services[&id].table, other.services[&id].table);
}

#[test]
fn an_edit_that_leaves_weights_alone_keeps_the_table() {
    let mut model = model();
    model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &leases()).unwrap();
    let id = service("192.168.0.101:80", &[]).service;
    let before = model.services[&id].table.clone();
    let mac = Some(MacChange::Pin("02:00:00:00:00:03".parse().unwrap()));
    let address = "192.168.0.3".parse().unwrap();
    model.edit_backend(&BackendEdit { service: id, address, weight: None, mac }).unwrap();
    assert!(Arc::ptr_eq(&model.services[&id].table, &before));
}

#[test]
fn services_that_cannot_work_are_refused() {
    let add = |vip: &str, backends: &[(&str, u32)]| {
        let mut model = model();
        let error = model.add_service(&service(vip, backends), &leases()).unwrap_err();
        assert!(model.services.is_empty());
        error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
    };
    for (vip, backends, says) in [
        ("192.168.0.2:80", &[][..], "own address"),
        ("224.0.0.1:80", &[], "not an address that a single host"),
        ("[::ffff:192.0.2.1]:80", &[], "IPv4"),
        ("[fe80::1]:80", &[], "link-local"),
        ("192.168.0.101:80", &[("10.9.9.9", 1)], "192.168.0.0/24 (lan0)"),
        ("192.168.0.101:80", &[("192.168.0.3", 65_536)], "65535"),
        ("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.3", 2)], "already"),
        ("192.168.0.101:80", &[("fd00::3", 1)], "family"),
        ("192.168.0.101:80", &[("192.168.0.101", 1)], "is a VIP"),
        ("192.168.0.101:80", &[("192.168.0.2", 1)], "own address"),
        ("192.168.0.101:80", &[("192.168.0.255", 1)], "not an address that a single host"),
    ] {
        assert!(add(vip, backends).contains(says), "{vip} {backends:?}: {}", add(vip, backends));
    }
}

#[test]
fn whether_clients_get_answers_is_seen_of_tcp_alone() {
    for (vip, backend) in [("192.168.0.101:53", "192.168.0.3"), ("[fd00::101]:53", "fd00::3")] {
        for (protocol, wish, good) in [
            (Protocol::Udp, Passive::Remove, false),
            (Protocol::Sctp, Passive::Remove, false),
            (Protocol::Udp, Passive::Report, true),
            (Protocol::Tcp, Passive::Remove, true),
        ] {
            let (mut model, mut wanted) = (model(), service(vip, &[(backend, 1)]));
            (wanted.service.protocol, wanted.passive) = (protocol, Some(wish));
            let added = model.add_service(&wanted, &leases());
            assert_eq!(added.is_ok(), good, "{protocol} {wish}");
            assert!(added.err().into_iter().flatten().all(|error| error.field() == "passive"));
        }
    }
}

#[test]
fn all_errors_are_returned_at_once() {
    let wrong = service("192.168.0.2:80", &[("10.9.9.9", 1), ("192.168.0.3", 1), ("192.168.0.4", 99_999)]);
    assert_eq!(model().add_service(&wrong, &leases()).unwrap_err().len(), 3);
}

#[test]
fn a_backends_port_is_the_services() {
    let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
    wanted.backends[0].port = Some(8080);
    let errors = model().add_service(&wanted, &leases()).unwrap_err();
    assert!(errors[0].to_string().contains("8080"), "{errors:?}");
    wanted.backends[0].port = Some(80);
    assert!(model().add_service(&wanted, &leases()).is_ok());
}

#[test]
fn services_of_one_vip_may_overlap_where_one_is_more_specific() {
    let mut model = model();
    let mut add = |vip| model.add_service(&service(vip, &[]), &leases());
    for vip in ["192.168.0.101:80", "192.168.0.101:any", "192.168.0.101:1-100", "192.168.0.102:80"] {
        assert_eq!(add(vip), Ok(()), "{vip}");
    }
    for vip in ["192.168.0.101:80,443", "192.168.0.101:50-149", "192.168.0.101:79,80"] {
        let errors = add(vip);
        let overlaps = errors.as_ref().is_err_and(|errors| errors[0].to_string().contains("overlap"));
        assert_eq!(overlaps, vip != "192.168.0.101:79,80", "{vip}: {errors:?}");
    }
}

#[test]
fn a_vip_is_found_whatever_its_ports() {
    let mut model = model();
    model.add_service(&service("192.168.0.101:443", &[]), &leases()).unwrap();
    assert!(model.is_vip("192.168.0.101".parse().unwrap()));
    assert!(!model.is_vip("192.168.0.100".parse().unwrap()));
    assert!(!model.is_vip("192.168.0.102".parse().unwrap()));
}

#[test]
fn the_most_specific_network_wins() {
    let networks = vec![
        network("wide", 0, "", &["10.0.0.1/8"]),
        network("narrow", 1, "", &["10.1.0.1/16"]),
        network("narrow", 1, "7", &["10.1.7.1/24"]),
    ];
    let model = Model::new([0; 16], 31, networks);
    for (address, network) in [("10.1.0.9", Some(1)), ("10.1.7.9", Some(2)), ("10.2.0.9", Some(0)), ("11.0.0.1", None)]
    {
        assert_eq!(model.network_towards(address.parse().unwrap()), network.map(NetworkNo::new), "{address}");
    }
}

#[test]
fn a_change_hands_over_for_as_long_as_the_protocol_needs() {
    let times = |vip: &str, change: fn(&mut ServiceAdd)| {
        let (mut model, mut wanted) = (model(), service(vip, &[("192.168.0.3", 1)]));
        change(&mut wanted);
        model.add_service(&wanted, &leases()).unwrap();
        let service = &model.services[&wanted.service];
        (service.idle_ms / 1_000, service.handover_ms / 1_000)
    };
    let [tcp, udp, sctp] = ["tcp", "udp", "sctp"].map(|protocol| format!("192.168.0.101:80/{protocol}"));
    assert_eq!([&tcp, &sctp, &udp].map(|vip| times(vip, |_| {})), [(900, 900), (900, 900), (300, 30)]);
    let idle: fn(&mut ServiceAdd) = |wanted| wanted.idle_timeout_s = Some(20);
    assert_eq!([&tcp, &sctp, &udp].map(|vip| times(vip, idle)), [(20, 20), (20, 20), (20, 20)]);
    let handover: fn(&mut ServiceAdd) = |wanted| wanted.handover_time_s = Some(60);
    assert_eq!([&tcp, &sctp, &udp].map(|vip| times(vip, handover)), [(900, 60), (900, 60), (300, 60)]);
    assert_eq!(times(&udp, |wanted| wanted.tracking = Some(Tracking::None)), (300, 0));
}

#[test]
fn tracking_none_is_refused_where_flows_would_break() {
    let refused = |vip: &str, change: fn(&mut ServiceAdd)| {
        let mut wanted = ServiceAdd { tracking: Some(Tracking::None), ..service(vip, &[]) };
        change(&mut wanted);
        let errors = model().add_service(&wanted, &leases()).err().unwrap_or_default();
        errors.into_iter().map(|error| (error.field(), error.to_string())).collect::<Vec<_>>()
    };
    for (vip, change, field, says) in [
        ("192.168.0.101:80", (|_| {}) as fn(&mut ServiceAdd), "tracking", "over tcp"),
        ("[fd00::101]:80/sctp", |_| {}, "tracking", "over sctp"),
        ("192.168.0.101:80/udp", |wanted| wanted.scheduler = Scheduler::Wlc, "tracking", "decides flow by flow"),
        ("192.168.0.101:80/udp", |wanted| wanted.handover_time_s = Some(9), "handover_time", "leave handover_time out"),
    ] {
        let refused = refused(vip, change);
        assert!(refused.len() == 1 && refused[0].0 == field && refused[0].1.contains(says), "{vip}: {refused:?}");
    }
    assert_eq!(refused("192.168.0.101:53/udp", |wanted| wanted.scheduler = Scheduler::Sh), []);
}

/// Three backends with weights 1, 2 and 1; the first is then drained.
fn shares(vip: &str, change: fn(&mut ServiceAdd)) -> [Vec<f64>; 2] {
    let (mut model, mut wanted) =
        (model(), service(vip, &[("192.168.0.3", 1), ("192.168.0.4", 2), ("192.168.0.5", 1)]));
    change(&mut wanted);
    model.add_service(&wanted, &leases()).unwrap();
    let shares = |model: &Model| -> Vec<f64> {
        // In hundredths. The table has 1,021 slots.
        model.services[&wanted.service].shares().into_iter().map(|share| (share * 100.0).round()).collect()
    };
    model.now_ms = 30_000;
    let before = shares(&model);
    model.drain_backend(&wanted.service, "192.168.0.3".parse().unwrap(), None).unwrap();
    [before, shares(&model)]
}

#[test]
fn a_share_is_what_new_flows_really_get() {
    let (tcp, udp) = ("192.168.0.101:80", "192.168.0.101:80/udp");
    for (vip, change, before, after) in [
        (tcp, (|_| {}) as fn(&mut ServiceAdd), [25.0, 50.0, 25.0], [0.0, 67.0, 33.0]),
        // Of UDP, new flows are not known from old ones.
        (udp, |_| {}, [25.0, 50.0, 25.0], [25.0, 50.0, 25.0]),
        (udp, |wanted| wanted.tracking = Some(Tracking::All), [25.0, 50.0, 25.0], [0.0, 67.0, 33.0]),
        (udp, |wanted| wanted.tracking = Some(Tracking::None), [25.0, 50.0, 25.0], [0.0, 67.0, 33.0]),
        (udp, |wanted| wanted.scheduler = Scheduler::Wrr, [25.0, 50.0, 25.0], [0.0, 67.0, 33.0]),
        (tcp, |wanted| wanted.scheduler = Scheduler::Rr, [33.0, 33.0, 33.0], [0.0, 50.0, 50.0]),
        (tcp, |wanted| wanted.scheduler = Scheduler::Lc, [33.0, 33.0, 33.0], [0.0, 50.0, 50.0]),
        (udp, |wanted| wanted.scheduler = Scheduler::Wlc, [25.0, 50.0, 25.0], [0.0, 67.0, 33.0]),
    ] {
        assert_eq!(shares(vip, change), [before.to_vec(), after.to_vec()], "{vip}");
    }
}

#[test]
fn in_an_outage_the_share_is_that_of_the_stand_ins() {
    for scheduler in Scheduler::ALL.iter().copied() {
        let mut model = model();
        let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1), ("192.168.0.5", 1)]);
        wanted.scheduler = scheduler;
        model.add_service(&wanted, &leases()).unwrap();
        model.take_note(&wanted.service, &Outlook::with_down(["192.168.0.4".parse().unwrap()]));
        let shares = model.services[&wanted.service].shares();
        assert!(shares[1] == 0.0 && (0.4..0.6).contains(&shares[0]), "{scheduler}: {shares:?}");
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{scheduler}: {shares:?}");
    }
}

#[test]
fn checks_ask_for_no_more_probes_than_can_be_made() {
    let backends: Vec<String> = (3..=202).map(|last| format!("192.168.0.{last}")).collect();
    let listed: Vec<(&str, u32)> = backends.iter().map(|backend| (backend.as_str(), 1)).collect();
    let (mut model, leases) = (model(), leases());
    let wanted = |vip: &str, interval: &str| {
        let checks = Some(vec![format!("tcp interval={interval}").parse().unwrap()]);
        ServiceAdd { checks, ..service(vip, &listed) }
    };
    // Ten probes a second each.
    for number in 0..10 {
        model.add_service(&wanted(&format!("192.168.0.250:{}", 1_000 + number), "100ms"), &leases).unwrap();
    }
    let error = model.add_service(&wanted("192.168.0.250:80", "1s"), &leases).unwrap_err().remove(0);
    assert_eq!(error, ModelError::TooManyProbes(20_200));
    assert_eq!((error.field().as_str(), model.services.len()), ("checks", 10));
    assert_eq!(
        model.add_backend(&"192.168.0.250:1000".parse().unwrap(), &backend("192.168.0.203", 1), &leases),
        Err(ModelError::TooManyProbes(20_010))
    );
    model.add_service(&service("192.168.0.250:53/udp", &listed), &leases).unwrap();
}
