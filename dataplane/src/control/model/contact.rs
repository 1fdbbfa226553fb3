//! Contact: whether the backends of a service can be reached, and what follows from it.
//!
//! The network says of each backend's address how it can be reached ([`Reach`]). What follows depends on the other
//! backends of the service ([`Contact`]). A backend that is surely dead loses its share. One that may only seem dead
//! keeps its MAC address and its old flows. It keeps its share, too, unless another backend of the service answers: then
//! that one gets the new flows, since at the first one they would be lost. `docs/design/014-what-counts-as-dead.md` has
//! the cases.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::ServiceId;
use hashbrown::HashMap;

/// How a backend's address can be reached, as the network says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// It answers.
    #[default]
    Answers,
    /// It has never answered yet, or not since it was out of reach. It is being asked.
    Asked,
    /// It does not answer, and nor does anything else in its network: perhaps the director is cut off from it.
    Silent,
    /// The link of its port is down.
    NoLink,
    /// It does not answer, although others in its network do.
    Down,
}

/// How backends' addresses can be reached, and which backends do not serve. Those that answer and serve are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    reaches: HashMap<IpAddr, Reach>,
    verdicts: Arc<Verdicts>,
}

/// The backends that their checks say are down, by service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts(HashMap<ServiceId, HashSet<IpAddr>>);

impl Verdicts {
    /// Sets which backends of a service are down. Returns whether that has changed.
    pub fn set(&mut self, service: ServiceId, down: HashSet<IpAddr>) -> bool {
        if down.is_empty() {
            return self.0.remove(&service).is_some();
        }
        let same = self.0.get(&service) == Some(&down);
        if !same {
            self.0.insert(service, down);
        }
        !same
    }

    /// Those of either: what one or the other says is down is down.
    #[must_use]
    pub fn or(&self, other: &Verdicts) -> Verdicts {
        let mut both = self.clone();
        for (service, down) in &other.0 {
            both.0.entry(*service).or_default().extend(down);
        }
        both
    }

    /// Whether a backend of a service is down.
    pub fn is_down(&self, service: &ServiceId, address: IpAddr) -> bool {
        self.0.get(service).is_some_and(|down| down.contains(&address))
    }

    /// The services with backends that are down.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.0.keys()
    }

    fn of(&self, service: &ServiceId) -> impl Iterator<Item = IpAddr> {
        self.0.get(service).into_iter().flatten().copied()
    }
}

impl Outlook {
    /// The outlook in which these backends are down, and all others answer.
    pub fn with_down(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        addresses.into_iter().map(|address| (address, Reach::Down)).collect()
    }

    /// The same, with what checks say.
    pub fn with_verdicts(self, verdicts: Arc<Verdicts>) -> Self {
        Outlook { verdicts, ..self }
    }

    /// How an address can be reached.
    pub fn of(&self, address: IpAddr) -> Reach {
        self.reaches.get(&address).copied().unwrap_or_default()
    }

    /// Whether the checks of a backend say that it is down.
    pub fn is_down(&self, service: &ServiceId, address: IpAddr) -> bool {
        self.verdicts.is_down(service, address)
    }

    /// Whether checks say that some backend of a service is down.
    pub(super) fn judges(&self, service: &ServiceId) -> bool {
        self.verdicts.0.contains_key(service)
    }

    /// The addresses that do not answer.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = IpAddr> {
        self.reaches.keys().copied()
    }

    /// The addresses that can be reached in another way than before, or serve where they did not, or the other way
    /// round.
    pub fn differences(&self, before: &Outlook) -> HashSet<IpAddr> {
        let all = self.addresses().chain(before.addresses());
        let mut changed: HashSet<IpAddr> = all.filter(|&address| self.of(address) != before.of(address)).collect();
        let (now, then) = (&*self.verdicts, &*before.verdicts);
        if !Arc::ptr_eq(&self.verdicts, &before.verdicts) {
            for service in now.services().chain(then.services()) {
                changed.extend(now.of(service).filter(|&address| !then.is_down(service, address)));
                changed.extend(then.of(service).filter(|&address| !now.is_down(service, address)));
            }
        }
        changed
    }
}

impl FromIterator<(IpAddr, Reach)> for Outlook {
    fn from_iter<T: IntoIterator<Item = (IpAddr, Reach)>>(iter: T) -> Self {
        let reaches = iter.into_iter().filter(|(_, reach)| *reach != Reach::Answers).collect();
        Outlook { reaches, verdicts: Arc::default() }
    }
}

/// What the network says of the backends.
#[derive(Clone, Copy)]
pub struct Reachability<'a> {
    /// How they can be reached.
    pub outlook: &'a Outlook,
    /// Whether a backend's MAC address is known.
    pub resolved: &'a dyn Fn(IpAddr) -> bool,
}

/// What a backend gets of its service's flows, as far as that depends on how it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Old and new ones. It answers, or was not given up yet.
    Up,
    /// Old and new ones, although it may be dead: no other backend answers.
    CutOff,
    /// Old ones, until this time in ms. It may be dead, and others answer.
    Suspended {
        /// On the clock of [`Model::now_ms`](crate::control::model::Model::now_ms).
        until_ms: u64,
    },
    /// None: that time is over.
    Lapsed,
    /// None: it is dead.
    Down,
}

impl Contact {
    /// Whether it gets packets of old flows.
    pub(super) fn keeps_old_flows(self) -> bool {
        match self {
            Contact::Up | Contact::CutOff | Contact::Suspended { .. } => true,
            Contact::Lapsed | Contact::Down => false,
        }
    }

    /// Whether it gets new flows.
    pub(super) fn takes_new_flows(self) -> bool {
        matches!(self, Contact::Up | Contact::CutOff)
    }

    /// What becomes of it. `others` says whether another backend answers that takes new flows.
    pub(super) fn next(self, reach: Reach, others: bool, now_ms: u64, handover_ms: u64) -> Contact {
        match (reach, self) {
            (Reach::Answers, _) => Contact::Up,
            // What is dead is dead until it answers.
            (Reach::Down, _) | (_, Contact::Down) => Contact::Down,
            // What is asked again has some seconds for its answer.
            (Reach::Asked, Contact::Up | Contact::CutOff) => self,
            _ if !others => Contact::CutOff,
            (_, Contact::Up | Contact::CutOff) if handover_ms > 0 => {
                Contact::Suspended { until_ms: now_ms + handover_ms }
            }
            (_, Contact::Suspended { until_ms }) if until_ms > now_ms => self,
            _ => Contact::Lapsed,
        }
    }
}
