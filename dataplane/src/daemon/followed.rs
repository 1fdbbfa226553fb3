//! A port as the daemon follows it: what becomes of its device, its link, its MTU and its MAC address; what is to be done about that, and
//! what the operator is to know.
//!
//! A port that cannot be used as it is open is closed: its device is gone, another one has come in its place, or it was administratively
//! down, and would now send what had been left in its rings. It is opened again as soon as there is a device to open. The steps
//! are made by others, who say when they are done:
//!
//! ```text
//! Open ──▶ Recalled ──▶ Closing ──▶ Closed ──▶ Opening ──▶ Open
//!            workers give queue pairs back        └─ again, until it works
//! ```

use std::time::{Duration, Instant};

use crate::base::limits::MTUS;
use crate::base::token_bucket::TokenBucket;
use crate::control::events::Kind;
use crate::daemon::place::Properties;
use crate::netlink::{Interface, News};
use crate::state::networks::PortLink;

/// How many events of a port's link there are in a second, and at once.
const LINK_EVENTS: u32 = 2;

/// How long to wait before a device that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A port, and what is known of it.
pub(super) struct Followed {
    /// The port's name in the configuration.
    pub(super) name: String,
    /// The port as the director is to know it.
    pub(super) link: PortLink,
    life: Life,
    /// The largest MTU that it was opened for.
    most_mtu: u16,
    /// The Linux interface behind it, if the kernel must be asked for its state.
    interface: Option<Bound>,
    /// Whether the device has said that it was removed.
    removed: bool,
    /// Why the device could not be opened.
    failure: Option<String>,
    told: Told,
}

/// How far a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The workers have its queue pairs.
    Open,
    /// The workers are to give them back.
    Recalled,
    /// They have, and it is being closed.
    Closing,
    /// It is closed, and may be opened from this time on.
    Closed(Instant),
    /// It is being opened.
    Opening,
}

/// What is to be done with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The workers are to give its queue pairs back.
    Recall,
    /// Its device is to be opened.
    Open,
}

/// The Linux interface that a port is bound to, or was.
struct Bound {
    name: String,
    index: u32,
    said: Said,
    /// Whether the port is to be opened anew after the interface was administratively down.
    keeps_frames: bool,
    /// Whether the port cannot be used as it is open, since the interface was gone, or down, meanwhile.
    interrupted: bool,
}

/// What the kernel has said last of the interface of this name.
enum Said {
    Nothing,
    Is(Interface),
    Gone,
}

impl Said {
    fn interface(&self) -> Option<&Interface> {
        match self {
            Said::Is(interface) => Some(interface),
            Said::Nothing | Said::Gone => None,
        }
    }
}

/// What a device has said that the kernel does not tell of.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceSaid {
    /// Whether its link is up.
    pub(super) up: bool,
    /// Whether it was down since the device was asked last.
    pub(super) was_down: bool,
    /// Whether it was removed since then.
    pub(super) removed: bool,
}

