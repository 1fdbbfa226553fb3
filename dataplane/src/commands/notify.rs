//! `notify`: a command for each event that is bad enough, one after the other, in their order.
//!
//! The [log of events](crate::control::events) is the queue: what has been pushed out of it before its turn is lost, and counted.
//! What goes wrong here is said in the daemon's log only. An event would be a reason for the next command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::answer::{Event, Severity};
use ctl::request::EventQuery;
use metrics::counter;
use tracing::warn;

use crate::commands::channel::Sent;
use crate::commands::order::{Ended, Order};
use crate::control::events::{EventLog, Kind, NOTIFIED};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the runner may take to say what has become of one, beside.
const PATIENCE: Duration = Duration::from_secs(5);
/// In the number of an order: it is one of these.
const OURS: u64 = 1 << 63;
/// The least time between two lines of the log.
const SAID: Duration = Duration::from_secs(10);
/// Events that are looked at in one go.
const AT_ONCE: usize = 64;

fn count(outcome: &'static str, events: u64) {
    counter!("shunt_notifications_total", "outcome" => outcome).increment(events);
}

/// What is to be told, and what has been.
#[derive(Debug)]
pub(super) struct Notify {
    command: Vec<String>,
    least: Severity,
    events: Arc<EventLog>,
    /// The number of the last event that was looked at.
    seen: u64,
    /// What is to be sent, as soon as there is a runner with room for it.
    next: Option<Order>,
    /// The command under way, and when nobody waits for its end any more.
    under_way: Option<(Order, Instant)>,
    troubles: Troubles,
}

/// What went wrong since it was said.
#[derive(Debug, Default)]
struct Troubles {
    failed: u64,
    lost: u64,
    last: String,
    /// Nothing is said before.
    quiet_until: Option<Instant>,
}

impl Notify {
    /// Runs this command for events that are as bad as that, or worse.
    pub(super) fn new(command: Vec<String>, least: Severity, events: Arc<EventLog>) -> Self {
        let troubles = Troubles::default();
        Notify { command, least, events, seen: 0, next: None, under_way: None, troubles }
    }

    /// Has the next command run, if there is one and the last one has ended.
    pub(super) fn turn(&mut self, now: Instant, send: impl FnOnce(&Order) -> Sent) {
        if self.under_way.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.over(Some("nobody says what has become of it".into()));
        }
        if self.under_way.is_none() {
            self.next = self.next.take().or_else(|| self.pick());
        }
        if let Some(order) = self.next.take() {
            match send(&order) {
                Sent::Gone => self.under_way = Some((order, now + LIMIT + PATIENCE)),
                Sent::Full => self.next = Some(order),
                Sent::Never => self.troubles.fail(&order, "the event cannot be handed on"),
            }
        }
        self.troubles.say(now);
    }

    /// Takes what has become of a command, if it is one of these.
    pub(super) fn hear(&mut self, ended: &Ended) -> bool {
        if self.under_way.as_ref().is_some_and(|(order, _)| order.id == ended.id) {
            self.over((!ended.how.is_good()).then(|| ended.how.words(LIMIT)));
        }
        ended.id & OURS != 0
    }

    /// The command under way is over; here is what went wrong.
    fn over(&mut self, trouble: Option<String>) {
        match (self.under_way.take(), trouble) {
            (Some((order, _)), Some(trouble)) => self.troubles.fail(&order, &trouble),
            (Some(_), None) => count(NOTIFIED[0], 1),
            (None, _) => {}
        }
    }

    /// The next event that is to be told.
    fn pick(&mut self) -> Option<Order> {
        let events = self.events.list(EventQuery { since: Some(self.seen), limit: Some(AT_ONCE) });
        for event in events {
            let lost = event.sequence - self.seen - 1;
            self.troubles.lost += lost;
            count(NOTIFIED[2], lost);
            self.seen = event.sequence;
            // A command that ends the runner would be run for that, too.
            if event.severity >= self.least && event.kind != Kind::CommandsStopped.name() {
                return Some(self.order(&event));
            }
        }
        None
    }

    fn order(&self, event: &Event) -> Order {
        let about = [("SHUNT_EVENT", event.kind.clone()), ("SHUNT_SEVERITY", event.severity.name().into())];
        Order {
            id: OURS | event.sequence,
            command: self.command.clone(),
            environment: about.map(|(name, value)| (name.into(), value)).into(),
            input: serde_json::to_string(event).ok().map(|json| json + "\n"),
            limit_ms: u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX),
            beside: true,
        }
    }
}

