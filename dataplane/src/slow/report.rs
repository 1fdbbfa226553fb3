//! What the slow path reports to the operator: [events](crate::control::events) about backends, lost frames, and
//! frames that show a mistake in the network. Each event says what to do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ctl::answer::Subject;
use ctl::{Mac, ServiceId};
use hashbrown::HashMap;
use rtrb::Consumer;

use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::control::compile::Compiled;
use crate::control::events::Kind;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::faults::Faults;
use crate::control::model::Contact;
use crate::count::counters::WorkerCounters;
use crate::forward::sample::{Sample, Sign};
use crate::health;
use crate::slow::buffers::{BufferWatch, Pools};
use crate::slow::neighbor::News;
use crate::slow::watch::Stations;

/// The drop reasons whose counters are watched, by port. Growth of a counter is an event.
const LOSSES: [(DropReason, Kind); 2] =
    [(DropReason::PuntFull, Kind::SlowPathOverloaded), (DropReason::TxFull, Kind::TxFull)];

/// Writes events, and remembers what it has reported.
pub struct Reporter {
    faults: Arc<Faults>,
    samples: Vec<Consumer<Sample>>,
    /// By port, for each of [`LOSSES`].
    lost: Vec<[Lost; LOSSES.len()]>,
    /// The packet buffers.
    buffers: Option<BufferWatch>,
    /// The services that are served by their fallbacks, and these.
    by_fallback: HashMap<ServiceId, IpAddr>,
}

/// The values of a drop counter at two times.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    /// When the counter was last read.
    seen: u64,
    /// When it last led to an event.
    reported: u64,
}

impl Reporter {
    /// With the other ends of the workers' rings.
    pub fn new(faults: Arc<Faults>, samples: Vec<Consumer<Sample>>) -> Self {
        Reporter { faults, samples, lost: Vec::new(), buffers: None, by_fallback: HashMap::new() }
    }

    /// With a watch on the packet buffers.
    #[must_use]
    pub fn watching(self, pools: Pools) -> Self {
        Reporter { buffers: Some(BufferWatch::new(pools)), ..self }
    }

    /// What is wrong now.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Reports packet buffers that have run out, or are back.
    pub fn buffers(&mut self, now: Instant) {
        if let Some(watch) = &mut self.buffers {
            watch.look(self.faults.events(), now);
        }
    }

    /// Reports backends that were resolved, that have another MAC address, or that do not answer any more.
    pub fn news(&self, news: Vec<News>, current: &Compiled, now: Instant) {
        for news in news {
            let port = current.model.network(news.network).name();
            let (backend, mac) = (Some(news.address), news.now.or(news.before));
            let (kind, text, advice) = in_words(news, &port);
            let subject = Subject { backend, mac, port: Some(port), ..Subject::default() };
            if kind == Kind::BackendMacChanged {
                self.faults.open(Sighting::new(FaultKind::MacChanged, subject, text, advice), now);
                continue;
            }
            let message = if advice.is_empty() { text } else { format!("{text}: {advice}") };
            self.faults.events().write(kind, subject, now, || message);
        }
    }

    /// Reports frames that were lost because the slow path or a transmit queue was overloaded.
    pub fn losses(&mut self, workers: &[Arc<WorkerCounters>], current: &Compiled, now: Instant) {
        self.lost.resize(current.vlans.len(), [Lost::default(); LOSSES.len()]);
        for (number, lost) in self.lost.iter_mut().enumerate() {
            for ((reason, kind), Lost { seen, reported }) in LOSSES.into_iter().zip(lost) {
                let lost: u64 = workers.iter().map(|worker| worker.ports[number].drops[reason.index()].read()).sum();
                let port = port_name(current, PortNo::new(number));
                let sentence = || {
                    let (new, meaning, advice) = (lost - *reported, reason.meaning(), reason.advice());
                    format!("{new} frames dropped on {port}, {}: {meaning} {advice}", reason.name())
                };
                let subject = Subject { port: Some(port.clone()), ..Subject::default() };
                // Without new losses, there is no event. Losses that were left out are reported with the next ones.
                if std::mem::replace(seen, lost) < lost && self.faults.events().write(kind, subject, now, sentence) {
                    *reported = lost;
                }
            }
        }
    }