/// What has happened, for the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happening {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Followed {
    /// A port that was opened with these properties.
    pub(super) fn new(name: &str, properties: Properties, now: Instant) -> Self {
        let Properties { link, most_mtu, interface, keeps_frames } = properties;
        let said = Said::Nothing;
        let interface = interface.map(|(name, index)| Bound { name, index, said, keeps_frames, interrupted: false });
        let told = Told::new(now);
        Followed { name: name.into(), link, life: Life::Open, most_mtu, interface, removed: false, failure: None, told }
    }

    /// The interface that news are wanted of.
    pub(super) fn interface(&self) -> Option<&str> {
        self.interface.as_ref().map(|bound| &*bound.name)
    }

    /// Takes news of an interface, which may be another one.
    pub(super) fn hear(&mut self, news: &News, now: Instant) -> Vec<Happening> {
        let Some(bound) = &mut self.interface else { return Vec::new() };
        if !bound.hear(news) {
            return Vec::new();
        }
        let mut happened = Vec::new();
        if self.is_usable() {
            happened.extend(self.take_mac());
            happened.extend(self.take_mtu());
        }
        happened.extend(self.settle(self.link.up, now));
        happened
    }

    /// Takes what the device says of itself.
    pub(super) fn hear_device(&mut self, said: DeviceSaid, now: Instant) -> Vec<Happening> {
        let DeviceSaid { up, was_down, removed } = said;
        self.removed |= removed;
        // It was down in between.
        let flap = if was_down && up && self.link.up { self.settle(false, now) } else { None };
        flap.into_iter().chain(self.settle(up, now)).collect()
    }

    /// What is to be done now. It is taken as begun.
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        match self.life {
            Life::Open if !self.is_usable() => {
                self.life = Life::Recalled;
                Some(Step::Recall)
            }
            Life::Closed(again) if again <= now && self.can_open() => {
                self.life = Life::Opening;
                if let Some(bound) = &mut self.interface {
                    bound.interrupted = false;
                }
                Some(Step::Open)
            }
            _ => None,
        }
    }

    /// Whether the workers are giving its queue pairs back.
    pub(super) fn is_recalled(&self) -> bool {
        self.life == Life::Recalled
    }

    /// The workers have given its queue pairs back.
    pub(super) fn given_back(&mut self) {
        self.life = Life::Closing;
    }

    /// It is closed.
    pub(super) fn closed(&mut self, now: Instant) {
        self.life = Life::Closed(now);
    }

    /// It is open, and the workers have its queue pairs; or why that is not so.
    pub(super) fn opened(&mut self, outcome: Result<Properties, String>, now: Instant) -> Vec<Happening> {
        let mut happened = Vec::new();
        match outcome {
            Ok(Properties { link, most_mtu, interface, keeps_frames }) => {
                (self.life, self.failure, self.most_mtu, self.removed) = (Life::Open, None, most_mtu, false);
                if let (Some(bound), Some((_, index))) = (&mut self.interface, interface) {
                    (bound.index, bound.keeps_frames) = (index, keeps_frames);
                }
                happened.extend(self.set_mac(link.mac));
                self.link.mtu = if self.said().is_some() { self.link.mtu } else { link.mtu };
                if self.is_usable() {
                    happened.extend(self.take_mac());
                    happened.extend(self.take_mtu());
                }
                happened.extend(self.settle(link.up, now));
            }
            Err(failure) => {
                (self.life, self.failure) = (Life::Closed(now + RETRY), Some(failure));
                happened.extend(self.settle(false, now));
            }
        }
        happened
    }

    /// Whether the port can be used as it is open.
    fn is_usable(&self) -> bool {
        self.life == Life::Open && !self.removed && self.interface.as_ref().is_none_or(Bound::is_the_one)
    }

    /// Whether there is a device to open.
    fn can_open(&self) -> bool {
        self.interface.as_ref().is_none_or(|bound| match &bound.said {
            Said::Nothing => true,
            Said::Is(interface) => interface.admin_up,
            Said::Gone => false,
        })
    }

    /// Sets the link anew. `up` is what the device says; an interface is asked by the kernel's word.
    fn settle(&mut self, up: bool, now: Instant) -> Option<Happening> {
        let said = self.interface.as_ref().and_then(|bound| bound.said.interface());
        let up = self.is_usable() && said.map_or(up, Interface::is_up);
        if up && !self.link.up {
            self.link.joins += 1;
        }
        self.link.up = up;
        if let Some(state) = self.state() {
            self.told.now_is(state);
        }
        self.tell(now)
    }

    /// How it is with the port, as far as the operator is concerned. `None` while it is between two states.
    fn state(&self) -> Option<State> {
        let said = self.interface.as_ref().map(|bound| &bound.said);
        match (said, self.life) {
            _ if self.removed => Some(State::Gone),
            (Some(Said::Gone), _) => Some(State::Gone),
            (Some(Said::Is(interface)), _) if !interface.admin_up => Some(State::Down),
            (_, Life::Open) if self.link.up => Some(State::Up),
            (_, Life::Open) if self.is_usable() => Some(State::Down),
            (_, Life::Closed(_)) if self.failure.is_some() => Some(State::Unusable),
            _ => None,
        }
    }

    /// What is still to be told of the port. To be called now and then.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Happening> {
        let (before, state, left_out) = self.told.next(now)?;
        let name = &self.name;
        let away = matches!(before, State::Gone | State::Unusable);
        let (kind, message) = match state {
            State::Up if away => (Kind::PortBack, format!("The device of port {name} is back, and in use")),
            State::Up => (Kind::LinkUp, format!("The link of port {name} is up")),
            State::Down if away => (Kind::PortBack, format!("The device of port {name} is back; {}", self.cause())),
            State::Down => (Kind::LinkDown, format!("The link of port {name} is down: {}", self.cause())),
            State::Gone => (Kind::PortGone, format!("The device of port {name} is gone: {}", self.cause())),
            State::Unusable => (Kind::PortUnusable, format!("Port {name} cannot be opened again: {}", self.cause())),
        };
        let before =
            if left_out > 0 { format!("; before, it has changed {left_out} more times") } else { String::new() };
        Some(Happening { kind, message: message + &before })
    }

    /// Why the port cannot be used now, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        (!self.link.up).then(|| self.cause())
    }

    /// What brings the link back.
    pub(super) fn mend(&self) -> String {
        match &self.interface {
            Some(bound) if bound.said.interface().is_some_and(|interface| !interface.admin_up) => {
                format!("ip link set {} up", bound.name)
            }
            Some(Bound { name, said: Said::Gone, .. }) => format!("bring the interface {name} back"),
            _ => "look at the cable, the switch, or the other end".into(),
        }
    }

    /// Why the port cannot be used, and what to do about it.
    fn cause(&self) -> String {
        const LOOK: &str = "look at the cable, the switch, or the other end";
        let Some(bound) = &self.interface else {
            return match (self.removed, &self.failure) {
                (false, Some(failure)) => failure.clone(),
                (false, None) => format!("nothing is received or sent there; {LOOK}"),
                (true, None) => "it was removed; frames that were to leave there are dropped until it is back".into(),
                (true, Some(failure)) => format!("it was removed, and cannot be opened again: {failure}"),
            };
        };
        let name = &bound.name;
        match (&bound.said, &self.failure) {
            (Said::Gone, _) => {
                format!("there is no interface {name}; frames that were to leave there are dropped until it is back")
            }
            (Said::Is(interface), _) if !interface.admin_up => {
                format!(
                    "{name} is administratively down, and nothing is received or sent there; `ip link set {name} up`"
                )
            }
            (_, Some(failure)) => failure.clone(),
            (Said::Is(interface), None) if interface.is_up() => format!("{name} is being opened"),
            _ => format!("{name} has no carrier, and nothing is received or sent there; {LOOK}"),
        }
    }

    fn said(&self) -> Option<&Interface> {
        self.interface.as_ref()?.said.interface()
    }

    fn take_mac(&mut self) -> Option<Happening> {
        self.set_mac(self.said()?.mac?)
    }

    fn set_mac(&mut self, mac: ctl::Mac) -> Option<Happening> {
        if mac == self.link.mac {
            return None;
        }
        let before = std::mem::replace(&mut self.link.mac, mac);
        self.link.joins += 1;
        let name = &self.name;
        let message = format!(
            "Port {name} has the MAC address {mac}, and no longer {before}: it is in force, and announced; if that was not meant, \
             look for who has changed it"
        );
        Some(Happening { kind: Kind::MacChanged, message })
    }

    fn take_mtu(&mut self) -> Option<Happening> {
        let kernel = self.said()?.mtu?;
        let most = u32::from(self.most_mtu);
        // The loopback interface's 65536 was cut to what a buffer can have.
        let known = self.told.mtu.replace(kernel).unwrap_or(u32::from(self.link.mtu));
        let before = self.link.mtu;
        self.link.mtu = u16::try_from(kernel.min(most)).unwrap_or(self.most_mtu);
        if kernel == known || kernel.min(u32::from(*MTUS.end())) == known {
            return None;
        }
        let name = &self.name;
        let (kind, message) = if kernel > most {
            let what = format!("Port {name} has an MTU of {kernel}, and was opened for {most} at most");
            (Kind::MtuTooLarge, format!("{what}: larger packets are lost; restart the daemon, or set the MTU back"))
        } else {
            let what = format!("Port {name} has an MTU of {kernel}, and no longer {before}");
            (Kind::MtuChanged, format!("{what}: from now on, senders of larger packets are told"))
        };
        Some(Happening { kind, message })
    }
}

