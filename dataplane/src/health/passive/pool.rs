//! The backends of a service, as their clients' handshakes show them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::Passive as Wish;

use crate::control::fault::{FaultKind, Sighting};
use crate::control::model::{Backend, Contact, Service};
use crate::count::lease::{Handshakes, TargetLease};
use crate::health::damping::{FIRST, LONGEST};
use crate::health::diagnosis::subject;
use crate::health::news::{News, Seen};
use crate::health::passive::judge::{ENOUGH, ENOUGH_AGAIN, Finding, finding, median_of_others, share, share_of_many};
use crate::health::passive::window::Window;

/// How long handshakes must be bad. A backend that is dead is found by its checks in that time, which say more.
const PERSISTS: Duration = Duration::from_secs(4);
/// A backend that was well for so long begins anew.
const FORGIVEN: Duration = Duration::from_secs(1_800);
/// A backend that is back needs a new table first. Until then, it is down for the model.
const RETURNS: Duration = Duration::from_secs(10);
/// The share of the backends, in percent, that must stay where the service has no `min_up`.
const MIN_UP: usize = 50;
/// If no SYN was repeated for so long, the fault is over.
const QUIET: Duration = Duration::from_secs(60);

/// The backends of a service.
#[derive(Debug, Default)]
pub(super) struct Pool {
    service: Option<Arc<Service>>,
    known: BTreeMap<IpAddr, Known>,
}

/// A backend.
#[derive(Debug)]
struct Known {
    lease: Arc<TargetLease>,
    window: Window,
    /// Since when the window counts: before that, its handshakes said nothing.
    cleared: Instant,
    /// Since when its handshakes are bad.
    bad: Option<Instant>,
    /// Whether the fault is open.
    fault: bool,
    /// Until when it is out.
    out: Option<Instant>,
    /// How often it was out, not long after each other.
    times: u32,
    /// When it was out last.
    was_out: Option<Instant>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Faults that are seen or mended.
    pub(super) seen: Vec<Seen>,
    /// Backends that were taken out, or are tried again.
    pub(super) news: Vec<News>,
}

impl Known {
    fn new(backend: &Backend, now: Instant) -> Known {
        let window = Window::new(backend.target.handshakes(), now);
        let lease = backend.target.clone();
        Known { lease, window, cleared: now, bad: None, fault: false, out: None, times: 0, was_out: None }
    }

    /// The handshakes by which it is judged, if there are enough.
    fn counted(&self) -> Option<Handshakes> {
        self.window.newest(if self.times > 0 { ENOUGH_AGAIN } else { ENOUGH })
    }

    /// Begins anew, after a time in which its handshakes said nothing.
    fn forget(&mut self, now: Instant) {
        self.window.clear();
        self.cleared = now;
        self.bad = None;
    }

    /// Whether its handshakes have been bad for so long that it counts.
    fn is_bad(&self, now: Instant) -> bool {
        self.bad.is_some_and(|bad| now.saturating_duration_since(bad) >= PERSISTS)
    }

    /// Takes it out, for longer each time, as one that goes down too often.
    fn take_out(&mut self, now: Instant) -> Duration {
        if self.was_out.is_some_and(|was_out| now.saturating_duration_since(was_out) >= FORGIVEN) {
            self.times = 0;
        }
        let time = FIRST.saturating_mul(1 << self.times.min(8)).min(LONGEST);
        self.times += 1;
        self.out = Some(now + time);
        self.forget(now);
        time
    }
}

impl Pool {
    /// Takes the service as it is now. Backends that it has as before keep what is known of them.
    pub(super) fn follow(&mut self, service: &Arc<Service>, now: Instant, found: &mut Found) {
        if self.service.as_ref().is_some_and(|known| Arc::ptr_eq(known, service)) {
            return;
        }
        let mut old = std::mem::take(&mut self.known);
        let known = |backend: &Backend| {
            let is_same = old.get(&backend.address).is_some_and(|known| Arc::ptr_eq(&known.lease, &backend.target));
            let same = if is_same { old.remove(&backend.address) } else { None };
            (backend.address, same.unwrap_or_else(|| Known::new(backend, now)))
        };
        self.known = service.backends.iter().map(known).collect();
        self.service = Some(service.clone());
        old.into_iter().for_each(|(address, mut gone)| gone.mend(service, address, found));
    }

