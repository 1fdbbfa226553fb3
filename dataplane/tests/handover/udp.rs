//! Which flows of UDP a change moves, by the hand-over time: measured on traffic like that of DNS, QUIC and RTP.
//!
//! A service has four backends, and one of them is drained. What happens in the next five minutes is counted, and stands in
//! `docs/design/005-hand-over.md`. The traffic is a model. Each run has the same.

use std::collections::BTreeMap;

use ctl::Tracking;
use ctl::request::ServiceAdd;
use dataplane::testing::docs;

use crate::{Event, Kind, World};

/// The drained backend.
const DRAINED: u8 = 3;
/// The change comes after this time, in s, and the measurement ends that much later.
const BEFORE_S: u32 = 60;
const AFTER_S: u32 = 300;

/// Queries of DNS in a second. Each is a flow of its own, of one packet.
const QUERIES: u32 = 20;
/// Connections of QUIC, half of each kind. Each speaks for a moment, and then waits for its user.
const CONNECTIONS: u32 = 800;
/// Streams of RTP. Each is heard every second (really: every 20 ms, which is the same here).
const STREAMS: u32 = 100;

/// The longest silences of QUIC, in s, and how many of a hundred are up to that. Many clients and servers close a connection
/// that is idle for 30 s: it is never silent for longer. Others keep it open for minutes.
const SILENCES: [(u64, u64); 3] = [(5, 60), (15, 20), (30, 20)];
const LONG_SILENCES: [(u64, u64); 5] = [(5, 60), (15, 20), (30, 12), (60, 5), (240, 3)];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Traffic {
    Dns,
    Quic,
    LongQuic,
    Rtp,
}

/// A flow: where it lives, and when it speaks next.
struct Speaker {
    traffic: Traffic,
    port: u16,
    home: Option<u8>,
    /// Whether it began before the change.
    old: bool,
    moved: bool,
    next_s: u32,
}

/// What was counted after the change.
#[derive(Default)]
struct Counts {
    /// Flows of the drained backend that began before the change, and were heard of after it.
    old: u32,
    /// Those of them that another backend got.
    moved: u32,
    /// Flows that began after the change.
    new: u32,
    /// Those of them that the drained backend got.
    to_drained: u32,
    /// The last second in which it got one.
    last_s: u32,
}

/// A generator of numbers that are always the same (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn silence_s(&mut self, silences: &[(u64, u64)]) -> u32 {
        let (mut shortest, mut dice) = (1, self.below(100));
        for &(longest, hundredths) in silences {
            if dice < hundredths {
                return u32::try_from(shortest + self.below(longest - shortest + 1)).unwrap();
            }
            (shortest, dice) = (longest, dice - hundredths);
        }
        unreachable!("the silences are a hundred hundredths")
    }
}

fn measure(wanted: ServiceAdd) -> BTreeMap<Traffic, Counts> {
    let mut world = World::new(wanted, 1);
    (0..4).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
    world.pass(400_000);
    let (mut dice, mut port) = (Dice(0x2545_f491_4f6c_dd1d), 1_024);
    let mut speakers: Vec<Speaker> = Vec::new();
    let mut counts: BTreeMap<Traffic, Counts> = BTreeMap::new();
    for second in 0..BEFORE_S + AFTER_S {
        if second == BEFORE_S {
            world.happen(&Event::Drain { backend: DRAINED, deadline_s: None });
        }
        let mut begin = |speakers: &mut Vec<Speaker>, traffic, next_s| {
            let old = second < BEFORE_S;
            speakers.push(Speaker { traffic, port, home: None, old, moved: false, next_s });
            port += 1;
        };
        (0..QUERIES).for_each(|_| begin(&mut speakers, Traffic::Dns, second));
        // Connections and streams begin in the first seconds; a few more, all the time.
        let first = second < 10;
        for traffic in [Traffic::Quic, Traffic::LongQuic] {
            (0..if first { CONNECTIONS / 20 } else { 1 }).for_each(|_| begin(&mut speakers, traffic, second));
        }
        (0..if first { STREAMS / 10 } else { 1 }).for_each(|_| begin(&mut speakers, Traffic::Rtp, second));
        for speaker in speakers.iter_mut().filter(|speaker| speaker.next_s == second) {
            let got = world.send(speaker.port, Kind::Data);
            let count = counts.entry(speaker.traffic).or_default();
            match speaker.home {
                Some(home) => {
                    speaker.moved |= got != Some(home);
                }
                None if speaker.old => {}
                None => {
                    count.new += 1;
                    if got == Some(DRAINED) {
                        (count.to_drained, count.last_s) = (count.to_drained + 1, second - BEFORE_S);
                    }
                }
            }
            let first = speaker.home.is_none();
            speaker.home = speaker.home.or(got);
            speaker.next_s = match speaker.traffic {
                Traffic::Dns => u32::MAX,
                Traffic::Quic => second + dice.silence_s(&SILENCES),
                Traffic::LongQuic => second + dice.silence_s(&LONG_SILENCES),
                Traffic::Rtp => second + 1,
            };
            if speaker.old && second >= BEFORE_S && !first {
                // Counted once, at the first packet after the change.
                speaker.old = false;
                count.old += u32::from(speaker.home == Some(DRAINED));
                count.moved += u32::from(speaker.home == Some(DRAINED) && speaker.moved);
            }
        }
        speakers.retain(|speaker| speaker.next_s != u32::MAX);
        world.pass(1_000);
    }
    counts
}

