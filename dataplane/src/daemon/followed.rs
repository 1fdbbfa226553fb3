//! A port as the daemon follows it: what becomes of its link, its MTU and its MAC address, and what the operator is to know of that.

use std::time::Instant;

use crate::base::limits::MTUS;
use crate::base::token_bucket::TokenBucket;
use crate::control::events::Kind;
use crate::netlink::{Interface, News};
use crate::state::networks::PortLink;

/// How many events of a port's link there are in a second, and at once.
const LINK_EVENTS: u32 = 2;

/// A port, and what is known of it.
pub(super) struct Followed {
    /// The port's name in the configuration.
    pub(super) name: String,
    /// The port as the director is to know it.
    pub(super) link: PortLink,
    /// The largest MTU that it was opened for.
    most_mtu: u16,
    /// The Linux interface behind it, if the kernel must be asked for its state.
    interface: Option<Bound>,
    told: Told,
}

/// The Linux interface that a port is bound to.
struct Bound {
    name: String,
    index: u32,
    /// What the kernel has said of it last.
    said: Option<Interface>,
}

/// What has happened, for the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happening {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Followed {
    /// A port that was opened with these properties. `interface` is the name and the index of the Linux interface that is to be
    /// followed.
    pub(super) fn new(
        name: &str,
        link: PortLink,
        most_mtu: u16,
        interface: Option<(String, u32)>,
        now: Instant,
    ) -> Self {
        let interface = interface.map(|(name, index)| Bound { name, index, said: None });
        Followed { name: name.into(), link, most_mtu, interface, told: Told::new(link.up, now) }
    }

    /// The interface that news are wanted of.
    pub(super) fn interface(&self) -> Option<&str> {
        self.interface.as_ref().map(|bound| &*bound.name)
    }

    /// Takes news of an interface, which may be another one.
    pub(super) fn hear(&mut self, news: &News, now: Instant) -> Vec<Happening> {
        let Some(bound) = &mut self.interface else { return Vec::new() };
        match news {
            News::Is(interface) if interface.index == bound.index => {
                let interface = bound.said.iter().fold(interface.clone(), Interface::or);
                bound.said = Some(interface.clone());
                let mut happened = Vec::new();
                happened.extend(self.hear_mac(&interface));
                happened.extend(self.hear_mtu(&interface));
                happened.extend(self.hear_link(interface.is_up(), now));
                happened
            }
            News::Is(_) | News::Gone(_) | News::Absent(_) => Vec::new(),
        }
    }

    /// Takes what the device says of its link.
    pub(super) fn hear_link(&mut self, up: bool, now: Instant) -> Option<Happening> {
        if up != self.link.up {
            self.link.up = up;
            self.link.joins += u32::from(up);
            self.told.changes += 1;
        }
        self.tell_link(now)
    }

    /// What is still to be told of the link. To be called now and then.
    pub(super) fn tell_link(&mut self, now: Instant) -> Option<Happening> {
        let left_out = self.told.link(now)?;
        let name = &self.name;
        let (kind, message) = if self.link.up {
            (Kind::LinkUp, format!("The link of port {name} is up"))
        } else {
            (Kind::LinkDown, format!("The link of port {name} is down: {}", self.cause()))
        };
        let before =
            if left_out > 0 { format!("; before, it has changed {left_out} more times") } else { String::new() };
        Some(Happening { kind, message: message + &before })
    }

    /// Why the link is down, and what to do about it.
    fn cause(&self) -> String {
        const LOOK: &str = "look at the cable, the switch, or the other end";
        match self.interface.as_ref().and_then(|bound| bound.said.as_ref().map(|said| (&bound.name, said))) {
            Some((name, said)) if !said.admin_up => {
                format!(
                    "{name} is administratively down, and nothing is received or sent there; `ip link set {name} up`"
                )
            }
            Some((name, _)) => format!("{name} has no carrier, and nothing is received or sent there; {LOOK}"),
            None => format!("nothing is received or sent there; {LOOK}"),
        }
    }

    fn hear_mac(&mut self, interface: &Interface) -> Option<Happening> {
        let mac = interface.mac.filter(|mac| *mac != self.link.mac)?;
        let before = std::mem::replace(&mut self.link.mac, mac);
        self.link.joins += 1;
        let name = &self.name;
        let message = format!(
            "Port {name} has the MAC address {mac}, and no longer {before}: it is in force, and announced; if that was not meant, \
             look for who has changed it"
        );
        Some(Happening { kind: Kind::MacChanged, message })
    }

    fn hear_mtu(&mut self, interface: &Interface) -> Option<Happening> {
        let kernel = interface.mtu?;
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

/// What the operator is still to be told, and may be told.
struct Told {
    /// Changes of the link that the operator does not know of.
    changes: u32,
    /// Whoever has the other end of a link can make it go up and down all the time.
    bucket: TokenBucket,
    begin: Instant,
    /// The kernel's MTU.
    mtu: Option<u32>,
}

impl Told {
    fn new(up: bool, now: Instant) -> Self {
        Told { changes: u32::from(!up), bucket: TokenBucket::new(LINK_EVENTS, 1), begin: now, mtu: None }
    }

    /// Whether there is something to tell of the link now. Returns how many more changes there were.
    fn link(&mut self, now: Instant) -> Option<u32> {
        let left_out = self.changes.checked_sub(1)?;
        let now_ms = u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        if !self.bucket.take(now_ms) {
            return None;
        }
        self.changes = 0;
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// A port on eth7, and a clock that goes a second for each news.
    struct Rig {
        port: Followed,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            let now = Instant::now();
            Rig { port: Followed::new("lan0", PortLink::new(MAC, 1_500), 2_000, Some(("eth7".into(), 3)), now), now }
        }

        fn hear(&mut self, interface: Interface) -> Vec<(&'static str, String)> {
            self.now += Duration::from_secs(1);
            let happened = self.port.hear(&News::Is(interface), self.now);
            happened.into_iter().map(|Happening { kind, message }| (kind.name(), message)).collect()
        }

        fn kinds(&mut self, interface: Interface) -> Vec<&'static str> {
            self.hear(interface).into_iter().map(|(kind, _)| kind).collect()
        }
    }

    #[test]
    fn a_link_that_goes_down_and_up_is_told_with_its_cause() {
        let mut rig = Rig::new();
        assert_eq!(rig.hear(eth7()), [], "as it was opened");
        let no_carrier = || Interface { running: false, ..eth7() };
        let down = || Interface { admin_up: false, running: false, ..eth7() };
        let (kind, message) = rig.hear(no_carrier()).remove(0);
        assert_eq!((kind, rig.port.link.up), ("link-down", false));
        assert!(message.contains("port lan0") && message.contains("eth7 has no carrier"), "{message}");
        assert_eq!(rig.hear(down()), [], "still down");
        assert_eq!((rig.kinds(eth7()), rig.port.link.joins), (vec!["link-up"], 1));
        let (_, message) = rig.hear(down()).remove(0);
        assert!(message.contains("`ip link set eth7 up`"), "{message}");
        assert_eq!(
            (rig.kinds(eth7()), rig.port.link),
            (vec!["link-up"], PortLink { joins: 2, ..PortLink::new(MAC, 1_500) })
        );
    }

    #[test]
    fn a_link_that_is_down_at_the_start_is_told() {
        let mut rig = Rig::new();
        assert_eq!(rig.kinds(Interface { running: false, ..eth7() }), ["link-down"]);
        let now = rig.now;
        let down = PortLink { up: false, ..PortLink::new(MAC, 1_500) };
        let mut device = Followed::new("lan0", down, 2_000, None, now);
        assert_eq!(device.hear_link(false, now).unwrap().kind, Kind::LinkDown);
        assert_eq!((device.hear_link(false, now), device.tell_link(now)), (None, None));
        assert_eq!(device.hear_link(true, now).unwrap().kind, Kind::LinkUp);
    }

    #[test]
    fn a_link_that_flaps_is_a_few_events_the_last_of_which_is_right() {
        let mut rig = Rig::new();
        rig.hear(eth7());
        let begin = rig.now;
        let mut told: Vec<Happening> = Vec::new();
        for ms in 0..1_001_u32 {
            let now = begin + Duration::from_millis(ms.into());
            let interface = Interface { running: ms % 2 == 1, ..eth7() };
            told.extend(rig.port.hear(&News::Is(interface), now));
        }
        assert_eq!((rig.port.link.up, rig.port.link.joins), (false, 500));
        told.extend(rig.port.tell_link(begin + Duration::from_secs(2)));
        assert_eq!(told.last().unwrap().kind, Kind::LinkDown);
        assert!(told.iter().any(|told| told.message.contains("more times")), "{told:?}");
        assert!(told.len() <= 5, "{told:?}");
        assert_eq!(rig.port.tell_link(begin + Duration::from_secs(3)), None);
    }

    #[test]
    fn another_mac_address_is_in_force_and_the_network_is_told() {
        let mut rig = Rig::new();
        rig.hear(eth7());
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
            let kinds = rig.kinds(Interface { mtu: Some(mtu), ..eth7() });
            (kinds, rig.port.link.mtu)
        };
        assert_eq!(hear(1_500), (vec![], 1_500));
        assert_eq!(hear(1_400), (vec!["mtu-changed"], 1_400));
        assert_eq!(hear(1_400), (vec![], 1_400));
        assert_eq!(hear(9_000), (vec!["mtu-too-large"], 2_000));
        assert_eq!(hear(9_000), (vec![], 2_000));
        assert_eq!(hear(2_000), (vec!["mtu-changed"], 2_000));
        // The loopback interface's, cut to what buffers can have.
        let mut lo = Followed::new("lo", PortLink::new(MAC, *MTUS.end()), *MTUS.end(), Some(("lo".into(), 1)), rig.now);
        assert_eq!(lo.hear(&News::Is(Interface { index: 1, mtu: Some(65_536), ..eth7() }), rig.now), []);
        assert_eq!(lo.link.mtu, *MTUS.end());
    }

    #[test]
    fn other_interfaces_do_not_matter() {
        let mut rig = Rig::new();
        rig.hear(eth7());
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
