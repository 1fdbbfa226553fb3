//! The kinds of faults: what can be wrong with a backend or around it, and how it is seen.

use std::time::Duration;

use ctl::answer::{Severity, Subject};

use crate::control::events::Kind;

/// Declares the kinds of faults with their names, severities and checks.
macro_rules! faults {
    ($($variant:ident = $name:literal, $severity:ident, $check:ident: $meaning:literal / $advice:literal;)*) => {
        /// The kind of a fault. Its name is fixed: monitoring goes by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FaultKind {
            $(#[doc = $meaning] $variant,)*
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$variant),*];

            /// The name, as in listings.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$variant => $name),* }
            }

            /// How bad it is, if a sighting says nothing else.
            pub fn severity(self) -> Severity {
                match self { $(FaultKind::$variant => Severity::$severity),* }
            }

            /// The check that finds it.
            pub fn check(self) -> Check {
                match self { $(FaultKind::$variant => Check::$check),* }
            }

            /// What is seen, a sentence for the operator.
            pub fn meaning(self) -> &'static str {
                match self { $(FaultKind::$variant => $meaning),* }
            }

            /// What to do about it, a sentence.
            pub fn advice(self) -> &'static str {
                match self { $(FaultKind::$variant => $advice),* }
            }
        }
    };
}

faults! {
    NeighborSilent = "neighbor-silent", Error, Neighbor: "The backend does not answer ARP or NDP: three probes in a row were in vain." / "Is it up, and its cable in? `ip link set INTERFACE up` there.";
    OffLink = "off-link", Error, Neighbor: "The backend is not on a segment of the director, where DR needs it: it does not take packets for the VIP, and its own address answers from behind a router, which has taken from the hop limit." / "Put it on the segment, or give the director a port there. A backend whose address lies in no network of the director is refused at once, by the same name.";
    SharedMac = "shared-mac", Warn, Mac: "Several backends of a network answer with one MAC address: a router or a proxy for ARP (NDP) is in between, or they are one host." / "Behind a router, DR does not work: put them on the segment, and switch the proxy off, `sysctl -w net.ipv4.conf.all.proxy_arp=0` there.";
    MacChanged = "mac-changed", Warn, Mac: "The backend has another MAC address; its packets go there. The fault stays open while another change would not be believed." / "If it was meant, nothing is to be done. If it comes again and again, two stations have the backend's address.";
    VipMissing = "vip-missing", Error, Vip: "The backend does not take packets for the VIP: it is silent, or answers by ICMP, or the packet comes back." / "`scripts/real-server start VIP` there: it puts the VIP on lo.";
    Loop = "loop", Error, Vip: "The backend sends packets for the VIP back to the director: it lacks the VIP on lo, and forwards." / "`scripts/real-server start VIP` there.";
    ServiceClosed = "service-closed", Error, Service: "Nothing listens there: the VIP answers with RST or port unreachable; or a firewall there refuses, by another ICMP error." / "Start the service there; `ss -ltnu` says what listens, and `nft list ruleset` what a firewall rejects.";
    NotOnVip = "not-on-vip", Error, Service: "The service listens on the backend's own address only, and not on the VIP." / "Have it listen on the VIP or on all addresses.";
    Hung = "hung", Error, Service: "The service takes connections and does not answer; or the VIP answers a ping and nothing else; or the host answers ARP or NDP (or has a pinned MAC address), and nothing else." / "Restart the service there. Of a host that is mute altogether: is it frozen, or does its firewall drop all?";
    Slow = "slow", Warn, Service: "The service answers, but on some probes later than the check's timeout." / "Is the host overloaded? If it is as fast as it can be, raise the timeout.";
    WrongAnswer = "wrong-answer", Error, Service: "The service answers with something else than the check wants: an HTTP status, a body, a DNS record." / "The fault has the answer; look at the service's log there.";
    ArpFlux = "arp-flux", Error, Claims: "The backend answers ARP or NDP for the VIP, or asks with the VIP as its sender: clients may go to it directly, past the director." / "`sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2` there; IPv6: have the VIP on lo and on no other interface.";
    VipConflict = "vip-conflict", Error, Claims: "A station that is no backend says that it has the VIP, or an address of the director's own." / "Find the station by its MAC address. If it is another director, only one of the two may be in use.";
    ReturnViaDirector = "return-via-director", Error, Return: "The backend sends its replies to the director: its default route is wrong." / "`ip route replace default via GATEWAY` there, where GATEWAY is the clients' gateway.";
    OneWay = "one-way", Error, Return: "The backend is sent SYNs, and no ACK of the clients follows: its answers do not reach them." / "Look at its route to the clients, at its firewall, and at `rp_filter`.";
    Mtu = "mtu", Warn, Mtu: "The backend answers small pings, and none that fill the MTU of the director's port, or its ICMP says that so much does not get through: its link, or a switch on the way, carries less." / "Give all the same MTU: `ip link set INTERFACE mtu N` there, and the same on the switch; or the smaller one to the port.";
    Certificate = "certificate", Warn, Certificate: "The certificate that the backend shows to a check of type `https` has expired, is not valid yet, has another name, or ends within 14 days; or, where the check verifies it, nobody that is trusted has signed it. It is an error if it fails the check." / "Renew it there, and have the service read it. The fault has the details.";
    LinkDown = "link-down", Error, Link: "A port of the director has no link." / "Look at the cable, the switch, or the other end; `ip link set INTERFACE up` if it was set down.";
}

