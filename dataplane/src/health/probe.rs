//! A probe under way: what it sends, what it makes of what comes, and what it has found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::Span;

use crate::base::frame::Frame;
use crate::control::model::health::{Ask, Check, Datagram, Dns, Http};
use crate::health::finding::{Failure, Finding, Trouble};
use crate::health::http::{self, HttpAnswer};
use crate::health::incoming::Kind;
use crate::health::stack::{Connection, Ends, Stack};
use crate::health::tls::desk::{Key, Said};
use crate::health::tls::talk::TlsTalk;
use crate::health::way::Way;
use crate::health::{datagram, dns};

/// How long a connection that has told what it was to tell may take to end in order. After that, it is reset.
const CLOSING: Duration = Duration::from_secs(1);
/// What a connection has room for, received and sent: without a dialog, and with one.
const ROOMS: (usize, usize) = (64, 64);
const DIALOG_ROOMS: (usize, usize) = (4_096, 4_096);
/// How long those who look after errands may take beside.
const ERRAND: Duration = Duration::from_secs(1);
/// What a ping carries, so that it can be recognized in a capture.
const PING: &[u8] = b"Shunt health check";

/// A probe under way.
pub(super) struct Probe {
    pub(super) way: Way,
    pub(super) began: Instant,
    /// When its time is over.
    pub(super) deadline: Instant,
    /// The local port, or the ident of a ping.
    local: u16,
    /// The port that is asked.
    port: u16,
    talk: Talk,
    /// Whether its finding was taken: it ends in order.
    told: bool,
    /// How long an answer may take.
    timeout: Duration,
}

enum Talk {
    Tcp {
        connection: Box<Connection>,
        dialog: Option<Dialog>,
        connected: bool,
    },
    Datagram(Arc<Datagram>),
    Dns(Arc<Dns>),
    Ping,
    /// Others look after it; the errand's number, when it has one.
    Errand(Option<u64>),
}

/// What is said over a connection.
enum Dialog {
    Plain(Plain),
    Tls(TlsTalk),
}

/// HTTP.
struct Plain {
    check: Arc<Http>,
    answer: HttpAnswer,
    request: Vec<u8>,
    /// So much of the request was given to the connection.
    sent: usize,
}

/// What has become of a probe.
#[derive(Default)]
pub(super) struct Progress {
    /// The frames to send.
    pub(super) frames: Vec<Frame>,
    /// What it has found; once.
    pub(super) finding: Option<Finding>,
    /// Whether it is over.
    pub(super) over: bool,
    /// Whether it is known that nothing can be found, by the director's own fault.
    pub(super) void: bool,
}

impl Probe {
    /// Begins a probe. `None`: this check has none.
    pub(super) fn begin(
        check: &Check,
        way: Way,
        local: u16,
        stack: &mut Stack,
        now: Instant,
    ) -> Option<(Probe, Progress)> {
        let port = check.port;
        let mut progress = Progress::default();
        let mut tcp = |dialog: Option<Dialog>, stack: &mut Stack| {
            let rooms = if dialog.is_some() { DIALOG_ROOMS } else { ROOMS };
            let ends = Ends { local: (way.source, local), remote: (way.target, port) };
            let mut connection = Box::new(stack.open(ends, rooms, now)?);
            progress.frames = frames(&way, stack.turn(&mut connection, None, now));
            Some(Talk::Tcp { connection, dialog, connected: false })
        };
        let talk = match &check.ask {
            Ask::Tcp => tcp(None, stack)?,
            Ask::Http(check) => {
                let request = http::request(check, way.target, port);
                let dialog = Plain { check: check.clone(), answer: HttpAnswer::default(), request, sent: 0 };
                tcp(Some(Dialog::Plain(dialog)), stack)?
            }
            Ask::Https(asked) => {
                let talk = TlsTalk::new(&mut stack.desk, local, asked, (way.target, port), check.timeout);
                tcp(Some(Dialog::Tls(talk)), stack)?
            }
            Ask::Udp(check) => {
                progress.frames = vec![way.frame(&way.datagram(local, port, &check.payload))];
                Talk::Datagram(check.clone())
            }
            Ask::Dns(check) => {
                progress.frames = vec![way.frame(&way.datagram(local, port, &dns::question(check, local)))];
                Talk::Dns(check.clone())
            }
            Ask::Icmp => {
                progress.frames = vec![way.frame(&way.ping(local, 0, PING))];
                Talk::Ping
            }
            Ask::Script(_) => Talk::Errand(None),
            Ask::Arp | Ask::Nothing => return None,
        };
        let timeout = check.timeout;
        // An errand may wait as long as it may take. Whoever looks after it says when its time is over.
        let patience = if let Talk::Errand(_) = talk { timeout * 2 + ERRAND } else { timeout };
        let deadline = now + patience;
        let probe = Probe { way, began: now, deadline, local, port, talk, told: false, timeout };
        Some((probe, progress))
    }