    /// Reports the samples that the workers have given since the last call. Their number is bounded by the rings.
    pub fn samples(&mut self, stations: &Stations, current: &Compiled, now: Instant) {
        for worker in &mut self.samples {
            for _ in 0..worker.slots() {
                let Ok(sample) = worker.pop() else { break };
                report(&self.faults, &sample, stations, current, now);
            }
        }
    }
}

impl Reporter {
    /// Reports services that their fallbacks serve from now on, or no more.
    pub fn fallbacks(&mut self, current: &Compiled, now: Instant) {
        let services = current.model.services.values();
        let serving: HashMap<ServiceId, IpAddr> =
            services.filter_map(|service| Some((service.id, service.serving_fallback()?.address))).collect();
        let subject =
            |service, address| Subject { service: Some(service), backend: Some(address), ..Subject::default() };
        for (&id, &address) in serving.iter().filter(|(id, address)| self.by_fallback.get(*id) != Some(*address)) {
            let message = || format!("No backend of {id} takes new flows: its fallback {address} has them");
            self.faults.events().write(Kind::FallbackServes, subject(id, address), now, message);
        }
        for (&id, &address) in self.by_fallback.iter().filter(|(id, address)| serving.get(*id) != Some(*address)) {
            // Of a service that was removed, that says it all.
            let Some(service) = current.model.services.get(&id) else { continue };
            let fate = match service.number_of(address).map(|number| service.backends[number.index()].contact) {
                Ok(Contact::Up) => "old ones stay until they end",
                Ok(_) => "it does not answer, or is down by its checks",
                Err(_) => "it is no backend of the service any more",
            };
            let message = || format!("The fallback {address} of {id} gets no more new flows; {fate}");
            self.faults.events().write(Kind::FallbackRests, subject(id, address), now, message);
        }
        self.by_fallback = serving;
    }

    /// Reports what health checks have found.
    pub fn health(&self, news: Vec<health::news::News>, now: Instant) {
        for news in news {
            let (kind, service, backend, message) = health_in_words(&news);
            let subject = Subject { service: Some(service), backend, ..Subject::default() };
            self.faults.events().write(kind, subject, now, || message);
        }
    }
}

fn health_in_words(news: &health::news::News) -> (Kind, ServiceId, Option<IpAddr>, String) {
    use crate::health::damping;
    use health::news::News;
    match news {
        News::Up { service, backend } => {
            let message = format!("Backend {backend} of {service} is up: no check says that it is down");
            (Kind::BackendUp, *service, Some(*backend), message)
        }
        News::Down { service, backend, why } => {
            let message = format!("Backend {backend} of {service} is down: check {why}");
            (Kind::BackendDown, *service, Some(*backend), message)
        }
        News::Held { service, backend, time, downs } => {
            let (window, s) = (damping::WINDOW.as_secs() / 60, time.as_secs());
            let often = if *downs > damping::MANY {
                format!("{downs} times in {window} min")
            } else {
                format!("again within {window} min after it was let in")
            };
            let message = format!(
                "Backend {backend} of {service} went down {often}: it is held out for {s} s, even if its checks are good by then; \
                 `shuntctl backend enable` lets it in"
            );
            (Kind::BackendDamped, *service, Some(*backend), message)
        }
        News::Released { service, backend, up } => {
            let how = if *up { "it is up by all checks" } else { "it is down by its checks" };
            let message = format!("Backend {backend} of {service} is not held out any more: {how}");
            (Kind::BackendReleased, *service, Some(*backend), message)
        }
        News::TakenOut { service, backend, why, time } => {
            let message =
                format!("Backend {backend} of {service} is taken out for {}: {why}", humantime::format_duration(*time));
            (Kind::BackendDown, *service, Some(*backend), message)
        }
        News::Tried { service, backend } => {
            let message =
                format!("Backend {backend} of {service}, which was taken out for its clients' sake, is tried again");
            (Kind::BackendUp, *service, Some(*backend), message)
        }
        News::NotBelieved { service, up: (up, all) } => {
            let message = format!(
                "Only {up} of {all} backends of {service} are up by its checks, fewer than min_up: these are not believed, and all get \
                 traffic. Is it the service that fails, or the way from the director to it?"
            );
            (Kind::ChecksNotBelieved, *service, None, message)
        }
        News::Believed { service } => {
            (Kind::ChecksBelieved, *service, None, format!("The checks of {service} are believed again"))
        }
    }
}