impl Bound {
    /// Takes news. Returns whether they concern the interface of this name, or the one that had it.
    fn hear(&mut self, news: &News) -> bool {
        let index = self.said.interface().map_or(self.index, |interface| interface.index);
        match news {
            News::Is(interface) => {
                let same = interface.index == index;
                let interface = match &self.said {
                    Said::Is(before) if same => interface.clone().or(before),
                    _ => interface.clone(),
                };
                if interface.is_called(&self.name) {
                    self.interrupted |= self.keeps_frames && !interface.admin_up;
                    self.said = Said::Is(interface);
                    true
                } else if same {
                    // It has another name now.
                    self.lose();
                    true
                } else {
                    false
                }
            }
            News::Gone(gone) if *gone == index => {
                self.lose();
                true
            }
            News::Absent(name) if *name == self.name => {
                self.lose();
                true
            }
            News::Gone(_) | News::Absent(_) => false,
        }
    }

    fn lose(&mut self) {
        self.said = Said::Gone;
        self.interrupted = true;
    }

    /// Whether the port is bound to the interface that there is, and has not missed anything.
    fn is_the_one(&self) -> bool {
        match &self.said {
            Said::Nothing => true,
            Said::Is(interface) => interface.index == self.index && !self.interrupted,
            Said::Gone => false,
        }
    }
}

