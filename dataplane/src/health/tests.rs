//! The engine against hosts that serve, refuse or are silent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ctl::answer::Severity;
use ctl::request::ServiceAdd;
use ctl::{Mac, ServiceId};
use rustls::CertificateError;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::base::frame::Frame;
use crate::base::ids::NetworkNo;
use crate::control::compile::{Compiled, compile};
use crate::control::fault::FaultKind;
use crate::health::engine::Engine;
use crate::health::news::{News, Seen};
use crate::health::stack::Wire;
use crate::health::tls::certificate::{Complaint, Report};
use crate::health::tls::desk::Job;
use crate::testing::frame::eth;
use crate::testing::model::{PORT, backend_mac, leases, model, service};

mod damping;
mod diagnosis;
mod edit;
mod lost;
mod script;
mod spread;

/// What all backends do with what they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// They take connections.
    Serve,
    /// They refuse connections.
    Refuse,
    /// Nothing.
    Silent,
}

/// A host with one address.
struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
}

impl Host {
    fn new(address: IpAddr, listens: bool) -> Host {
        let mut wire = Wire::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, smoltcp::time::Instant::ZERO);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::from(address), bits)).unwrap());
        let mut host = Host { interface, sockets: SocketSet::new(Vec::new()), wire };
        if listens {
            host.listen();
        }
        host
    }

    fn listen(&mut self) {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 64]), SocketBuffer::new(vec![0; 64]));
        socket.listen(80).unwrap();
        self.sockets.add(socket);
    }

    /// Takes a packet; an application closes what its client has closed. Returns the answers.
    fn take(&mut self, packet: &[u8], at: Duration) -> Vec<Vec<u8>> {
        let at = smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap());
        self.wire.received = Some(packet.to_vec());
        let mut answers = Vec::new();
        for _ in 0..3 {
            self.interface.poll(at, &mut self.wire, &mut self.sockets);
            answers.append(&mut self.wire.sent);
            let mut taken = false;
            for (_, socket) in self.sockets.iter_mut() {
                let smoltcp::socket::Socket::Tcp(socket) = socket;
                taken |= socket.state() == State::Established;
                if socket.state() == State::CloseWait {
                    socket.close();
                }
            }
            let listening = |(_, socket): (_, &smoltcp::socket::Socket<'_>)| matches!(socket, smoltcp::socket::Socket::Tcp(socket) if socket.state() == State::Listen);
            if taken && !self.sockets.iter().any(listening) {
                self.listen();
            }
        }
        answers
    }

    /// The connections that are left behind.
    fn left(&self) -> usize {
        let open = |socket: &smoltcp::socket::Socket<'_>| matches!(socket, smoltcp::socket::Socket::Tcp(socket) if !matches!(socket.state(), State::Listen | State::Closed));
        self.sockets.iter().filter(|(_, socket)| open(socket)).count()
    }
}

struct Rig {
    engine: Engine,
    current: Compiled,
    service: ServiceId,
    hosts: Vec<(Mac, Host)>,
    manner: Manner,
    begin: Instant,
    ms: u64,
    lost: u64,
    /// The number of the only host that is silent; `None`: all are.
    quiet: Option<usize>,
    /// When each connection was begun, in ms.
    begun: Vec<u64>,
    /// The pings that were sent.
    pings: usize,
}

impl Rig {
    fn new(vip: &str, backends: &[&str], manner: Manner, change: impl FnOnce(&mut ServiceAdd)) -> Rig {
        let weighted: Vec<(&str, u32)> = backends.iter().map(|&backend| (backend, 1)).collect();
        let (mut model, mut wanted) = (model(), service(vip, &weighted));
        change(&mut wanted);
        model.add_service(&wanted, &leases()).unwrap();
        let current = compile(model.into(), |address| Some(backend_mac(address)), &[PORT], 1);
        let hosts = backends.iter().map(|backend| {
            let address: IpAddr = backend.parse().unwrap();
            (backend_mac(address), Host::new(wanted.service.vip, manner == Manner::Serve))
        });
        let begin = Instant::now();
        let (engine, hosts) = (Engine::new(begin, 7), hosts.collect());
        let mut rig = Rig {
            engine,
            current,
            service: wanted.service,
            hosts,
            manner,
            begin,
            ms: 0,
            lost: 0,
            quiet: None,
            begun: Vec::new(),
            pings: 0,
        };
        rig.engine.sync(&rig.current, begin);
        rig
    }

    fn now(&self) -> Instant {
        self.begin + Duration::from_millis(self.ms)
    }

