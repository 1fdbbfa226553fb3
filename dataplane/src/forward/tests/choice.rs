//! The choice of a packet's backend.

use std::sync::Arc;

use crate::control::compile::compile;
use crate::control::model::Model;
use crate::count::lease::Leases;
use crate::forward::tests::rig::Rig;
use crate::testing::frame::eth;
use crate::testing::model::PORT;
use crate::testing::model::backend;
use crate::testing::model::backend_mac;
use crate::testing::model::model;
use crate::testing::model::service;

#[test]
fn flows_spread_by_weight_and_stay_where_they_are() {
    let mut model = model();
    let leases = Leases::new(vec![]);
    model.table_size = crate::base::limits::DEFAULT_TABLE_SIZE;
    model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 3), ("192.168.0.4", 1)]), &leases).unwrap();
    let mut rig = Rig::new(model);
    let flows = || (1024..31_024).map(|port| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).syn());
    rig.receive(flows());
    let first = rig.sent();
    rig.receive(flows());
    assert_eq!(rig.sent(), first);
    let to_first = first.iter().filter(|frame| frame[5] == 3).count() as f64 / first.len() as f64;
    // Five standard deviations of 30,000 fair draws.
    assert!((to_first - 0.75).abs() < 0.0125, "{to_first}");
}

/// An error goes to the backend of the flow, whichever host sends it: it has the same slot in a table of many backends.
#[test]
fn an_icmp_error_follows_the_flow_that_it_quotes() {
    let mut model = model();
    let backends: Vec<(String, u32)> = (10..60).map(|last| (format!("192.168.0.{last}"), 1)).collect();
    let backends: Vec<(&str, u32)> = backends.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
    model.add_service(&service("192.168.0.101:80", &backends), &Leases::new(vec![])).unwrap();
    let mut rig = Rig::new(model);
    for port in 1024..1524 {
        let request = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).syn();
        let reply = eth().ipv4("192.168.0.101", "10.0.0.1").tcp(80, port).ack();
        let error = eth().ipv4("172.16.0.9", "192.168.0.101").icmp(1, 3, 4, &[&[0; 4], &reply[14..42]].concat());
        let [request, error] = [rig.fate(&request).unwrap(), rig.fate(&error).unwrap()];
        assert_eq!(request[..6], error[..6], "port {port}");
    }
}

/// Services that share cells of the table of VIPs, and ranges of ports: each frame finds its own service.
#[test]
fn each_of_many_services_gets_its_frames() {
    let (mut model, leases) = (model(), Leases::new(vec![]));
    for last in 10..60 {
        let address = format!("192.168.0.{last}");
        let backend = [(address.as_str(), 1)];
        for first in [1, 31, 61, 91] {
            // Consecutive ports would be a range.
            let ports: Vec<String> = (first..first + 30).step_by(2).map(|port| port.to_string()).collect();
            let vip = format!("192.168.1.{last}:{}", ports.join(","));
            model.add_service(&service(&vip, &backend), &leases).unwrap();
        }
        model.add_service(&service(&format!("192.168.1.{last}:200-300"), &backend), &leases).unwrap();
    }
    let mut rig = Rig::new(model);
    for port in (1..120).step_by(2).chain([200, 300]) {
        let frames = (10..60).map(|last| eth().ipv4("10.0.0.1", &format!("192.168.1.{last}")).tcp(7, port).syn());
        rig.receive(frames);
        let to: Vec<u8> = rig.sent().iter().map(|frame| frame[5]).collect();
        assert_eq!(to, (10..60).collect::<Vec<u8>>(), "port {port}");
    }
}

#[test]
fn clients_stay_with_a_backend_if_their_address_decides() {
    let backends: Vec<(String, u32)> = (10..60).map(|last| (format!("192.168.0.{last}"), 1)).collect();
    let backends: Vec<(&str, u32)> = backends.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
    let mut model = model();
    for (vip, hash) in
        [("192.168.0.101:80", "source"), ("192.168.0.101:443", "source"), ("192.168.0.102:80", "source/24")]
    {
        let hash = Some(hash.parse().unwrap());
        model.add_service(&ctl::request::ServiceAdd { hash, ..service(vip, &backends) }, &Leases::new(vec![])).unwrap();
    }
    let mut rig = Rig::new(model);
    let mut backend_of =
        |client: &str, vip: &str, from, to| rig.fate(&eth().ipv4(client, vip).tcp(from, to).syn()).unwrap()[5];
    let mut seen = std::collections::HashSet::new();
    for last in 1..100 {
        let client = format!("10.0.0.{last}");
        let first = backend_of(&client, "192.168.0.101", 1_000, 80);
        for from in 1_001..1_020 {
            assert_eq!(backend_of(&client, "192.168.0.101", from, 80), first);
        }
        assert_eq!(backend_of(&client, "192.168.0.101", 1_000, 443), first, "another service, the same backends");
        let network = backend_of("10.0.0.1", "192.168.0.102", 1, 80);
        assert_eq!(backend_of(&client, "192.168.0.102", 7, 80), network, "one network is one client");
        seen.insert(first);
    }
    assert!(seen.len() > 30, "clients spread: {}", seen.len());
}

#[test]
fn a_new_snapshot_is_taken_at_the_next_turn() {
    let mut rig = Rig::example();
    let frame = || eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 81).syn();
    rig.receive([frame()]);
    assert!(rig.sent().is_empty());
    let mut changed = Model::clone(&rig.current.model);
    let id = "192.168.0.101:81".parse().unwrap();
    changed.add_backend(&id, &backend("192.168.0.4", 1), &Leases::new(vec![])).unwrap();
    rig.publisher.publish(compile(Arc::new(changed), |address| Some(backend_mac(address)), &[PORT], 2).snapshot);
    rig.receive([frame()]);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.counters.generation.read(), 2);
}