/// How it is with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down,
    Gone,
    Unusable,
}

/// What the operator knows, and may be told.
struct Told {
    /// The state that was told last.
    told: State,
    /// The state now, and how often it has changed since.
    now: State,
    changes: u32,
    /// Whoever has the other end of a link can make it go up and down all the time.
    bucket: TokenBucket,
    begin: Instant,
    /// The kernel's MTU.
    mtu: Option<u32>,
}

impl Told {
    fn new(now: Instant) -> Self {
        let bucket = TokenBucket::new(LINK_EVENTS, 1);
        Told { told: State::Up, now: State::Up, changes: 0, bucket, begin: now, mtu: None }
    }

    fn now_is(&mut self, state: State) {
        if state != self.now {
            self.now = state;
            self.changes += 1;
        }
    }

    /// Whether there is something to tell now: the state before, the state, and how often it has changed in between.
    fn next(&mut self, now: Instant) -> Option<(State, State, u32)> {
        let left_out = self.changes.checked_sub(1)?;
        let now_ms = u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        if !self.bucket.take(now_ms) {
            return None;
        }
        self.changes = 0;
        Some((std::mem::replace(&mut self.told, self.now), self.now, left_out))
    }
}

#[cfg(test)]
mod tests {
    use ctl::Mac;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 8]);

    fn eth7() -> Interface {
        Interface {
            index: 3,
            names: vec!["eth7".into()],
            admin_up: true,
            running: true,
            mac: Some(MAC),
            mtu: Some(1_500),
        }
    }

    fn no_carrier() -> Interface {
        Interface { running: false, ..eth7() }
    }

    fn down() -> Interface {
        Interface { admin_up: false, running: false, ..eth7() }
    }

    fn properties(index: u32) -> Properties {
        let interface = Some(("eth7".into(), index));
        Properties { link: PortLink::new(MAC, 1_500), most_mtu: 2_000, interface, keeps_frames: true }
    }

    /// A port on eth7, and a clock that goes a second for each news.
    struct Rig {
        port: Followed,
        now: Instant,
    }

    impl Rig {
        /// The kernel has said that it is as it was opened.
        fn new() -> Rig {
            let now = Instant::now();
            let mut rig = Rig { port: Followed::new("lan0", properties(3), now), now };
            assert_eq!(rig.hear(eth7()), []);
            rig
        }

        fn hear(&mut self, interface: Interface) -> Vec<(&'static str, String)> {
            self.hear_news(&News::Is(interface))
        }

        fn hear_news(&mut self, news: &News) -> Vec<(&'static str, String)> {
            self.now += Duration::from_secs(1);
            let happened = self.port.hear(news, self.now);
            happened.into_iter().map(|Happening { kind, message }| (kind.name(), message)).collect()
        }

        fn kinds(&mut self, news: &News) -> Vec<&'static str> {
            self.hear_news(news).into_iter().map(|(kind, _)| kind).collect()
        }

        fn step(&mut self) -> Option<Step> {
            self.port.step(self.now)
        }

        /// The workers give the queue pairs back, and the port is closed.
        fn close(&mut self) {
            assert_eq!(self.step(), Some(Step::Recall));
            assert!(self.port.is_recalled() && !self.port.link.up);
            self.port.given_back();
            assert_eq!((self.step(), self.port.is_recalled()), (None, false));
            self.port.closed(self.now);
        }

        fn open(&mut self, outcome: Result<Properties, String>) -> Vec<&'static str> {
            self.now += Duration::from_secs(2);
            assert_eq!(self.step(), Some(Step::Open));
            assert_eq!(self.step(), None, "once");
            let happened = self.port.opened(outcome, self.now);
            happened.into_iter().map(|happening| happening.kind.name()).collect()
        }
    }

    #[test]
    fn a_link_that_goes_down_and_up_is_told_with_its_cause() {
        let mut rig = Rig::new();
        let (kind, message) = rig.hear(no_carrier()).remove(0);
        assert_eq!((kind, rig.port.link.up), ("link-down", false));
        assert!(message.contains("port lan0") && message.contains("eth7 has no carrier"), "{message}");
        assert_eq!(rig.hear(no_carrier()), [], "still down");
        assert_eq!(rig.port.trouble(), Some(message.split_once(": ").unwrap().1.into()));
        assert_eq!((rig.kinds(&News::Is(eth7())), rig.port.link.joins), (vec!["link-up"], 1));
        assert_eq!((rig.port.trouble(), rig.step()), (None, None), "it can be used as it is");
    }

    #[test]
    fn a_port_that_was_administratively_down_is_opened_anew_before_it_is_used() {
        let mut rig = Rig::new();
        let (_, message) = rig.hear(down()).remove(0);
        assert!(message.contains("`ip link set eth7 up`"), "{message}");
        rig.close();
        assert_eq!(rig.step(), None, "not while it is down");
        assert_eq!((rig.hear(eth7()), rig.port.link.up), (vec![], false), "not yet");
        assert_eq!(rig.open(Ok(properties(3))), ["link-up"]);
        assert_eq!(rig.port.link, PortLink { joins: 1, ..PortLink::new(MAC, 1_500) });
        // Down and up again, before the workers have given anything back.
        assert_eq!((rig.kinds(&News::Is(down())), rig.kinds(&News::Is(eth7()))), (vec!["link-down"], vec![]));
        rig.close();
        assert_eq!(rig.open(Ok(properties(3))), ["link-up"]);
        // Down and up again while it was being opened.
        rig.hear(down());
        rig.close();
        rig.hear(eth7());
        assert_eq!(rig.step(), Some(Step::Open));
        rig.hear(down());
        rig.hear(eth7());
        assert_eq!((rig.port.opened(Ok(properties(3)), rig.now), rig.port.link.up), (vec![], false));
        rig.close();
        assert_eq!(rig.open(Ok(properties(3))), ["link-up"]);
    }

    #[test]
    fn a_port_that_keeps_no_frames_is_used_as_it_is_after_it_was_down() {
        let now = Instant::now();
        let port = Followed::new("lan0", Properties { keeps_frames: false, ..properties(3) }, now);
        let mut rig = Rig { port, now };
        assert_eq!((rig.kinds(&News::Is(down())), rig.step()), (vec!["link-down"], None));
        assert_eq!((rig.kinds(&News::Is(eth7())), rig.step()), (vec!["link-up"], None));
        assert_eq!(rig.port.link.joins, 1);
    }

    #[test]
    fn an_interface_that_is_gone_and_comes_back_is_opened() {
        let other = || Interface { index: 9, mac: Some(OTHER), mtu: Some(1_400), ..eth7() };
        let renamed = || News::Is(Interface { names: vec!["eth8".into()], ..eth7() });
        for gone in [News::Gone(3), News::Absent("eth7".into()), renamed()] {
            let mut rig = Rig::new();
            let (kind, message) = rig.hear_news(&gone).remove(0);
            assert_eq!((kind, rig.port.link.up), ("port-gone", false), "{gone:?}");
            assert!(message.contains("there is no interface eth7"), "{message}");
            rig.close();
            assert_eq!((rig.step(), rig.kinds(&News::Gone(4))), (None, vec![]));
            // Made, but not up yet.
            let (kind, message) = rig.hear(Interface { admin_up: false, ..other() }).remove(0);
            assert!(kind == "port-back" && message.contains("administratively down"), "{message}");
            rig.hear(other());
            let opened = Properties { link: PortLink::new(OTHER, 1_400), ..properties(9) };
            assert_eq!(rig.open(Ok(opened)), ["mac-changed", "mtu-changed", "link-up"]);
            let PortLink { mac, mtu, up, joins } = rig.port.link;
            assert_eq!((mac, mtu, up), (OTHER, 1_400, true));
            assert!(joins > 0, "the network is told");
            assert_eq!(rig.kinds(&News::Gone(3)), [] as [&str; 0], "the old one's end does not matter any more");
            assert_eq!(rig.kinds(&News::Gone(9)), ["port-gone"]);
        }
    }

    #[test]
    fn another_interface_of_the_same_name_is_opened_even_if_the_end_of_the_first_was_missed() {
        let mut rig = Rig::new();
        assert_eq!(rig.kinds(&News::Is(Interface { index: 9, ..eth7() })), [] as [&str; 0]);
        assert!(!rig.port.link.up);
        rig.close();
        assert_eq!(rig.open(Ok(properties(9))), [] as [&str; 0]);
        assert_eq!((rig.port.link.up, rig.port.link.joins), (true, 1));
    }

    #[test]
    fn what_cannot_be_opened_is_told_and_tried_again() {
        let mut rig = Rig::new();
        rig.hear_news(&News::Gone(3));
        rig.close();
        rig.hear(eth7());
        assert_eq!(rig.open(Err("It is too small".into())), ["port-unusable"]);
        assert_eq!((rig.step(), rig.port.trouble()), (None, Some("It is too small".into())), "not at once");
        assert_eq!(rig.open(Err("It is too small".into())), [] as [&str; 0]);
        assert_eq!(rig.open(Ok(properties(3))), ["port-back"]);
        assert_eq!((rig.port.link.up, rig.port.trouble()), (true, None));
    }

    #[test]
    fn a_link_that_is_down_at_the_start_is_told() {
        let now = Instant::now();
        let mut port = Followed::new("lan0", properties(3), now);
        assert_eq!(port.hear(&News::Is(no_carrier()), now)[0].kind, Kind::LinkDown);
        let mut port = Followed::new("lan0", properties(3), now);
        assert_eq!(port.hear(&News::Is(down()), now)[0].kind, Kind::LinkDown);
        let down = PortLink { up: false, ..PortLink::new(MAC, 1_500) };
        let mut device = Followed::new("lan0", Properties { link: down, interface: None, ..properties(3) }, now);
        let said = |up| DeviceSaid { up, was_down: false, removed: false };
        assert_eq!(device.hear_device(said(false), now)[0].kind, Kind::LinkDown);
        assert_eq!((device.hear_device(said(false), now), device.tell(now)), (vec![], None));
        assert_eq!(device.hear_device(said(true), now)[0].kind, Kind::LinkUp);
        assert_eq!(device.step(now), None);
    }

    fn device(now: Instant) -> Followed {
        Followed::new("wan0", Properties { interface: None, ..properties(0) }, now)
    }

    #[test]
    fn a_link_that_was_lost_between_two_questions_is_told_and_joins_anew() {
        let now = Instant::now();
        let mut device = device(now);
        let said = |up| DeviceSaid { up, was_down: true, removed: false };
        let kinds = |happened: Vec<Happening>| happened.into_iter().map(|what| what.kind).collect::<Vec<_>>();
        assert_eq!(kinds(device.hear_device(said(true), now)), [Kind::LinkDown, Kind::LinkUp]);
        assert_eq!((device.link.up, device.link.joins, device.step(now)), (true, 1, None));
        let now = now + Duration::from_secs(5);
        assert_eq!(kinds(device.hear_device(said(false), now)), [Kind::LinkDown]);
        assert_eq!(kinds(device.hear_device(said(true), now)), [Kind::LinkUp], "once");
        assert_eq!(device.link.joins, 2);
    }

    #[test]
    fn a_device_that_was_removed_is_closed_and_opened_when_it_is_back() {
        let mut now = Instant::now();
        let mut device = device(now);
        let removed = DeviceSaid { up: true, was_down: false, removed: true };
        let Happening { kind, message } = device.hear_device(removed, now).remove(0);
        assert!(kind == Kind::PortGone && message.contains("it was removed"), "{message}");
        assert!(!device.link.up);
        assert_eq!((device.step(now), device.step(now)), (Some(Step::Recall), None));
        device.given_back();
        device.closed(now);
        for _ in 0..2 {
            now += Duration::from_secs(2);
            assert_eq!(device.step(now), Some(Step::Open));
            assert_eq!(device.opened(Err("There is no PCI device".into()), now), [], "that is known");
            assert!(device.trouble().unwrap().ends_with(": There is no PCI device"));
            assert_eq!(device.step(now), None, "not at once");
        }
        now += Duration::from_secs(2);
        assert_eq!(device.step(now), Some(Step::Open));
        let happened = device.opened(Ok(Properties { interface: None, ..properties(0) }), now);
        assert_eq!((happened[0].kind, device.link.up, device.trouble()), (Kind::PortBack, true, None));
    }

    #[test]
    fn a_link_that_flaps_is_a_few_events_the_last_of_which_is_right() {
        let mut rig = Rig::new();
        let begin = rig.now;
        let mut told: Vec<Happening> = Vec::new();
        for ms in 0..1_001_u32 {
            let now = begin + Duration::from_millis(ms.into());
            let interface = Interface { running: ms % 2 == 1, ..eth7() };
            told.extend(rig.port.hear(&News::Is(interface), now));
        }
        assert_eq!((rig.port.link.up, rig.port.link.joins), (false, 500));
        told.extend(rig.port.tell(begin + Duration::from_secs(2)));
        assert_eq!(told.last().unwrap().kind, Kind::LinkDown);
        assert!(told.iter().any(|told| told.message.contains("more times")), "{told:?}");
        assert!(told.len() <= 5, "{told:?}");
        assert_eq!(rig.port.tell(begin + Duration::from_secs(3)), None);
    }

    #[test]
    fn another_mac_address_is_in_force_and_the_network_is_told() {
        let mut rig = Rig::new();
        let (kind, message) = rig.hear(Interface { mac: Some(OTHER), ..eth7() }).remove(0);
        assert_eq!((kind, rig.port.link.mac, rig.port.link.joins), ("mac-changed", OTHER, 1));
        assert!(message.contains(&OTHER.to_string()) && message.contains(&MAC.to_string()), "{message}");
        assert_eq!(rig.hear(Interface { mac: None, mtu: None, ..eth7() }), [], "nothing is said of it");
        assert_eq!(rig.port.link.mac, OTHER);
    }

    #[test]
    fn another_mtu_is_in_force_up_to_what_the_port_was_opened_for() {
        let mut rig = Rig::new();
        let mut hear = |mtu| {
            let kinds = rig.kinds(&News::Is(Interface { mtu: Some(mtu), ..eth7() }));
            (kinds, rig.port.link.mtu)
        };
        assert_eq!(hear(1_500), (vec![], 1_500));
        assert_eq!(hear(1_400), (vec!["mtu-changed"], 1_400));
        assert_eq!(hear(1_400), (vec![], 1_400));
        assert_eq!(hear(9_000), (vec!["mtu-too-large"], 2_000));
        assert_eq!(hear(9_000), (vec![], 2_000));
        assert_eq!(hear(2_000), (vec!["mtu-changed"], 2_000));
        // The loopback interface's, cut to what buffers can have.
        let most = *MTUS.end();
        let mut lo = Followed::new(
            "lo",
            Properties { link: PortLink::new(MAC, most), most_mtu: most, ..properties(3) },
            rig.now,
        );
        assert_eq!(lo.hear(&News::Is(Interface { mtu: Some(65_536), ..eth7() }), rig.now), []);
        assert_eq!(lo.link.mtu, most);
    }

    #[test]
    fn other_interfaces_do_not_matter() {
        let mut rig = Rig::new();
        let before = rig.port.link;
        for news in [
            News::Is(Interface { index: 4, running: false, names: vec!["eth8".into()], ..eth7() }),
            News::Gone(4),
            News::Absent("eth8".into()),
        ] {
            assert_eq!(rig.port.hear(&news, rig.now), []);
        }
        assert_eq!(rig.port.link, before);
    }
}