    /// Lets time pass in steps of 5 ms.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.ms += 5;
            self.turn();
        }
    }

    fn turn(&mut self) {
        let lost = self.lost;
        let frames = self.engine.poll(&self.current, &|_| lost, self.now(), 1_000);
        self.deliver(frames);
    }

    fn deliver(&mut self, mut frames: Vec<Frame>) {
        while !frames.is_empty() {
            let mut next = Vec::new();
            for Frame { network, bytes } in frames {
                let (header, packet) = bytes.split_at(14);
                if packet[0] >> 4 == 4 && packet[9] == 6 && packet[33] == 2
                    || packet[0] >> 4 == 6 && packet[6] == 6 && packet[53] == 2
                {
                    self.begun.push(self.ms);
                }
                self.pings +=
                    usize::from(packet[0] >> 4 == 4 && packet[9] == 1 || packet[0] >> 4 == 6 && packet[6] == 58);
                let is_quiet = |quiet: usize| header[..6] == self.hosts[quiet].0.0;
                if self.manner == Manner::Silent && self.quiet.is_none_or(is_quiet) {
                    continue;
                }
                // Nobody has the MAC address that a backend had before.
                let Some((mac, host)) = self.hosts.iter_mut().find(|(mac, _)| header[..6] == mac.0) else { continue };
                let mac = *mac;
                for answer in host.take(packet, Duration::from_millis(self.ms)) {
                    let frame = [&PORT.mac.0[..], &mac.0, &header[12..14], &answer].concat();
                    let now = self.begin + Duration::from_millis(self.ms);
                    next.extend(self.engine.hear(&frame, network, now));
                }
            }
            frames = next;
        }
    }

    fn down(&mut self) -> Vec<IpAddr> {
        let verdicts = self.engine.take_verdicts();
        let backends = &self.current.model.services[&self.service].backends;
        let down =
            |address: &IpAddr| verdicts.as_ref().is_some_and(|verdicts| verdicts.is_down(&self.service, *address));
        backends.iter().map(|backend| backend.address).filter(down).collect()
    }

    fn faults(&mut self) -> Vec<&'static str> {
        let seen = self.engine.take_sightings().into_iter();
        seen.filter_map(|seen| match seen {
            Seen::Fault(sighting) | Seen::Mute { sighting, .. } => Some(sighting.kind.name()),
            Seen::Mended(..) => Some("mended"),
            Seen::Silent(_) => None,
        })
        .collect()
    }
}

const SERVICES: [(&str, &str); 2] = [("192.168.0.101:80", "192.168.0.3"), ("[fd00::101]:80", "fd00::3")];

#[test]
fn a_backend_that_takes_connections_is_up_and_nothing_is_left_there() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Serve, |_| {});
        rig.pass(10_000);
        let result = &rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0];
        assert_eq!((result.up, result.failed, result.void), (Some(true), 0, 0), "{result:?}");
        assert!((9..=11).contains(&result.passed) && result.words.starts_with("connected in "), "{result:?}");
        assert_eq!(rig.hosts[0].1.left(), 0);
        assert_eq!((rig.down(), rig.faults(), rig.engine.take_news().len()), (vec![], vec![], 0));
    }
}

#[test]
fn a_backend_that_refuses_is_down_at_the_third_probe_and_up_at_the_second_good_one() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Refuse, |_| {});
        rig.pass(1_900);
        assert!(rig.down().is_empty());
        rig.pass(200);
        assert_eq!(rig.down(), [backend.parse::<IpAddr>().unwrap()]);
        let news = rig.engine.take_news();
        assert!(matches!(&news[..], [News::Down { why, .. }] if why.contains("connection refused")), "{news:?}");
        rig.pass(500);
        assert_eq!(rig.faults().first(), Some(&"service-closed"));
        rig.hosts[0].1.listen();
        rig.pass(2_000);
        assert_eq!(rig.engine.take_news().len(), 1);
        assert!(rig.engine.take_verdicts().is_some_and(|verdicts| verdicts.services().next().is_none()));
        assert_eq!(rig.faults(), ["mended"]);
    }
}

#[test]
fn silence_is_void_while_the_director_loses_frames_and_after_it_was_stopped() {
    let (vip, backend) = SERVICES[0];
    let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
    for _ in 0..4 {
        rig.pass(500);
        rig.lost += 1;
        rig.pass(500);
    }
    let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].clone();
    assert_eq!((result(&rig).failed, rig.down()), (0, vec![]));
    // Stopped for 20 s, with a probe under way.
    rig.ms += 20_000;
    rig.pass(250);
    assert_eq!(result(&rig).failed, 0);
    rig.pass(4_500);
    assert!(result(&rig).failed >= 3 && rig.down().len() == 1, "{:?}", result(&rig));
}