    /// The backends that are out.
    pub(super) fn out(&self) -> HashSet<IpAddr> {
        self.known.iter().filter(|(_, known)| known.out.is_some()).map(|(address, _)| *address).collect()
    }

    /// For how long a backend is still out, if it is.
    pub(super) fn out_for(&self, backend: IpAddr, now: Instant) -> Option<Duration> {
        self.known.get(&backend)?.out.map(|until| until.saturating_duration_since(now))
    }

    /// Has a backend back, and forgets how often it was out.
    pub(super) fn forgive(&mut self, backend: IpAddr, now: Instant, found: &mut Found) {
        let (Some(service), Some(known)) = (&self.service, self.known.get_mut(&backend)) else { return };
        known.times = 0;
        if known.out.take().is_some() {
            known.was_out = Some(now);
            known.forget(now);
            found.news.push(News::Tried { service: service.id, backend });
        }
    }

    /// Nobody looks any more: its faults are over, and those that were out are back, if the service is still there.
    pub(super) fn give_up(mut self, is_there: bool, found: &mut Found) {
        let Some(service) = self.service.take() else { return };
        for (address, mut known) in self.known {
            known.mend(&service, address, found);
            if known.out.is_some() && is_there {
                found.news.push(News::Tried { service: service.id, backend: address });
            }
        }
    }

    /// Looks at the counters, and judges. `believed` says whether the service's checks are believed: if they are not, nobody is
    /// taken out.
    pub(super) fn look(&mut self, believed: bool, now: Instant, found: &mut Found) {
        let Some(service) = self.service.clone() else { return };
        self.count(&service, now, found);
        let (shares, all) = self.shares();
        for backend in &service.backends {
            let Some(known) = self.known.get_mut(&backend.address).filter(|known| known.out.is_none()) else {
                continue;
            };
            known.judge(&service, backend, (&shares, &all), now, found);
        }
        self.remove(&service, believed, now, found);
    }

    /// Takes what the counters have now, and has those come back whose time is over.
    fn count(&mut self, service: &Service, now: Instant, found: &mut Found) {
        for backend in &service.backends {
            let Some(known) = self.known.get_mut(&backend.address) else { continue };
            known.window.take(known.lease.handshakes(), now);
            if known.out.is_some_and(|until| until <= now) {
                (known.out, known.was_out) = (None, Some(now));
                known.forget(now);
                found.news.push(News::Tried { service: service.id, backend: backend.address });
            }
        }
    }

    /// The shares of those that can be judged, in ascending order, and all their handshakes.
    fn shares(&self) -> (Vec<f64>, Handshakes) {
        let counted = self.known.values().filter(|known| known.out.is_none()).filter_map(Known::counted);
        let mut all = Handshakes::default();
        let shares = counted.map(|counted| {
            all = all.plus(&counted);
            share(&counted)
        });
        let mut shares: Vec<f64> = shares.collect();
        shares.sort_unstable_by(f64::total_cmp);
        (shares, all)
    }