/// A hundred times this share, as a text.
fn percent(part: u32, all: u32) -> String {
    format!("{:.1} %", f64::from(part) * 100.0 / f64::from(all.max(1)))
}

#[test]
fn what_a_change_of_a_udp_service_moves() {
    let service = || ServiceAdd::new("192.168.0.101:443/udp".parse().unwrap(), vec![]);
    let with = |seconds| ServiceAdd { handover_time_s: Some(seconds), ..service() };
    let mut rows = Vec::new();
    let mut kinds: Vec<(String, ServiceAdd)> =
        vec![("tracking = \"none\"".into(), ServiceAdd { tracking: Some(Tracking::None), ..service() })];
    kinds.extend([1, 5, 15, 30, 60, 120, 300].map(|seconds| {
        let default = if seconds == 30 { " (default)" } else { "" };
        (format!("{seconds} s{default}"), with(seconds))
    }));
    kinds.push(("30 s, tracking = \"all\"".into(), ServiceAdd { tracking: Some(Tracking::All), ..with(30) }));
    for (name, wanted) in kinds {
        let (tracking, handover_s) = (wanted.tracking, wanted.handover_time_s.unwrap_or(0));
        let counts = measure(wanted);
        let all = [Traffic::Dns, Traffic::Quic, Traffic::LongQuic, Traffic::Rtp];
        let [dns, quic, long_quic, rtp] = all.map(|traffic| &counts[&traffic]);
        let (to_drained, last_s) = counts
            .values()
            .fold((0, 0), |(to_drained, last_s), count| (to_drained + count.to_drained, last_s.max(count.last_s)));
        // New flows go to the drained backend for the hand-over time, and no longer. Where all or none are known, never.
        let lasts = if tracking.is_some() { to_drained == 0 } else { last_s <= handover_s + 2 && dns.to_drained > 0 };
        assert!(lasts, "{name}: {to_drained} new flows, the last one after {last_s} s");
        // What is heard of within the hand-over time does not move.
        let hands_over = tracking != Some(Tracking::None);
        assert!(!hands_over || rtp.moved == 0, "{name}: {} streams", rtp.moved);
        assert!(!hands_over || handover_s < 30 || quic.moved == 0, "{name}: {} connections", quic.moved);
        assert!(tracking != Some(Tracking::All) || long_quic.moved == 0, "{name}: {} connections", long_quic.moved);
        let moved = [rtp, quic, long_quic].map(|count| percent(count.moved, count.old));
        let told = if to_drained == 0 { "none".into() } else { format!("for {} s", last_s + 1) };
        rows.push([vec![name], moved.to_vec(), vec![told, percent(dns.to_drained, dns.new)]].concat());
    }
    let columns = [
        "`handover_time`",
        "RTP moved",
        "QUIC moved, silent for 30 s at most",
        "QUIC moved, silent for 4 min at most",
        "new flows to the drained backend",
        "of all DNS queries in 5 min",
    ];
    docs::check("docs/design/005-hand-over.md", "udp", &docs::table(&columns, rows));
}