#[test]
fn an_answer_from_another_station_or_network_is_none() {
    let (vip, backend) = SERVICES[0];
    let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
    let now = rig.now();
    let frames = rig.engine.poll(&rig.current, &|_| 0, now, 10);
    assert_eq!(frames.len(), 1);
    let mut host = Host::new(rig.service.vip, true);
    let answer = host.take(&frames[0].bytes[14..], Duration::ZERO).remove(0);
    let frame = |station: Mac| [&PORT.mac.0[..], &station.0, &[8, 0], &answer].concat();
    let mac = backend_mac(backend.parse().unwrap());
    rig.engine.hear(&frame(Mac([2, 9, 9, 9, 9, 9])), NetworkNo::new(0), now);
    rig.engine.hear(&frame(mac), NetworkNo::new(1), now);
    let passed = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), now)[0].passed;
    assert_eq!(passed(&rig), 0);
    // An error that somebody behind a router makes up; the local port is that of the probe.
    let error = |station: Mac| {
        let (own, quoted) = ("192.168.0.2", &frames[0].bytes[14..]);
        eth().to(PORT.mac).from(station).ipv4("192.168.0.77", own).icmp(1, 3, 3, &[&[0; 4][..], quoted].concat())
    };
    let failed = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), now)[0].failed;
    rig.engine.hear(&error(Mac([2, 9, 9, 9, 9, 9])), NetworkNo::new(0), now);
    assert_eq!(failed(&rig), 0);
    rig.engine.hear(&frame(mac), NetworkNo::new(0), now);
    assert_eq!(passed(&rig), 1);
}

#[test]
fn an_icmp_error_from_the_backend_itself_is_a_failure() {
    let (vip, backend) = SERVICES[0];
    let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
    let now = rig.now();
    let frames = rig.engine.poll(&rig.current, &|_| 0, now, 10);
    let rest = [&[0; 4][..], &frames[0].bytes[14..]].concat();
    let mac = backend_mac(backend.parse().unwrap());
    let error = eth().to(PORT.mac).from(mac).ipv4(backend, "192.168.0.2").icmp(1, 3, 1, &rest);
    rig.engine.hear(&error, NetworkNo::new(0), now);
    let result = rig.engine.results(&rig.service, backend.parse().unwrap(), now)[0].clone();
    assert_eq!((result.failed, result.words.as_str()), (1, "ICMP host unreachable from 192.168.0.3"));
}

#[test]
fn a_probe_has_its_whole_time_though_an_operator_asks_for_the_next_one() {
    let (vip, backend) = SERVICES[0];
    let mut rig = Rig::new(vip, &[backend], Manner::Silent, |_| {});
    let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].clone();
    rig.pass(500);
    rig.engine.ask_all(rig.begin + Duration::from_millis(rig.ms));
    rig.pass(450);
    assert_eq!(result(&rig).failed, 0);
    rig.pass(100);
    assert_eq!(result(&rig).failed, 1);
}

/// A backend takes connections and says nothing; the sessions have a thread, or none.
#[test]
fn a_server_that_says_nothing_is_hung_and_a_session_that_says_nothing_is_void() {
    for (vip, backend) in SERVICES {
        let https = |wanted: &mut ServiceAdd| wanted.checks = Some(vec!["https".parse().unwrap()]);
        let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].clone();
        let mut rig = Rig::new(vip, &[backend], Manner::Serve, https);
        let mut sessions = rig.engine.take_sessions().unwrap();
        let mut open = 0;
        for _ in 0..800 {
            rig.pass(5);
            sessions.turn(rig.now());
            open = open.max(sessions.open());
        }
        let hung = result(&rig);
        assert_eq!((hung.up, hung.failed, hung.void), (Some(false), 3, 0), "{hung:?}");
        assert_eq!((hung.words.as_str(), open), ("connected, and no answer in 1s", 1));
        assert_eq!(rig.faults().first(), Some(&"hung"));
        // The queue is full at last.
        let mut rig = Rig::new(vip, &[backend], Manner::Serve, https);
        rig.pass(4_000);
        let void = result(&rig);
        assert_eq!((void.up, void.failed, void.void), (None, 0, 3), "{void:?}");
        let counter = rig.engine.stack.desk.counter(1);
        // Bound: the queue's room.
        while counter.hand_in(Job::Forget(counter.key)) {}
        rig.pass(900);
        assert_eq!((result(&rig).failed, result(&rig).void), (0, 5), "this one is void at once");
        assert_eq!((rig.down(), rig.faults()), (vec![], vec![]));
        // Its thread is gone.
        drop(rig.engine.take_sessions());
        rig.pass(2_000);
        assert_eq!((result(&rig).failed, result(&rig).void), (0, 7));
    }
}