    /// Takes a backend out that has the fault, one at a time; or has all of them back, if too few are left.
    fn remove(&mut self, service: &Service, believed: bool, now: Instant, found: &mut Found) {
        let wanted = service.backends.iter().filter(|backend| backend.is_counted());
        let known = &self.known;
        let is_in =
            |backend: &&Backend| is_up(backend) && known.get(&backend.address).is_some_and(|known| known.out.is_none());
        let (all, up) = (wanted.clone().count(), wanted.clone().filter(is_in).count());
        let share = if service.min_up > 0 { usize::from(service.min_up) } else { MIN_UP };
        let may = |up: usize| believed && up > 0 && up * 100 >= all * share && service.passive == Wish::Remove;
        if !may(up) {
            for (address, known) in &mut self.known {
                if known.out.take().is_some() {
                    known.was_out = Some(now);
                    known.forget(now);
                    found.news.push(News::Tried { service: service.id, backend: *address });
                }
            }
        }
        let (shares, _) = self.shares();
        let is_bad = |known: &Known| {
            let counted = known.counted().filter(|_| known.fault && known.out.is_none() && known.is_bad(now));
            let of_many = counted.map(|counted| (share_of_many(&counted), self::share(&counted)));
            of_many.is_some_and(|(of_many, own)| {
                median_of_others(&shares, own).is_some_and(|others| finding(of_many, others) == Finding::OneWay)
            })
        };
        let mut wanted = wanted.map(|backend| backend.address);
        let candidate = wanted.find(|address| self.known.get(address).is_some_and(is_bad));
        let Some(address) = candidate.filter(|_| may(up.saturating_sub(1))) else { return };
        let Some(known) = self.known.get_mut(&address) else { return };
        let counted = known.window.all();
        let time = known.take_out(now);
        found.news.push(News::TakenOut { service: service.id, backend: address, why: in_words(&counted), time });
    }
}

impl Known {
    /// Judges it by the shares of all, and by their handshakes.
    fn judge(
        &mut self,
        service: &Service,
        backend: &Backend,
        (shares, all): (&[f64], &Handshakes),
        now: Instant,
        found: &mut Found,
    ) {
        let address = backend.address;
        if !is_up(backend) {
            self.forget(now);
            let since = |was_out| now.saturating_duration_since(was_out);
            if self.was_out.is_none_or(|was_out| since(was_out) >= RETURNS) {
                // Who says so has a fault of its own for it.
                self.mend(service, address, found);
            }
            return;
        }
        let counted = self.counted();
        let judged = counted.and_then(|counted| {
            let own = share(&counted);
            Some((finding(own, median_of_others(shares, own)?), counted))
        });
        if !judged.is_some_and(|(finding, _)| finding == Finding::OneWay) {
            self.bad = None;
        }
        match judged {
            Some((Finding::OneWay, counted)) => {
                self.bad.get_or_insert(now);
                if self.is_bad(now) {
                    self.fault = true;
                    found.seen.push(Seen::Fault(sighting(service, address, &counted, &all.since(&counted))));
                }
            }
            Some((Finding::Well, _)) => self.mend(service, address, found),
            // After it was out, or down, the window is empty, and says nothing for a minute.
            _ if self.window.all().lost() == 0 && now.saturating_duration_since(self.cleared) >= QUIET => {
                self.mend(service, address, found);
            }
            _ => {}
        }
    }

    fn mend(&mut self, service: &Service, address: IpAddr, found: &mut Found) {
        if std::mem::take(&mut self.fault) {
            found.seen.push(Seen::Mended(FaultKind::OneWay, subject(&service.id, address)));
        }
    }
}

/// Whether a backend gets new flows, as far as others can say.
fn is_up(backend: &Backend) -> bool {
    backend.contact == Contact::Up
}

fn in_words(counted: &Handshakes) -> String {
    format!("{} of {} sampled handshakes got no answer", counted.lost(), counted.all())
}

fn sighting(service: &Service, backend: IpAddr, counted: &Handshakes, others: &Handshakes) -> Sighting {
    let text = format!(
        "Backend {backend} of {} takes SYNs, and its clients get no answer: {}, of the others' {} of {}",
        service.id,
        in_words(counted),
        others.lost(),
        others.all()
    );
    let (version, filter) =
        if backend.is_ipv4() { ("", "; `sysctl net.ipv4.conf.all.rp_filter`") } else { ("-6 ", "") };
    let fix = format!(
        "look there at the way to the clients: `ip {version}route get CLIENT from {}`; the firewall: `nft list ruleset`{filter}",
        service.id.vip
    );
    Sighting::new(FaultKind::OneWay, subject(&service.id, backend), text, fix)
}