fn port_name(current: &Compiled, port: PortNo) -> String {
    let network = current.model.networks.iter().find(|network| network.port == port);
    network.map_or_else(String::new, |network| network.port_name.clone())
}

/// The event, what has happened, and what to do.
fn in_words(news: News, port: &str) -> (Kind, String, &'static str) {
    let address = news.address;
    let protocol = if address.is_ipv4() { "ARP" } else { "neighbor solicitations" };
    match (news.before, news.now) {
        (None, Some(mac)) => (Kind::BackendResolved, format!("Backend {address} is at {mac} on {port}"), ""),
        (Some(before), Some(now)) => {
            let advice = "if that was not meant, look for another station with its address";
            let message =
                format!("Backend {address} has moved from {before} to {now} on {port}, and so has its traffic");
            (Kind::BackendMacChanged, message, advice)
        }
        (before, None) => {
            let name = before.map_or(address.to_string(), |before| format!("{address} ({before})"));
            let longer = if before.is_some() { " any more" } else { "" };
            let message = format!("Backend {name} does not answer {protocol} on {port}{longer}");
            let (fate, advice) = match (before, news.others_answer) {
                (Some(_), true) => (
                    "although other backends there do. So it is down, and its flows go to others",
                    "is it up, and its cable in? If it stays away, remove it or give it weight 0",
                ),
                (Some(_), false) => (
                    "and no other backend there does, so the director may be cut off from it. It keeps its old flows. New ones go to \
                     backends that answer, if its services have any",
                    "is it up? Look at the switch, the cables and the VLAN on the way to it",
                ),
                (None, true) => {
                    ("although other backends there do", "is its address right, is it up, and on this segment?")
                }
                (None, false) => {
                    ("and no other backend there does", "is its address right, is it up, and on this segment?")
                }
            };
            (Kind::BackendUnreachable, format!("{message}, {fate}"), advice)
        }
    }
}

fn report(faults: &Faults, sample: &Sample, stations: &Stations, current: &Compiled, now: Instant) {
    let vip = match sample.sign {
        Sign::ReturnViaDirector => sample.source,
        Sign::Loop | Sign::UnfinishedChecksum | Sign::SuperFrame => sample.destination,
    };
    let backend = stations.backend(|network| current.network(network).port == sample.port, sample.from, vip);
    let mac = Some(sample.from);
    let port = Some(port_name(current, sample.port));
    let subject = Subject { vip: Some(vip), backend, mac, port, ..Subject::default() };
    let station = station(backend, sample.from);
    match sample.sign {
        Sign::UnfinishedChecksum => {
            let sentence = || offloads(sample, "with unfinished checksums, which backends drop", "");
            faults.events().write(Kind::UnfinishedChecksums, subject, now, sentence);
        }
        Sign::SuperFrame => {
            let here = "; or this host puts them together: `ethtool -K INTERFACE gro off lro off` here";
            let sentence = || offloads(sample, "that are larger than the MTU there, and were dropped", here);
            faults.events().write(Kind::SuperFrames, subject, now, sentence);
        }
        Sign::Loop => {
            let text =
                format!("{station} sends packets for {vip} back instead of taking them, so it lacks the VIP on lo");
            let fix = format!("scripts/real-server start {vip}");
            faults.open(Sighting::new(FaultKind::Loop, subject, text, fix), now);
        }
        Sign::ReturnViaDirector => {
            let client = sample.destination;
            let text = format!(
                "{station} sends its replies from {vip}, to {client} for one, through the director: its default route is wrong"
            );
            let family = if vip.is_ipv4() { "-4" } else { "-6" };
            let fix = format!("ip {family} route replace default via GATEWAY, where GATEWAY is the clients' gateway");
            faults.open(Sighting::new(FaultKind::ReturnViaDirector, subject, text, fix), now);
        }
    }
}