/// What a fault is found by: a line of `shuntctl doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The link of the port.
    Link,
    /// ARP or neighbor discovery.
    Neighbor,
    /// The MAC address that these give.
    Mac,
    /// Who else claims the VIP.
    Claims,
    /// Whether the backend takes packets for the VIP.
    Vip,
    /// Whether the service answers as it should.
    Service,
    /// The way of the replies.
    Return,
    /// The size of packets.
    Mtu,
    /// The certificate.
    Certificate,
}

impl Check {
    /// All of a backend, in the order of the listing.
    pub const ALL: [Check; 9] = [
        Check::Link,
        Check::Neighbor,
        Check::Mac,
        Check::Claims,
        Check::Vip,
        Check::Service,
        Check::Return,
        Check::Mtu,
        Check::Certificate,
    ];

    /// The name, as in listings.
    pub fn name(self) -> &'static str {
        match self {
            Check::Link => "link",
            Check::Neighbor => "neighbor",
            Check::Mac => "mac",
            Check::Claims => "claims",
            Check::Vip => "vip",
            Check::Service => "service",
            Check::Return => "return",
            Check::Mtu => "mtu",
            Check::Certificate => "certificate",
        }
    }
}

impl FaultKind {
    /// The event that says that such a fault has begun. `None`: others write it, and its end.
    pub fn event(self) -> Option<Kind> {
        Some(match self {
            FaultKind::NeighborSilent => Kind::NeighborSilent,
            FaultKind::OffLink => Kind::OffLink,
            FaultKind::SharedMac => Kind::SharedMac,
            // `mac-changed` is the event of a port.
            FaultKind::MacChanged => Kind::BackendMacChanged,
            FaultKind::VipMissing => Kind::VipMissing,
            FaultKind::Loop => Kind::Loop,
            FaultKind::ServiceClosed => Kind::ServiceClosed,
            FaultKind::NotOnVip => Kind::NotOnVip,
            FaultKind::Hung => Kind::Hung,
            FaultKind::Slow => Kind::Slow,
            FaultKind::WrongAnswer => Kind::WrongAnswer,
            FaultKind::ArpFlux => Kind::ArpFlux,
            FaultKind::VipConflict => Kind::VipConflict,
            FaultKind::ReturnViaDirector => Kind::ReturnViaDirector,
            FaultKind::OneWay => Kind::OneWay,
            FaultKind::Mtu => Kind::Mtu,
            FaultKind::Certificate => Kind::Certificate,
            // Who follows the ports writes link-down and link-up, with a limit for links that flap.
            FaultKind::LinkDown => return None,
        })
    }

    /// For how long such a fault stays open after it was last seen, where only passing frames show it. `None`: until
    /// somebody says that it is mended.
    pub fn hold(self) -> Option<Duration> {
        match self {
            // Traffic that goes on shows them twice a second.
            FaultKind::Loop | FaultKind::ReturnViaDirector => Some(Duration::from_secs(2)),
            // As long as another change is not believed.
            FaultKind::MacChanged => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// Whether each sighting is an event, with the event log's limit, and not only the first.
    pub fn is_told_again(self) -> bool {
        matches!(self, FaultKind::Loop | FaultKind::ReturnViaDirector | FaultKind::MacChanged)
    }
}

/// A fault that is seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its kind.
    pub kind: FaultKind,
    /// What it is about. All of it but the MAC address tells faults of a kind apart: any station can make up MAC
    /// addresses. Without a service, it concerns all services that have this backend or VIP.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What is seen, a sentence without its point. It names the host.
    pub text: String,
    /// What mends it: a command for that host, where there is one.
    pub fix: String,
}

impl Sighting {
    /// A fault of its kind's severity.
    pub fn new(kind: FaultKind, subject: Subject, text: impl Into<String>, fix: impl Into<String>) -> Sighting {
        Sighting { kind, subject, severity: kind.severity(), text: text.into(), fix: fix.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testing::docs;

    #[test]
    fn kinds_have_the_names_that_are_fixed_and_the_docs_say_the_same_of_each() {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        let fixed = "neighbor-silent off-link shared-mac mac-changed vip-missing loop service-closed not-on-vip hung slow wrong-answer \
                     arp-flux vip-conflict return-via-director one-way mtu certificate link-down";
        assert_eq!(names.join(" "), fixed);
        let row = |kind: &FaultKind| {
            let name = format!("`{}`", kind.name());
            vec![
                name,
                kind.severity().name().into(),
                kind.check().name().into(),
                kind.meaning().into(),
                kind.advice().into(),
            ]
        };
        let columns = ["fault", "severity", "check", "what is seen", "what to do"];
        docs::check("docs/health.md", "faults", &docs::table(&columns, FaultKind::ALL.iter().map(row)));
    }

    #[test]
    fn each_kind_has_its_own_event_of_its_name() {
        let events: HashSet<Kind> = FaultKind::ALL.iter().filter_map(|kind| kind.event()).collect();
        assert_eq!(events.len(), FaultKind::ALL.len() - 1);
        for kind in FaultKind::ALL {
            let Some(event) = kind.event() else { continue };
            assert_eq!(event.severity(), kind.severity(), "{}", kind.name());
            assert!(event.name() == kind.name() || *kind == FaultKind::MacChanged, "{}", kind.name());
        }
        assert!(Check::ALL.iter().all(|check| FaultKind::ALL.iter().any(|kind| kind.check() == *check)));
    }
}