impl Troubles {
    fn fail(&mut self, order: &Order, why: &str) {
        count(NOTIFIED[1], 1);
        self.failed += 1;
        self.last = format!("for event {}: {why}", order.id & !OURS);
    }

    /// Says what went wrong, so often and no more.
    fn say(&mut self, now: Instant) {
        if self.failed + self.lost == 0 || self.quiet_until.is_some_and(|until| until > now) {
            return;
        }
        let Troubles { failed, lost, last, .. } = std::mem::take(self);
        self.quiet_until = Some(now + SAID);
        if failed > 0 {
            warn!("notify: the command failed {failed} times, the last time {last}");
        }
        if lost > 0 {
            warn!("notify: there was no time for {lost} events: the command takes too long, or cannot be run");
        }
    }
}

#[cfg(test)]
mod tests {
    use ctl::answer::Subject;

    use super::*;
    use crate::commands::order::How;
    use crate::control::events::KEPT;

    struct Rig {
        notify: Notify,
        events: Arc<EventLog>,
        now: Instant,
        sent: Vec<Order>,
    }

    impl Rig {
        fn new(least: Severity) -> Rig {
            let events = Arc::<EventLog>::default();
            let notify = Notify::new(vec!["/bin/tell".into()], least, events.clone());
            Rig { notify, events, now: Instant::now(), sent: Vec::new() }
        }

        fn write(&self, kind: Kind) {
            self.events.write(kind, Subject::default(), self.now, || "It happened.".into());
        }

        /// A turn in which the runner takes orders, or does not. Returns what was sent.
        fn turn(&mut self, sent: Sent) -> Option<Event> {
            let mut order = None;
            self.notify.turn(self.now, |new| {
                order = (sent == Sent::Gone).then(|| new.clone());
                sent
            });
            let order = order?;
            let event = serde_json::from_str(order.input.as_ref().unwrap()).unwrap();
            self.sent.push(order);
            Some(event)
        }

        fn end(&mut self, how: How) {
            let id = self.sent.last().unwrap().id;
            assert!(self.notify.hear(&Ended { id, how }));
        }
    }

    fn exit(status: i32) -> How {
        How::Exit { status, said: String::new() }
    }

    #[test]
    fn events_that_are_bad_enough_are_told_one_after_the_other() {
        let mut rig = Rig::new(Severity::Warn);
        assert_eq!(rig.turn(Sent::Gone), None);
        let kinds =
            [Kind::Started, Kind::LinkDown, Kind::LinkUp, Kind::MtuChanged, Kind::CommandsStopped, Kind::LinkDown];
        kinds.into_iter().for_each(|kind| rig.write(kind));
        assert_eq!(rig.turn(Sent::Full), None, "there is no runner yet");
        let first = rig.turn(Sent::Gone).unwrap();
        assert_eq!(rig.events.list(EventQuery { since: Some(1), limit: Some(1) }), [first], "the event itself");
        assert_eq!(rig.turn(Sent::Gone), None, "it is under way");
        assert!(!rig.notify.hear(&Ended { id: 2, how: exit(0) }), "the number of a check's");
        rig.end(exit(0));
        assert_eq!(rig.turn(Sent::Gone).unwrap().kind, "mtu-changed");
        rig.end(exit(1));
        assert_eq!(rig.turn(Sent::Gone).unwrap().sequence, 6, "an event about the runner is not told");
        // Nobody says what has become of it.
        rig.now += LIMIT + PATIENCE;
        rig.write(Kind::LinkDown);
        assert_eq!(rig.turn(Sent::Gone).unwrap().sequence, 7);
        rig.end(exit(0));
        assert_eq!(rig.turn(Sent::Gone), None);
        assert_eq!(rig.events.list(EventQuery::default()).len(), 7, "what goes wrong is no event");
    }

    #[test]
    fn what_there_is_no_time_for_is_counted() {
        let mut rig = Rig::new(Severity::Error);
        (0..KEPT + 10).for_each(|_| rig.write(Kind::LinkDown));
        rig.notify.troubles.quiet_until = Some(rig.now + SAID);
        assert_eq!(rig.turn(Sent::Gone).unwrap().sequence, 11);
        assert_eq!((rig.notify.troubles.lost, rig.notify.troubles.failed), (10, 0));
        rig.end(How::Overran);
        assert_eq!(rig.notify.troubles.last, "for event 11: did not end in 10s");
        rig.now += SAID;
        rig.turn(Sent::Gone);
        assert_eq!((rig.notify.troubles.lost, rig.notify.troubles.failed), (0, 0), "it was said");
    }
}