    /// Takes what has come for it.
    pub(super) fn hear(&mut self, kind: &Kind<'_>, stack: &mut Stack, now: Instant) -> Progress {
        match (&mut self.talk, kind) {
            (Talk::Tcp { .. }, Kind::Tcp { from, packet, .. }) if *from == self.port => {
                self.turn(Some(packet), stack, now)
            }
            (Talk::Datagram(check), Kind::Udp { from, payload, .. }) if *from == self.port => {
                Progress::with(datagram::judge(check, payload))
            }
            (Talk::Dns(check), Kind::Udp { from, payload, .. }) if *from == self.port => {
                dns::judge(check, self.local, payload).map_or_else(Progress::default, Progress::with)
            }
            (Talk::Ping, Kind::Pong { .. }) => Progress::with(Ok("answers the ping".into())),
            // What has connected is not disproved by an error; anybody can make one up.
            (Talk::Tcp { connected: true, .. }, Kind::Error { .. }) => Progress::default(),
            (Talk::Errand(_), _) => Progress::default(),
            (_, Kind::Error { failure, .. }) if !self.told => Progress::with(Err(failure.clone())),
            _ => Progress::default(),
        }
    }

    /// Gives it a turn, if it has something to do by itself.
    pub(super) fn turn(&mut self, packet: Option<&[u8]>, stack: &mut Stack, now: Instant) -> Progress {
        let Talk::Tcp { connection, dialog, connected } = &mut self.talk else { return Progress::default() };
        let mut progress =
            Progress { frames: frames(&self.way, stack.turn(connection, packet, now)), ..Progress::default() };
        let was_connected = std::mem::replace(connected, *connected || connection.is_open());
        if !self.told {
            progress.finding = match dialog {
                None if *connected => Some(Ok(format!("connected in {}", milliseconds(now - self.began)))),
                Some(Dialog::Plain(plain)) if *connected => plain.go_on(connection, was_connected),
                Some(Dialog::Tls(talk)) if *connected => talk.go_on(connection, now),
                _ if connection.is_over() => Some(Err(Failure::new(Trouble::Closed, "connection refused"))),
                _ => None,
            };
            if progress.finding.is_some() {
                self.told = true;
                self.deadline = now + CLOSING;
                connection.close();
            }
            if matches!(dialog, Some(Dialog::Tls(talk)) if talk.is_void()) {
                (self.told, progress.void) = (true, true);
                connection.abort();
            }
            progress.frames.extend(frames(&self.way, stack.turn(connection, None, now)));
        }
        // What a connection has left behind may be with its session, still.
        let is_tls = matches!(dialog, Some(Dialog::Tls(_)));
        progress.over = connection.is_over() && (self.told || !is_tls);
        progress
    }