/// In words: a neighbor leaves to its NIC what there is no NIC for.
fn offloads(sample: &Sample, what: &str, besides: &str) -> String {
    let Sample { from, source, destination, .. } = sample;
    format!(
        "Station {from} hands over packets ({source} to {destination}, for one) {what}: it leaves to a NIC what a virtual interface does \
         not do; `ethtool -K INTERFACE tx off tso off gso off gro off` there, on the interface with that MAC address{besides}"
    )
}

/// The station as the operator knows it: "Backend 192.0.2.3 (02:00:00:00:00:03)", or its MAC address alone.
fn station(backend: Option<IpAddr>, mac: Mac) -> String {
    match backend {
        Some(address) => format!("Backend {address} ({mac})"),
        None => format!("Station {mac}, which is no backend that we know,"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ctl::answer::Event;
    use metrics::with_local_recorder;
    use rtrb::{Producer, RingBuffer};

    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::control::events::{EventLog, KEPT};
    use crate::metrics::ControlSide;
    use crate::slow::neighbor::Neighbors;
    use crate::slow::view::{Evidence, Learned};
    use crate::testing::model::{backend_mac, leases, model, service, snapshot};

    /// A reporter, a backend that it knows, and a worker's end of the ring.
    struct Rig {
        events: Arc<EventLog>,
        reporter: Reporter,
        stations: Stations,
        current: Compiled,
        worker: Producer<Sample>,
        begin: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut model = model();
            model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &leases()).unwrap();
            let (events, current, begin) = (Arc::new(EventLog::default()), snapshot(model), Instant::now());
            let (worker, samples) = RingBuffer::new(8);
            let reporter = Reporter::new(Arc::new(Faults::new(events.clone())), vec![samples]);
            let mut neighbors = Neighbors::default();
            neighbors.sync(&current, begin);
            let address = address("192.168.0.3");
            neighbors.learn(
                Learned { address, mac: backend_mac(address), evidence: Evidence::Answer },
                NetworkNo::new(0),
                begin,
            );
            let mut stations = Stations::default();
            stations.look(reporter.faults(), &neighbors, &current, begin);
            Rig { events, reporter, stations, current, worker, begin }
        }

        fn hear(&mut self, second: u64, samples: &[Sample]) {
            samples.iter().for_each(|&sample| self.worker.push(sample).unwrap());
            self.reporter.samples(&self.stations, &self.current, self.begin + Duration::from_secs(second));
        }

        fn events(&self) -> Vec<Event> {
            self.events.list(ctl::request::EventQuery { since: None, limit: Some(KEPT) })
        }

        fn reported(&self) -> Vec<(String, String)> {
            self.events().into_iter().map(|event| (event.kind, event.message)).collect()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sample(sign: Sign, from: u8, source: &str, destination: &str) -> Sample {
        let from = Mac([2, 0, 0, 0, 0, from]);
        Sample { sign, port: PortNo::new(0), from, source: address(source), destination: address(destination) }
    }

    #[test]
    fn a_loop_and_a_return_name_the_backend_and_the_vip() {
        let mut rig = Rig::new();
        let samples = [
            sample(Sign::Loop, 3, "10.0.0.1", "192.168.0.101"),
            sample(Sign::ReturnViaDirector, 3, "192.168.0.101", "10.0.0.1"),
        ];
        rig.hear(0, &[&samples[..], &samples[..]].concat());
        rig.hear(10, &samples[..1]);
        let events = rig.events();
        let kinds: Vec<(&str, u64)> = events.iter().map(|event| (event.kind.as_str(), event.suppressed)).collect();
        assert_eq!(kinds, [("loop", 0), ("return-via-director", 0), ("loop", 1)]);
        for event in &events {
            assert!(event.message.starts_with("Backend 192.168.0.3 (02:00:00:00:00:03) sends "), "{}", event.message);
            assert_eq!(event.subject.vip, Some(address("192.168.0.101")));
            assert_eq!(
                (event.subject.backend, event.subject.mac),
                (Some(address("192.168.0.3")), Some(Mac([2, 0, 0, 0, 0, 3])))
            );
            assert_eq!(event.subject.port.as_deref(), Some("lan0"));
        }
        assert!(events[0].message.contains("scripts/real-server start 192.168.0.101"), "{}", events[0].message);
        assert!(events[1].message.contains("default route"), "{}", events[1].message);
    }

    #[test]
    fn a_neighbor_with_offloads_is_named_with_the_command() {
        let mut rig = Rig::new();
        let sample = |sign| sample(sign, 77, "10.0.0.1", "192.168.0.101");
        rig.hear(0, &[sample(Sign::UnfinishedChecksum), sample(Sign::SuperFrame), sample(Sign::UnfinishedChecksum)]);
        let events = rig.events();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["unfinished-checksums", "super-frames"], "the third was left out");
        for event in &events {
            let (mac, vip) = (Some(Mac([2, 0, 0, 0, 0, 77])), Some(address("192.168.0.101")));
            assert_eq!((event.subject.mac, event.subject.vip), (mac, vip), "{event}");
            assert!(
                event.message.starts_with("Station 02:00:00:00:00:4d hands over packets (10.0.0.1 to 192.168.0.101")
            );
            assert!(event.message.contains("`ethtool -K INTERFACE tx off tso off gso off gro off`"), "{event}");
        }
        assert!(events[1].message.ends_with("`ethtool -K INTERFACE gro off lro off` here"), "{}", events[1].message);
    }

    #[test]
    fn unknown_stations_are_one_subject() {
        let mut rig = Rig::new();
        let from = |last| sample(Sign::ReturnViaDirector, last, "192.168.0.101", "10.0.0.1");
        rig.hear(0, &[from(77), from(78), from(79)]);
        let reported = rig.reported();
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].1.starts_with("Station 02:00:00:00:00:4d, which is no backend"), "{reported:?}");
    }

    #[test]
    fn changes_of_a_backends_mac_address_are_reported() {
        let rig = Rig::new();
        let (old, new) = (Some(Mac([2, 0, 0, 0, 0, 3])), Some(Mac([2, 0, 0, 0, 0, 0x33])));
        for (before, now, others_answer, kind, says) in [
            (None, old, false, "backend-resolved", "Backend 192.168.0.3 is at 02:00:00:00:00:03 on lan0"),
            (old, new, false, "backend-mac-changed", "from 02:00:00:00:00:03 to 02:00:00:00:00:33"),
            (
                new,
                None,
                true,
                "backend-unreachable",
                "(02:00:00:00:00:33) does not answer ARP on lan0 any more, although",
            ),
            (new, None, false, "backend-unreachable", "so the director may be cut off from it"),
            (None, None, true, "backend-unreachable", "although other backends there do: is its address right"),
            (None, None, false, "backend-unreachable", "and no other backend there does: is its address right"),
        ] {
            let (address, network) = (address("192.168.0.3"), NetworkNo::new(0));
            let news = News { address, network, before, now, others_answer };
            rig.reporter.news(vec![news], &rig.current, rig.begin);
            let (last, message) = rig.reported().pop().unwrap();
            assert!(last == kind && message.contains(says), "{last}: {message}");
        }
    }

    #[test]
    fn what_a_fallback_does_is_told_as_it_is() {
        let mut rig = Rig::new();
        rig.events = Arc::default();
        rig.reporter = Reporter::new(Arc::new(Faults::new(rig.events.clone())), Vec::new());
        let (id, ids) = ("192.168.0.101:80", ["192.168.0.101:80", "[fd00::101]:80"]);
        let model_with = |fallbacks: [Option<&str>; 2], weight| {
            let mut model = model();
            for ((id, fallback), backend) in ids.iter().zip(fallbacks).zip(["192.168.0.3", "fd00::3"]) {
                let mut wanted = service(id, &[(backend, weight)]);
                wanted.fallback = fallback.map(address);
                model.add_service(&wanted, &leases()).unwrap();
            }
            model
        };
        let mut tell = |model| {
            let before = rig.events().len();
            rig.reporter.fallbacks(&snapshot(model), rig.begin);
            let mut told: Vec<String> =
                rig.events()[before..].iter().map(|event| format!("{}: {}", event.kind, event.message)).collect();
            told.sort();
            told
        };
        let both = |last| [Some(["192.168.0.8", "192.168.0.9"][last]), Some(["fd00::8", "fd00::9"][last])];
        assert_eq!(tell(model_with(both(0), 1)), [""; 0]);
        let told = tell(model_with(both(0), 0));
        assert!(
            told.len() == 2
                && told[0]
                    == format!(
                        "fallback-serves: No backend of {id}/tcp takes new flows: its fallback 192.168.0.8 has them"
                    ),
            "{told:?}"
        );
        // An edit puts others in their places.
        let told = tell(model_with(both(1), 0));
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(
            told[0].starts_with("fallback-rests: The fallback 192.168.0.8")
                && told[0].ends_with("no backend of the service any more"),
            "{told:?}"
        );
        assert!(told[2].contains("its fallback 192.168.0.9 has them") && told[3].contains("fd00::9"), "{told:?}");
        let told = tell(model_with(both(1), 1));
        assert!(told.len() == 2 && told[0].ends_with("old ones stay until they end"), "{told:?}");
        tell(model_with(both(1), 0));
        assert_eq!(tell(model()), [""; 0], "that the services are removed is told by others");
    }

    #[test]
    fn a_hold_is_told_with_what_has_led_to_it() {
        let (service, backend) = ("192.168.0.101:80".parse().unwrap(), address("192.168.0.3"));
        for (downs, says) in [
            (4, "went down 4 times in 5 min: it is held out for 60 s"),
            (2, "went down again within 5 min after it was let in: "),
        ] {
            let news = health::news::News::Held { service, backend, time: Duration::from_secs(60), downs };
            let (kind, _, _, message) = health_in_words(&news);
            assert!(kind == Kind::BackendDamped && message.contains(says), "{message}");
        }
    }

    #[test]
    fn losses_are_told_with_their_number_and_counted_each_time() {
        let counted = ControlSide::default();
        with_local_recorder(&counted, losses_are_told_with_their_number);
        let count = |kind: Kind| counted.count("shunt_events_total", &kind.labels());
        let happened: Vec<(Kind, u64)> = Kind::ALL.iter().map(|&kind| (kind, count(kind).unwrap())).collect();
        let happened: Vec<(Kind, u64)> = happened.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(happened, [(Kind::SlowPathOverloaded, 1), (Kind::TxFull, 3)], "each time that some were lost");
    }

    fn losses_are_told_with_their_number() {
        let mut rig = Rig::new();
        let worker = Arc::new(WorkerCounters::new(1));
        let mut lose = |second: u64, reason: DropReason, count| {
            worker.ports[0].drops[reason.index()].add(count);
            let now = rig.begin + Duration::from_secs(second);
            rig.reporter.losses(std::slice::from_ref(&worker), &rig.current, now);
        };
        lose(0, DropReason::TxFull, 0);
        lose(1, DropReason::TxFull, 7);
        lose(2, DropReason::TxFull, 8);
        (3..9).for_each(|second| lose(second, DropReason::TxFull, 0));
        lose(3, DropReason::PuntFull, 1);
        lose(11, DropReason::TxFull, 9);
        lose(30, DropReason::Loop, 9);
        let reported = rig.reported();
        let begin: Vec<(&str, &str)> =
            reported.iter().map(|(kind, message)| (kind.as_str(), message.split(':').next().unwrap())).collect();
        let expected = [
            ("tx-full", "7 frames dropped on lan0, tx_full"),
            ("slow-path-overloaded", "1 frames dropped on lan0, punt_full"),
            ("tx-full", "17 frames dropped on lan0, tx_full"),
        ];
        assert_eq!(begin, expected);
    }
}
