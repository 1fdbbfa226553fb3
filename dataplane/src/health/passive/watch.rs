//! The watch over the handshakes of all services.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use ctl::{Passive as Wish, Protocol, ServiceId};
use hashbrown::HashMap;

use crate::control::compile::Compiled;
use crate::control::model::{Service, Verdicts};
use crate::health::news::{News, Seen};
use crate::health::passive::pool::{Found, Pool};

/// Between two looks at a service.
const INTERVAL: Duration = Duration::from_secs(1);
/// The backends that are looked at in a turn, so that other work waits for some tenths of a millisecond only.
const IN_A_TURN: usize = 1_000;

/// Passive health of all services.
#[derive(Debug, Default)]
pub struct Passive {
    pools: HashMap<ServiceId, Pool>,
    generation: Option<u64>,
    /// When the next round of looks begins.
    due: Option<Instant>,
    /// The service that was looked at last in this round.
    last: Option<ServiceId>,
    verdicts: Verdicts,
    changed: bool,
    found: Found,
}

/// What others say of a service: whether its checks are believed.
pub type Believed<'a> = &'a dyn Fn(&ServiceId) -> bool;

impl Passive {
    /// Looks at the services that are due.
    pub fn look(&mut self, current: &Compiled, believed: Believed<'_>, now: Instant) {
        if self.generation.replace(current.generation) != Some(current.generation) {
            self.forget_others(current);
        }
        if self.due.is_some_and(|due| due > now) {
            return;
        }
        let from = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut looked = 0;
        for (id, service) in current.model.services.range((from, Bound::Unbounded)) {
            if !is_watched(service) {
                continue;
            }
            let pool = self.pools.entry(*id).or_default();
            pool.follow(service, now, &mut self.found);
            pool.look(believed(id), now, &mut self.found);
            self.changed |= self.verdicts.set(*id, pool.out());
            looked += service.backends.len();
            if looked >= IN_A_TURN {
                self.last = Some(*id);
                return;
            }
        }
        self.due = Some(now + INTERVAL);
    }

    /// Forgets the services that are not watched any more.
    fn forget_others(&mut self, current: &Compiled) {
        let is_gone = |id: &ServiceId| !current.model.services.get(id).is_some_and(|service| is_watched(service));
        let gone: Vec<ServiceId> = self.pools.keys().filter(|id| is_gone(id)).copied().collect();
        for id in gone {
            if let Some(pool) = self.pools.remove(&id) {
                pool.give_up(current.model.services.contains_key(&id), &mut self.found);
            }
            self.changed |= self.verdicts.set(id, HashSet::new());
        }
    }

    /// For how long a backend is still out, in s, if it is.
    pub fn out_for_s(&self, service: &ServiceId, backend: IpAddr, now: Instant) -> Option<u64> {
        let left = self.pools.get(service)?.out_for(backend, now)?;
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).div_ceil(1_000))
    }

    /// Has a backend back at once, and forgets how often it was out, because an operator enables it.
    pub fn forgive(&mut self, service: &ServiceId, backend: IpAddr, now: Instant) {
        let Some(pool) = self.pools.get_mut(service) else { return };
        pool.forgive(backend, now, &mut self.found);
        self.changed |= self.verdicts.set(*service, pool.out());
    }

    /// Which backends are out.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether other backends are out than at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What has happened since the last call.
    pub fn take_found(&mut self) -> (Vec<News>, Vec<Seen>) {
        let Found { seen, news } = std::mem::take(&mut self.found);
        (news, seen)
    }
}