#[test]
fn the_neighbor_engine_is_told_of_a_backend_that_is_silent_and_not_of_one_that_refuses() {
    for (vip, backend) in SERVICES {
        for manner in [Manner::Silent, Manner::Refuse, Manner::Serve] {
            let mut rig = Rig::new(vip, &[backend], manner, |_| {});
            rig.pass(1_100);
            let seen = rig.engine.take_sightings();
            let told = seen.iter().any(|seen| matches!(seen, Seen::Silent(address) if address.to_string() == backend));
            assert_eq!(told, manner == Manner::Silent, "{seen:?}");
        }
    }
}

#[test]
fn a_certificate_is_at_fault_until_each_check_is_shown_a_good_one() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::new(vip, &[backend], Manner::Silent, |wanted| {
            wanted.checks = Some(vec!["https".parse().unwrap(), "https host=a.example".parse().unwrap()]);
        });
        let report = |words: &str, error: Option<CertificateError>| Report {
            until: Some(1_924_992_000),
            complaint: Some(words).filter(|words| !words.is_empty()).map(|words| Complaint {
                words: words.into(),
                fix: "renew it".into(),
                error,
            }),
        };
        let show = |rig: &mut Rig, item: usize, report: Report| {
            let serial = rig.engine.items[item].as_ref().unwrap().serial;
            rig.engine.certificate(item, serial, report);
            rig.engine.take_sightings()
        };
        let expired = "certificate expired 3 days ago";
        let seen = show(&mut rig, 0, report(expired, None));
        let [Seen::Fault(warning)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((warning.kind, warning.severity), (FaultKind::Certificate, Severity::Warn));
        assert!(warning.text.contains(backend) && warning.text.ends_with(expired), "{}", warning.text);
        let seen = show(&mut rig, 1, report(expired, Some(CertificateError::Expired)));
        assert!(matches!(&seen[..], [Seen::Fault(error)] if error.severity == Severity::Error), "{seen:?}");
        assert_eq!(show(&mut rig, 0, report("", None)).len(), 0, "the other one complains, still");
        let seen = show(&mut rig, 1, report("", None));
        assert!(matches!(&seen[..], [Seen::Mended(FaultKind::Certificate, _)]), "{seen:?}");
        assert_eq!(show(&mut rig, 1, report("", None)).len(), 0);
        let results = rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now());
        assert!(results.iter().all(|result| result.certificate_until.as_deref() == Some("2031-01-01T00:00:00Z")));
        // A fault ends with its check.
        show(&mut rig, 1, report(expired, None));
        let mut without = model();
        without.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
        rig.current = compile(without.into(), |address| Some(backend_mac(address)), &[PORT], 2);
        rig.engine.sync(&rig.current, rig.now());
        let seen = rig.engine.take_sightings();
        assert!(matches!(&seen[..], [Seen::Mended(FaultKind::Certificate, _)]), "{seen:?}");
    }
}

#[test]
fn if_too_few_are_up_the_checks_are_not_believed() {
    let mut rig = Rig::new("192.168.0.101:80", &["192.168.0.3", "192.168.0.4"], Manner::Refuse, |wanted| {
        wanted.min_up = Some(50);
    });
    rig.pass(3_500);
    assert_eq!(rig.down(), [] as [IpAddr; 0]);
    let not_believed = |news: &News| matches!(news, News::NotBelieved { up: (0, 2), .. });
    assert!(rig.engine.take_news().iter().any(not_believed) && !rig.engine.believes(&rig.service));
    rig.hosts[0].1.listen();
    rig.pass(2_500);
    assert_eq!(rig.down(), ["192.168.0.4".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_probe_to_the_mac_address_that_a_backend_had_before_says_nothing() {
    for (vip, backend) in [("192.168.0.101:80", "192.168.0.3"), ("[fd00::101]:80", "fd00::3")] {
        let mut rig = Rig::new(vip, &[backend], Manner::Serve, |_| {});
        rig.pass(1_500);
        // It has another one, and the director does not know that yet.
        let new = Mac([2, 0, 0, 0, 0, 0x99]);
        rig.hosts[0].0 = new;
        rig.pass(3_000);
        let result = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now()).remove(0);
        assert_eq!((result(&rig).failed, result(&rig).up), (2, Some(true)));
        rig.current = compile(rig.current.model.clone(), |_| Some(new), &[PORT], 2);
        rig.engine.sync(&rig.current, rig.now());
        rig.pass(3_000);
        let result = result(&rig);
        assert_eq!((result.failed, result.void, result.up), (2, 1, Some(true)), "{vip}: the third one was void");
    }
}