    /// Whether it is the probe of this TLS session.
    pub(super) fn is_of(&self, key: Key) -> bool {
        matches!(&self.talk, Talk::Tcp { dialog: Some(Dialog::Tls(talk)), .. } if talk.is(key))
    }

    /// Takes what its TLS session has said.
    pub(super) fn hear_session(&mut self, said: Said, stack: &mut Stack, now: Instant) -> Progress {
        if let Talk::Tcp { dialog: Some(Dialog::Tls(talk)), .. } = &mut self.talk {
            talk.take(said);
        }
        self.turn(None, stack, now)
    }

    /// Notes the number of the errand that it is.
    pub(super) fn give_out(&mut self, id: u64) {
        self.talk = Talk::Errand(Some(id));
    }

    /// Whether it is the errand of this number.
    pub(super) fn is_errand_of(&self, id: u64) -> bool {
        matches!(self.talk, Talk::Errand(Some(own)) if own == id)
    }

    /// Until when it waits for what it is to find. `None`: it has found it.
    pub(super) fn awaits_until(&self) -> Option<Instant> {
        (!self.told).then_some(self.deadline)
    }

    /// What it has found when its time is over. A connection that ends is reset.
    pub(super) fn give_up(&mut self, stack: &mut Stack, now: Instant) -> Progress {
        let mut progress = Progress { over: true, ..Progress::default() };
        let span = Span::from(self.timeout);
        if let Talk::Tcp { connection, .. } = &mut self.talk {
            connection.abort();
            progress.frames = frames(&self.way, stack.turn(connection, None, now));
        }
        if self.told {
            return progress;
        }
        let failed = |trouble, words: String| Some(Err(Failure::new(trouble, words)));
        progress.finding = match &self.talk {
            Talk::Tcp { connected: true, dialog: Some(Dialog::Tls(talk)), .. } => {
                let failure = talk.silence(span, now);
                progress.void = failure.is_none();
                failure.map(Err)
            }
            Talk::Tcp { connected: true, dialog: Some(Dialog::Plain(plain)), .. } if plain.answer.has_begun() => {
                failed(Trouble::Slow, format!("the answer has begun, and did not end in {span}"))
            }
            Talk::Tcp { connected: true, .. } => failed(Trouble::Hung, format!("connected, and no answer in {span}")),
            Talk::Datagram(check) => Some(datagram::silence(check, span)),
            // Whoever was asked did not get to it.
            Talk::Errand(_) => {
                progress.void = true;
                None
            }
            Talk::Tcp { .. } | Talk::Dns(_) | Talk::Ping => failed(Trouble::Silent, format!("no answer in {span}")),
        };
        progress
    }

    /// When it has to be given a turn although nothing comes.
    pub(super) fn due(&mut self, stack: &mut Stack, now: Instant) -> Instant {
        let Talk::Tcp { connection, .. } = &mut self.talk else { return self.deadline };
        let due = connection.due(stack, now).map(|delay| now + delay.max(Duration::from_millis(1)));
        due.map_or(self.deadline, |due| due.min(self.deadline))
    }
}

impl Progress {
    /// The end of a probe that leaves nothing behind.
    fn with(finding: Finding) -> Progress {
        Progress { finding: Some(finding), over: true, ..Progress::default() }
    }
}

impl Plain {
    fn go_on(&mut self, connection: &mut Connection, was_connected: bool) -> Option<Finding> {
        // The request fits the connection's room, unless it is a very long one.
        self.sent += connection.send(&self.request[self.sent..]);
        let (data, end) = (connection.receive(), was_connected && connection.has_ended());
        if data.is_empty() && !end {
            return None;
        }
        self.answer.hear(&self.check, &data, end)
    }
}

fn frames(way: &Way, packets: Vec<Vec<u8>>) -> Vec<Frame> {
    packets.iter().map(|packet| way.frame(packet)).collect()
}

/// A time as it is read at a glance: `0.4 ms`, `12 ms`.
fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}
