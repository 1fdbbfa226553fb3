//! The addresses and services of the [scene](super::scene).

use ctl::request::ServiceAdd;
use ctl::{Scheduler, Tracking};

use super::model::service;

/// The VIPs of services that forward.
pub(super) const VIPS: [&str; 3] = ["192.168.0.101", "192.168.0.102", "fd00::101"];
/// Their services: VIP, protocol and a port.
pub(super) const SERVED: &[(&str, u8, u16)] = &[
    ("192.168.0.101", 6, 80),
    ("192.168.0.101", 6, 443),
    ("192.168.0.101", 6, 8_080),
    ("192.168.0.101", 17, 53),
    ("192.168.0.102", 6, 80),
    ("fd00::101", 6, 80),
    ("fd00::101", 17, 53),
];
/// A VIP whose backend does not answer.
pub(super) const SILENT: &str = "192.168.0.103";
/// The director's own addresses.
pub(super) const OWN: [&str; 3] = ["192.168.0.2", "192.168.1.2", "fd00::2"];

/// The first services.
pub(super) fn wanted() -> Vec<ServiceAdd> {
    let v4 = [("192.168.0.3", 1), ("192.168.0.4", 2), ("192.168.0.5", 1)];
    let far = [("192.168.1.6", 1), ("192.168.1.7", 3), ("192.168.2.8", 1)];
    let v6 = [("fd00::3", 1), ("fd00::4", 2), ("fd00::9", 1)];
    let with = |add: ServiceAdd, scheduler| ServiceAdd { scheduler, ..add };
    let hash = |add: ServiceAdd, hash: &str| ServiceAdd { hash: Some(hash.parse().expect("a hash")), ..add };
    let short = |add: ServiceAdd| ServiceAdd { idle_timeout_s: Some(30), ..add };
    vec![
        service("192.168.0.101:80", &v4),
        with(service("192.168.0.101:443", &v4), Scheduler::Sh),
        hash(
            service(
                "192.168.0.101:8000-8100",
                &[v4, [("192.168.1.6", 1), ("192.168.1.7", 3), ("192.168.0.9", 1)]].concat(),
            ),
            "source/24",
        ),
        short(ServiceAdd {
            tracking: Some(Tracking::All),
            ..with(service("192.168.0.101:53/udp", &v4), Scheduler::Wrr)
        }),
        with(service("192.168.0.101:any/udp", &far), Scheduler::Rr),
        ServiceAdd { tracking: Some(Tracking::None), ..service("192.168.0.102:53/udp", &v4) },
        ServiceAdd { handover_time_s: Some(7), ..service("[fd00::101]:443/udp", &v6) },
        short(with(service("192.168.0.102:80,443", &far), Scheduler::Wlc)),
        ServiceAdd { on_all_down: ctl::OnAllDown::All, ..service("192.168.0.102:any", &v4) },
        service("192.168.0.102:81", &[]),
        service("192.168.0.103:80", &[("192.168.0.9", 1)]),
        short(service("[fd00::101]:80", &v6)),
        with(service("[fd00::101]:53/udp", &v6), Scheduler::Lc),
        hash(service("[fd00::101]:any", &v6), "source/64"),
    ]
}
