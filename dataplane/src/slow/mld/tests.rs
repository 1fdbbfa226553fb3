use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::slow::announce;
use crate::slow::mld::Listener;
use crate::slow::mld::message::{Record, report, report_of_sources, v1_done, v1_report};
use crate::testing::frame::eth;
use crate::testing::model::{PORT_MAC, leases, model, service, snapshot};
use crate::wire::mld;

const HERE: NetworkNo = NetworkNo::new(0);
/// The group of our own addresses, and that of the VIP.
const OWN: &str = "ff02::1:ff00:2";
const VIP: &str = "ff02::1:ff00:101";

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn groups() -> [Ipv6Addr; 2] {
    [OWN, VIP].map(address)
}

/// A listener in one network, at a time that the test sets.
struct Rig {
    listener: Listener,
    current: Compiled,
    begin: Instant,
    ms: u64,
}

impl Rig {
    /// With these VIPs; the first reports have been sent.
    fn new(vips: &[&str]) -> Self {
        let mut rig = Rig { listener: Listener::new(7), current: with_vips(vips), begin: Instant::now(), ms: 0 };
        rig.sync();
        while !rig.poll().is_empty() {}
        rig
    }

    fn now(&self) -> Instant {
        self.begin + Duration::from_millis(self.ms)
    }

    fn sync(&mut self) {
        self.listener.sync(announce::addresses(&self.current), self.now());
    }

    fn take(&mut self, vips: &[&str]) {
        self.current = with_vips(vips);
        self.sync();
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        self.poll_with(usize::MAX)
    }

    fn poll_with(&mut self, room: usize) -> Vec<Vec<u8>> {
        let frames = self.listener.poll(&self.current, self.now(), room);
        assert!(frames.len() <= room && frames.iter().all(|frame| frame.network == HERE));
        frames.into_iter().map(|frame| frame.bytes).collect()
    }

    /// What is sent in so many milliseconds from now on, each with its time.
    fn during(&mut self, ms: u64) -> Vec<(u64, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..ms {
            sent.extend(self.poll().into_iter().map(|frame| (self.ms, frame)));
            self.ms += 1;
        }
        sent
    }

    /// A query with this maximum response time. `None` sources: of MLDv1.
    fn ask(&mut self, group: &str, ms: u16, sources: Option<&[&str]>) {
        let head = [&ms.to_be_bytes()[..], &[0, 0], &address(group).octets()].concat();
        let tail = sources.map(|sources| {
            let count = u16::try_from(sources.len()).unwrap().to_be_bytes();
            let sources: Vec<u8> = sources.iter().flat_map(|source| address(source).octets()).collect();
            [&[2, 125][..], &count, &sources].concat()
        });
        let ip = eth().ipv6("fe80::1", "ff02::1").hop_limit(1).extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]);
        let frame = ip.icmp(58, 130, 0, &[head, tail.unwrap_or_default()].concat());
        let query = mld::query(&frame[14..]).expect("it is valid");
        self.listener.hear(&query, HERE, self.begin + Duration::from_millis(self.ms));
    }
}

fn with_vips(vips: &[&str]) -> Compiled {
    let mut model = model();
    for vip in vips {
        model.add_service(&service(&format!("[{vip}]:80"), &[]), &leases()).unwrap();
    }
    snapshot(model)
}

fn frames(sent: Vec<(u64, Vec<u8>)>) -> Vec<Vec<u8>> {
    sent.into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn groups_are_reported_when_they_are_joined_and_each_minute() {
    let mut rig = Rig { listener: Listener::new(7), current: with_vips(&["fd00::101"]), begin: Instant::now(), ms: 0 };
    rig.sync();
    let all = |record| report(PORT_MAC, record, &groups());
    assert_eq!(rig.poll(), [all(Record::Joined)]);
    assert_eq!(rig.during(59_999), []);
    let sent = rig.during(180_000);
    let times: Vec<u64> = sent.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times, [60_000, 120_000, 180_000]);
    assert!(sent.iter().all(|(_, frame)| *frame == all(Record::Listens)));
    // Another VIP: its group alone. An address that is announced again: the same.
    rig.take(&["fd00::101", "fd00::102"]);
    let third = address("ff02::1:ff00:102");
    assert_eq!(rig.poll(), [report(PORT_MAC, Record::Joined, &[third])]);
    rig.listener.report(HERE, IpAddr::V6(address("fd00::101")), rig.now());
    rig.listener.report(HERE, IpAddr::V6(address("fd00::77")), rig.now());
    assert_eq!(rig.poll(), [report(PORT_MAC, Record::Joined, &[address(VIP)])]);
}