/// Whether there is something to compare: of TCP, and not switched off.
fn is_watched(service: &Service) -> bool {
    service.id.protocol == Protocol::Tcp && service.passive != Wish::Off
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::control::compile::compile;
    use crate::control::fault::FaultKind;
    use crate::control::model::{Model, Outlook, Reachability};
    use crate::count::counters::WorkerCounters;
    use crate::count::lease::Leases;
    use crate::testing::model::{PORT, backend_mac, model, service};

    /// Services on a VIP of each family, with backends that end in 3 and so on.
    struct Rig {
        passive: Passive,
        workers: [Arc<WorkerCounters>; 2],
        /// Who lends the counters, which is needed as long as they are read.
        _leases: Arc<Leases>,
        model: Model,
        outlook: Outlook,
        current: Compiled,
        begin: Instant,
        seconds: u64,
        believed: bool,
        faults: HashSet<(ServiceId, IpAddr)>,
        news: Vec<String>,
        /// How often a fault was mended.
        mended: usize,
        texts: Vec<String>,
    }

    const V4: &str = "192.168.0.101:80";
    const V6: &str = "[fd00::101]:80";

    fn current(model: &Model, generation: u64) -> Compiled {
        compile(Arc::new(model.clone()), |address| Some(backend_mac(address)), &[PORT], generation)
    }

    impl Rig {
        fn new(backends: usize, wish: Wish, min_up: u8) -> Rig {
            let workers = [(); 2].map(|()| Arc::new(WorkerCounters::with_room(1, 64, 64)));
            let (leases, mut model) = (Leases::new(workers.to_vec()), model());
            for (vip, network) in [(V4, "192.168.0."), (V6, "fd00::")] {
                let addresses: Vec<String> = (3..3 + backends).map(|last| format!("{network}{last}")).collect();
                let weighted: Vec<(&str, u32)> = addresses.iter().map(|address| (address.as_str(), 1)).collect();
                let mut wanted = service(vip, &weighted);
                (wanted.passive, wanted.min_up) = (Some(wish), Some(min_up));
                model.add_service(&wanted, &leases).unwrap();
            }
            let (passive, current) = (Passive::default(), current(&model, 1));
            let (faults, news, texts) = (HashSet::new(), Vec::new(), Vec::new());
            let mut rig = Rig {
                passive,
                workers,
                _leases: leases,
                model,
                outlook: Outlook::default(),
                current,
                begin: Instant::now(),
                seconds: 0,
                believed: true,
                faults,
                news,
                mended: 0,
                texts,
            };
            rig.look();
            rig
        }

        /// Counts handshakes of a backend of both services, unanswered ones in these parts.
        fn count(&self, backend: usize, answered: u64, unanswered: [u64; 3]) {
            for service in self.current.model.services.values() {
                let number = service.backends[backend].target.number().index();
                // Each worker has seen a part of them.
                let [one, two] = &self.workers;
                one.handshakes[number].answered.add(answered);
                for (part, count) in unanswered.into_iter().enumerate() {
                    let worker = if part == 1 { one } else { two };
                    worker.handshakes[number].unanswered[part].add(count);
                }
            }
        }

        fn look(&mut self) {
            let (now, believed) = (self.begin + Duration::from_secs(self.seconds), self.believed);
            self.passive.look(&self.current, &|_| believed, now);
            let (news, seen) = self.passive.take_found();
            for seen in seen {
                let of = |subject: &ctl::answer::Subject| (subject.service.unwrap(), subject.backend.unwrap());
                match seen {
                    Seen::Silent(_) | Seen::Mute { .. } => panic!("{seen:?}"),
                    Seen::Fault(sighting) => {
                        assert_eq!(sighting.kind, FaultKind::OneWay);
                        self.faults.insert(of(&sighting.subject));
                        self.texts.push(sighting.text);
                    }
                    Seen::Mended(kind, subject) => {
                        assert!(kind == FaultKind::OneWay && self.faults.remove(&of(&subject)), "{subject:?}");
                        self.mended += 1;
                    }
                }
            }
            let in_words = |news: News| match news {
                News::TakenOut { backend, time, .. } => format!("{backend} out {}", time.as_secs()),
                News::Tried { backend, .. } => format!("{backend} tried"),
                other => panic!("{other:?}"),
            };
            self.news.extend(news.into_iter().map(in_words));
            if self.passive.take_changed() {
                self.tell(self.outlook.clone());
            }
        }

        /// Lets seconds pass. In each, the backends that are not out get handshakes, with so many unanswered of ten in each part.
        fn pass(&mut self, seconds: u64, unanswered: &[u64]) {
            for _ in 0..seconds {
                self.seconds += 1;
                let out = self.out();
                for (backend, &lost) in unanswered.iter().enumerate().filter(|(backend, _)| !out.contains(backend)) {
                    self.count(backend, 30 - 3 * lost, [lost; 3]);
                }
                self.look();
            }
        }

        /// The backends that are out, which must be the same of both services.
        fn out(&self) -> Vec<usize> {
            let of = |service: &Arc<Service>| -> Vec<usize> {
                let is_out =
                    |index: &usize| self.passive.verdicts().is_down(&service.id, service.backends[*index].address);
                (0..service.backends.len()).filter(is_out).collect()
            };
            let [v4, v6] = [V4, V6].map(|id| of(&self.current.model.services[&id.parse().unwrap()]));
            assert_eq!(v4, v6);
            v4
        }

        /// The backends with the fault.
        fn faulty(&self) -> Vec<String> {
            let mut faulty: Vec<String> = self.faults.iter().map(|(_, backend)| backend.to_string()).collect();
            faulty.sort();
            faulty
        }

        /// Tells the model which backends do not answer, and which are out.
        fn tell(&mut self, outlook: Outlook) {
            self.outlook = outlook.with_verdicts(Arc::new(self.passive.verdicts().clone()));
            let ids: Vec<ServiceId> = self.model.services.keys().copied().collect();
            for id in &ids {
                self.model.take_note(id, &self.outlook);
                self.model.renew(id, &Reachability { outlook: &self.outlook, resolved: &|_| true });
            }
            self.current = current(&self.model, self.current.generation + 1);
        }
    }

    #[test]
    fn a_backend_that_does_not_answer_is_found_and_only_reported_unless_wanted() {
        let mut rig = Rig::new(3, Wish::Report, 0);
        rig.pass(3, &[0, 10, 0]);
        assert_eq!(rig.faulty(), [""; 0], "its checks may say more");
        rig.pass(3, &[0, 10, 0]);
        assert_eq!(rig.faulty(), ["192.168.0.4", "fd00::4"]);
        assert!(
            rig.texts[0].contains("60 of 60 sampled handshakes got no answer, of the others' 0 of 120"),
            "{:?}",
            rig.texts
        );
        rig.pass(20, &[0, 10, 0]);
        assert_eq!((rig.out(), rig.news.len()), (vec![], 0));
        rig.pass(10, &[0, 0, 0]);
        assert_eq!(rig.faulty(), [""; 0], "it is mended");
        let mut off = Rig::new(3, Wish::Off, 0);
        off.pass(20, &[0, 10, 0]);
        assert_eq!(off.faulty(), [""; 0]);
    }

    #[test]
    fn where_it_is_wanted_it_is_taken_out_for_growing_times() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        let mut times = Vec::new();
        for _ in 0..8 {
            let begin = rig.news.len();
            while rig.news.len() < begin + 2 {
                rig.pass(1, &[0, 10, 0]);
            }
            assert_eq!((rig.out(), rig.faulty()), (vec![1], vec!["192.168.0.4".into(), "fd00::4".into()]));
            times.push(rig.news[begin].clone());
            while rig.out() == [1] {
                rig.pass(1, &[0, 10, 0]);
            }
        }
        assert_eq!(rig.mended, 0, "it is one fault all the time, also when it is tried again");
        let seconds: Vec<&str> = times.iter().map(|news| news.strip_prefix("192.168.0.4 out ").unwrap()).collect();
        assert_eq!(seconds, ["30", "60", "120", "240", "480", "600", "600", "600"]);
        // It is mended, and much later it begins anew.
        rig.pass(1_900, &[0, 0, 0]);
        assert_eq!(rig.faulty(), [""; 0]);
        let begin = rig.news.len();
        rig.pass(20, &[0, 10, 0]);
        assert_eq!(rig.news[begin..], ["192.168.0.4 out 30", "fd00::4 out 30"]);
    }

    #[test]
    fn where_all_are_alike_none_is_worse() {
        for wish in [Wish::Report, Wish::Remove] {
            for lost in [1, 5, 10] {
                let mut rig = Rig::new(4, wish, 0);
                rig.pass(90, &[lost; 4]);
                assert_eq!((rig.faulty(), rig.out()), (vec![], vec![]), "{lost}");
            }
            let mut rig = Rig::new(1, wish, 0);
            rig.pass(90, &[10]);
            assert_eq!(rig.faulty(), [""; 0], "there is none to compare it with");
        }
    }

    #[test]
    fn a_few_handshakes_are_not_enough() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        for second in 1..=120 {
            rig.seconds = second;
            (0..3).for_each(|backend| rig.count(backend, 40, [0; 3]));
            if second % 4 == 0 {
                rig.count(1, 0, [1; 3]);
            }
            rig.look();
        }
        assert_eq!(rig.faulty(), [""; 0]);
        let mut rig = Rig::new(3, Wish::Remove, 0);
        for second in 1..=120 {
            rig.seconds = second;
            if second % 4 == 0 {
                rig.count(1, 0, [1; 3]);
            }
            rig.look();
        }
        assert_eq!(rig.faulty(), [""; 0], "45 in a minute, and of the others none");
    }

    #[test]
    fn clients_of_one_network_take_no_backend_out() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        for second in 1..=60 {
            rig.seconds = second;
            (0..3).for_each(|backend| rig.count(backend, 10, [0; 3]));
            rig.count(1, 0, [0, 0, 90]);
            rig.look();
        }
        assert_eq!((rig.faulty().len(), rig.out()), (2, vec![]), "it is reported");
        rig.count(1, 0, [0, 2_000, 0]);
        rig.seconds += 1;
        rig.look();
        assert_eq!(rig.out(), [1], "of two networks, it is");
    }

    #[test]
    fn so_many_stay_as_the_service_needs() {
        for (min_up, expected) in [(0, 2), (1, 2), (60, 2), (61, 1), (80, 1), (81, 0), (100, 0)] {
            let mut rig = Rig::new(5, Wish::Remove, min_up);
            // Of five, two are bad.
            rig.pass(25, &[10, 10, 0, 0, 0]);
            assert_eq!((rig.out().len(), rig.faulty().len()), (expected, 4), "{min_up}");
        }
        let mut rig = Rig::new(4, Wish::Remove, 0);
        rig.pass(20, &[10, 0, 0, 0]);
        assert_eq!(rig.out(), [0]);
        // Two others fail by ARP and NDP: one of four would be left.
        let down = ["192.168.0.4", "192.168.0.5", "fd00::4", "fd00::5"].map(|address| address.parse().unwrap());
        rig.tell(Outlook::with_down(down));
        rig.pass(2, &[10, 0, 0, 0]);
        assert_eq!(rig.out(), [0; 0]);
        rig.pass(20, &[10, 0, 0, 0]);
        assert_eq!(rig.out(), [0; 0]);
    }

    #[test]
    fn where_the_checks_are_not_believed_nobody_is_taken_out() {
        let mut rig = Rig::new(4, Wish::Remove, 0);
        rig.pass(20, &[10, 0, 0, 0]);
        assert_eq!(rig.out(), [0]);
        rig.believed = false;
        rig.pass(20, &[10, 0, 0, 0]);
        assert_eq!(rig.out(), [0; 0]);
    }

    #[test]
    fn a_backend_that_is_down_for_another_reason_has_that_fault_alone() {
        let mut rig = Rig::new(3, Wish::Report, 0);
        rig.pass(10, &[10, 0, 0]);
        assert_eq!(rig.faulty().len(), 2);
        rig.tell(Outlook::with_down(["192.168.0.3", "fd00::3"].map(|address| address.parse().unwrap())));
        rig.pass(1, &[0, 0, 0]);
        assert_eq!(rig.faulty(), [""; 0]);
    }

    #[test]
    fn what_is_removed_or_not_watched_any_more_is_forgotten() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        rig.pass(20, &[10, 0, 0]);
        assert_eq!((rig.faulty().len(), rig.out()), (2, vec![0]));
        let ids: Vec<ServiceId> = rig.current.model.services.keys().copied().collect();
        ids.iter().for_each(|id| rig.model.remove_service(id).unwrap());
        rig.current = current(&rig.model, 1_000);
        rig.look();
        assert_eq!(rig.faulty(), [""; 0]);
        assert!(rig.passive.pools.is_empty() && rig.passive.verdicts().services().next().is_none());
        assert!(rig.news.iter().all(|news| !news.ends_with("tried")), "there is nobody to try: {:?}", rig.news);
    }

    #[test]
    fn who_is_not_watched_any_more_is_back() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        rig.pass(20, &[10, 0, 0]);
        for service in rig.model.services.values_mut() {
            Arc::make_mut(service).passive = Wish::Off;
        }
        rig.current = current(&rig.model, 1_000);
        rig.look();
        let mut tried = rig.news.split_off(2);
        tried.sort();
        assert_eq!(tried, ["192.168.0.3 tried", "fd00::3 tried"]);
    }

    #[test]
    fn an_operator_who_enables_a_backend_has_it_back_at_once() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        while rig.news.len() < 4 {
            rig.pass(1, &[10, 0, 0]);
        }
        while rig.out().is_empty() {
            rig.pass(1, &[10, 0, 0]);
        }
        let now = rig.begin + Duration::from_secs(rig.seconds + 20);
        let ids: Vec<(ServiceId, IpAddr)> = rig.faults.iter().copied().collect();
        for (id, backend) in &ids {
            assert_eq!(rig.passive.out_for_s(id, *backend, now), Some(40), "the second time, of 60 s");
            rig.passive.forgive(id, *backend, now);
            assert_eq!(rig.passive.out_for_s(id, *backend, now), None);
        }
        rig.seconds += 20;
        rig.look();
        assert_eq!((rig.out(), rig.faulty().len()), (vec![], 2), "whether it is mended shows then");
        assert!(rig.news[rig.news.len() - 2..].iter().all(|news| news.ends_with("tried")), "{:?}", rig.news);
        let begin = rig.news.len();
        rig.pass(20, &[10, 0, 0]);
        assert_eq!(rig.news[begin..], ["192.168.0.3 out 30", "fd00::3 out 30"], "from the beginning");
    }

    #[test]
    fn a_fault_is_over_when_no_syn_was_repeated_for_a_minute() {
        let mut rig = Rig::new(3, Wish::Remove, 0);
        rig.pass(10, &[10, 0, 0]);
        rig.pass(20, &[]);
        assert_eq!((rig.out(), rig.faulty().len()), (vec![0], 2));
        // It is tried again, and nobody comes.
        while !rig.out().is_empty() {
            rig.pass(1, &[]);
        }
        rig.pass(58, &[]);
        assert_eq!(rig.faulty().len(), 2, "an empty window says nothing");
        rig.pass(3, &[]);
        assert_eq!(rig.faulty(), [""; 0]);
    }

    #[test]
    fn a_backend_that_gets_no_new_flows_by_the_operators_wish_is_not_taken_out() {
        let mut rig = Rig::new(4, Wish::Remove, 0);
        let ids: Vec<ServiceId> = rig.model.services.keys().copied().collect();
        for id in &ids {
            let first = rig.model.services[id].backends[0].address;
            rig.model.drain_backend(id, first, None).unwrap();
        }
        rig.current = current(&rig.model, 1_000);
        rig.pass(20, &[10, 0, 0, 0]);
        assert_eq!((rig.out(), rig.faulty().len()), (vec![], 2), "it is reported");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever clients do: enough backends stay, and what was opened can be closed.
        #[test]
        fn never_below_min_up(
            backends in 2usize..8,
            min_up in 0u8..=100,
            steps in prop::collection::vec((prop::collection::vec(0u64..=10, 8), 1u64..40), 1..20),
        ) {
            let mut rig = Rig::new(backends, Wish::Remove, min_up);
            let share = if min_up == 0 { 50 } else { usize::from(min_up) };
            for (lost, seconds) in steps {
                for _ in 0..seconds {
                    rig.pass(1, &lost[..backends]);
                    let up = backends - rig.out().len();
                    prop_assert!(up > 0 && up * 100 >= share.min(100) * backends || rig.out().is_empty());
                }
            }
            rig.pass(700, &[0; 8][..backends]);
            prop_assert_eq!(rig.faulty(), [""; 0]);
            prop_assert!(rig.out().is_empty());
        }
    }
}