#[test]
fn a_query_about_all_groups_is_answered_once_within_its_time() {
    let mut times = Vec::new();
    for seed in 0..50 {
        let mut rig = Rig::new(&["fd00::101"]);
        rig.listener = Listener::new(seed * 0x9e37_79b9 + 3);
        rig.sync();
        rig.poll();
        rig.ms = 1_000;
        rig.ask("::", 1_000, Some(&[]));
        // Asked again before the answer: there is still one.
        rig.ask("::", 1_000, Some(&[]));
        let sent = rig.during(5_000);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].1, report(PORT_MAC, Record::Listens, &groups()));
        times.push(sent[0].0 - 1_000);
    }
    assert!(times.iter().all(|&ms| ms <= 1_001), "{times:?}");
    assert!(times.iter().min().unwrap() < &300 && times.iter().max().unwrap() > &600, "at random times: {times:?}");
}

#[test]
fn a_query_about_a_group_is_answered_for_that_group() {
    let mut rig = Rig::new(&["fd00::101"]);
    rig.ms = 1_000;
    rig.ask(VIP, 100, Some(&[]));
    assert_eq!(frames(rig.during(2_000)), [report(PORT_MAC, Record::Listens, &[address(VIP)])]);
    rig.ask("ff02::1:ff00:77", 100, Some(&[]));
    assert_eq!(rig.during(2_000), [], "we do not listen to it");
    // About sources: the answer names those of all queries that it answers.
    rig.ask(VIP, 100, Some(&["fd00::8"]));
    rig.ask(VIP, 100, Some(&["fd00::9", "fd00::8"]));
    let sources = ["fd00::8", "fd00::9"].map(address);
    assert_eq!(frames(rig.during(2_000)), [report_of_sources(PORT_MAC, address(VIP), &sources)]);
    // About sources, and about all: about all. The same for more sources than are kept.
    rig.ask(VIP, 100, Some(&["fd00::8"]));
    rig.ask(VIP, 100, Some(&[]));
    rig.ask(VIP, 100, Some(&["fd00::9"]));
    assert_eq!(frames(rig.during(2_000)), [report(PORT_MAC, Record::Listens, &[address(VIP)])]);
    let many: Vec<String> = (0..33).map(|number| format!("fd00::{number:x}")).collect();
    rig.ask(VIP, 100, Some(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(frames(rig.during(2_000)), [report(PORT_MAC, Record::Listens, &[address(VIP)])]);
    // A query about all groups whose answer comes first answers it, too.
    rig.ask("::", 0, Some(&[]));
    rig.ask(VIP, 1_000, Some(&[]));
    assert_eq!(frames(rig.during(3_000)), [report(PORT_MAC, Record::Listens, &groups())]);
}

#[test]
fn where_a_router_is_of_version_1_so_are_the_reports() {
    let mut rig = Rig::new(&["fd00::101"]);
    rig.ms = 1_000;
    rig.ask("::", 30_000, Some(&[]));
    // The answer to the query of version 2 is not given any more.
    rig.ask("::", 1_000, None);
    let sent = rig.during(1_200);
    let mut answers = frames(sent);
    answers.sort_unstable();
    let mut expected = groups().map(|group| v1_report(PORT_MAC, group));
    expected.sort_unstable();
    assert_eq!(answers, expected);
    assert_eq!(rig.during(30_000), []);
    rig.ask(VIP, 100, None);
    assert_eq!(frames(rig.during(1_000)), [v1_report(PORT_MAC, address(VIP))]);
    rig.ask(VIP, 100, Some(&["fd00::8"]));
    assert_eq!(frames(rig.during(1_000)), [v1_report(PORT_MAC, address(VIP))], "a query of version 2, too");
    let minute = frames(rig.during(60_000));
    assert_eq!(minute.len(), 2, "what is said unasked, too: {minute:02x?}");
    rig.take(&[]);
    assert_eq!(frames(rig.during(2_000)), [v1_done(PORT_MAC, address(VIP)), v1_done(PORT_MAC, address(VIP))]);
    // Some minutes after the last query of version 1, it is version 2 again.
    rig.during(200_000);
    rig.take(&["fd00::101"]);
    assert_eq!(rig.poll(), [report(PORT_MAC, Record::Joined, &[address(VIP)])]);
}

#[test]
fn a_group_that_no_address_needs_is_left() {
    let mut rig = Rig::new(&["fd00::101", "fd00:1::101"]);
    rig.ms = 1_000;
    rig.take(&["fd00::101"]);
    assert_eq!(rig.during(5_000), [], "another VIP ends alike");
    rig.take(&[]);
    let sent = rig.during(5_000);
    let left = report(PORT_MAC, Record::Left, &[address(VIP)]);
    assert!(sent.len() == 2 && sent.iter().all(|(_, frame)| *frame == left), "{sent:?}");
    assert!(sent[0].0 == 6_000 && sent[1].0 <= 7_001, "{} and {}", sent[0].0, sent[1].0);
    // One that comes back at once is not left.
    rig.take(&["fd00::101"]);
    rig.poll();
    rig.take(&[]);
    rig.take(&["fd00::101"]);
    let sent = frames(rig.during(5_000));
    assert!(!sent.contains(&left) && sent.len() == 1, "{sent:02x?}");
}

#[test]
fn a_flood_of_queries_is_no_flood_of_reports() {
    let queries: [(&str, Option<&[&str]>); 4] =
        [("::", Some(&[])), (VIP, Some(&[])), (VIP, Some(&["fd00::8"])), (OWN, None)];
    for (group, sources) in queries {
        let mut rig = Rig::new(&["fd00::101"]);
        let mut reports = 0;
        for _ in 0..10_000 {
            rig.ask(group, 0, sources);
            reports += rig.poll().len();
            rig.ms += 1;
        }
        assert!((10..=60).contains(&reports), "{reports} in 10 s about {group}");
    }
}

#[test]
fn many_groups_take_turns_and_are_limited() {
    let vips: Vec<String> = (0..5_000).map(|number| format!("fd00::1:{number:x}")).collect();
    let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
    let mut rig = Rig { listener: Listener::new(7), current: with_vips(&vips), begin: Instant::now(), ms: 0 };
    rig.sync();
    let mut joined = 0;
    for _ in 0..100 {
        let reports = rig.poll_with(10);
        assert!(reports.iter().all(|report| report.len() <= 14 + 1_280));
        joined += reports.len();
    }
    assert_eq!(joined, 5_001usize.div_ceil(60));
    // Of version 1, there is a report for each group, and no time for them.
    rig.ms = 10_000;
    rig.ask("::", 0, None);
    let sent = rig.during(4_000);
    let in_first_second = sent.iter().filter(|(ms, _)| *ms < 11_000).count();
    assert!((2_000..=4_000).contains(&in_first_second), "{in_first_second}");
    assert_eq!(sent.len(), 5_001, "each, and none twice");
}

/// The groups that a report names.
fn named(frame: &[u8]) -> Vec<Ipv6Addr> {
    let message = &frame[14 + 40 + 8..];
    let at = |offset: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&message[offset..offset + 16]).unwrap());
    match message[0] {
        143 if message[8] != 1 => (0..usize::from(message[7])).map(|record| at(12 + 20 * record)).collect(),
        143 => vec![at(12)],
        _ => vec![at(8)],
    }
}

/// Queries: the time before each in ms, what it asks about, the time for the answer, whether it is of MLDv1, and whether it names a
/// source. Each group that a query is about is reported in time.
fn all_are_answered_in_time(steps: &[(u64, usize, u16, bool, bool)]) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(&["fd00::101"]);
    let mut reported: BTreeMap<Ipv6Addr, u64> = groups().map(|group| (group, 0)).into();
    let mut owed: Vec<(Ipv6Addr, u64, u64)> = Vec::new();
    let mut pass = |rig: &mut Rig, owed: &mut Vec<(Ipv6Addr, u64, u64)>, ms| {
        for (time, frame) in rig.during(ms) {
            for group in named(&frame) {
                reported.insert(group, time);
            }
        }
        owed.retain(|(group, since, _)| reported[group] < *since);
        owed.iter().find(|(_, _, until)| *until < rig.ms).copied()
    };
    for &(wait, about, ms, v1, of_source) in steps {
        let late = pass(&mut rig, &mut owed, wait);
        prop_assert_eq!(late, None);
        let sources: &[&str] = if of_source && about > 0 { &["fd00::8"] } else { &[] };
        rig.ask(["::", OWN, VIP][about], ms, if v1 { None } else { Some(sources) });
        if v1 {
            // A change of the version takes back what was owed before, also by a query of the same moment.
            owed.clear();
        }
        // An answer that was given just before counts, and there is a least time between two.
        let asked = match about {
            0 => &groups()[..],
            _ => &groups()[about - 1..about],
        };
        let until = rig.ms + u64::from(ms) + 202;
        owed.extend(asked.iter().map(|&group| (group, rig.ms.saturating_sub(200), until)));
    }
    let late = pass(&mut rig, &mut owed, 2_500);
    prop_assert_eq!(late, None);
    Ok(())
}

#[test]
fn a_query_of_an_older_version_in_the_same_moment_takes_back_what_was_asked() {
    let steps = [(201, 0, 0, false, false), (0, 0, 497, true, false), (203, 0, 0, false, false)];
    all_are_answered_in_time(&steps).unwrap();
}

proptest! {
    /// Whatever is asked, and whenever.
    #[test]
    fn each_query_has_its_answer_in_time(
        steps in prop::collection::vec((0u64..400, 0usize..3, 0u16..2_000, any::<bool>(), any::<bool>()), 1..60),
    ) {
        all_are_answered_in_time(&steps)?;
    }
}
