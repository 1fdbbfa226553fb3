//! The control side's state: the model, the backends' MAC addresses, and the snapshot made of both.
//!
//! All changes go through [`Director`], from the API or from the slow path. A new model or new MAC addresses are
//! compiled to a snapshot and published, or nothing changes.
//!
//! News from the network (a backend has failed, is back, or is resolved) is handled in two steps. The first step is
//! immediate: no packets go to failed backends any more, and a backend that is back takes flows if no other backend of
//! its service is up ([`Model::take_note`]). The services concerned are put on a list. The second step is done by a
//! thread of its own, [`Director::keep_up`]. It goes through the list and builds new tables ([`Model::renew`]), so that
//! neither the slow path nor an operator waits for a thousand of them. It reads the state of the network when it begins
//! a round. A change in the meantime puts the service on the list again, so no change is lost or made twice.
//!
//! Tables are built without a lock. Before a thread publishes new tables, it checks that their services have not
//! changed since it began. If a service has changed, its new table is built again.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctl::{Mac, ServiceId};
use hashbrown::HashMap;

use crate::base::ids::PortNo;
use crate::control::compile::{Compiled, compile, recompile};
use crate::control::model::{Model, Outlook, Reachability, Service};
use crate::count::counters::{UnsentCounters, WorkerCounters};
use crate::count::lease::Leases;
use crate::state::networks::PortLink;
use crate::state::publication::{Publisher, SnapshotReader};

/// New tables are built for this long, then all of them are published together.
const BATCH: Duration = Duration::from_millis(100);

/// How often an operator's change is made again because the network has changed the same service meanwhile. After that,
/// it is put over what the network has changed, which is made again in its turn.
const TRIES: usize = 8;

/// How often deadlines are checked, and old snapshots and tables freed.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// The control side's state.
#[derive(Debug)]
pub struct Director {
    leases: Arc<Leases>,
    workers: Vec<Arc<WorkerCounters>>,
    unsent: Vec<UnsentCounters>,
    /// Held by the operator who changes the model: one at a time. Neither readers nor the slow path wait for it.
    changing: Mutex<()>,
    /// Held by the thread in [`Director::catch_up`]: one at a time.
    renewing: Mutex<()>,
    state: Mutex<State>,
    /// Notified when there may be services to renew.
    news: Condvar,
    started: Instant,
}

#[derive(Debug)]
struct State {
    model: Arc<Model>,
    ports: Vec<PortLink>,
    macs: HashMap<IpAddr, Mac>,
    /// How the backends can be reached.
    outlook: Arc<Outlook>,
    /// The services that do not match the state of the network, and wait to be renewed.
    behind: BTreeSet<ServiceId>,
    /// The last service that was renewed, of those in an outage and of the others.
    last_renewed: [Option<ServiceId>; 2],
    current: Compiled,
    publisher: Publisher,
    generation: u64,
}

impl Director {
    /// A director with a first model. `ports` are the ports that the model's networks are on.
    pub fn new(model: Model, leases: Arc<Leases>, workers: Vec<Arc<WorkerCounters>>, ports: Vec<PortLink>) -> Self {
        let model = Arc::new(model);
        let first = compile(model.clone(), |_| None, &ports, 1);
        let unsent = ports.iter().map(|_| UnsentCounters::default()).collect();
        let state = State {
            model,
            ports,
            macs: HashMap::new(),
            outlook: Arc::default(),
            behind: BTreeSet::new(),
            last_renewed: [None; 2],
            publisher: Publisher::new(first.snapshot.clone()),
            current: first,
            generation: 1,
        };
        Director {
            leases,
            workers,
            unsent,
            changing: Mutex::new(()),
            renewing: Mutex::new(()),
            state: Mutex::new(state),
            news: Condvar::new(),
            started: Instant::now(),
        }
    }

    /// Changes the model. Either the whole change is made and published, or, on an error, none of it. Returns the
    /// generation of the snapshot that has the change. `change` may be called several times: if news from the network
    /// has changed the same service meanwhile, the change is made again.
    pub fn change<E>(&self, change: impl Fn(&mut Model, &Arc<Leases>) -> Result<(), E>) -> Result<u64, E> {
        let _turn = self.changing.lock().expect(NO_PANIC);
        let mut tries = 0;
        // Bound: TRIES. Backends that go up and down all the time must not keep an operator waiting for ever.
        loop {
            tries += 1;
            let base = self.state().model.clone();
            let mut model = Model::clone(&base);
            model.now_ms = self.now_ms();
            // Tables are built here.
            change(&mut model, &self.leases)?;
            let mut state = self.state();
            let insists = tries == TRIES;
            let Merged { model, outdated } = state.merged(&base, model, insists);
            if outdated.is_empty() || insists {
                let generation = state.publish(model, &[]);
                state.note_behind(&outdated);
                self.news.notify_all();
                return Ok(generation);
            }
        }
    }

    /// Takes news from the network: the MAC addresses that have changed (`None`: not known any more), and how backends
    /// can be reached. What must not wait is done at once; the rest is done by [`Self::keep_up`].
    pub fn hear(&self, macs: &[(IpAddr, Option<Mac>)], outlook: &Outlook) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let mut moved = Vec::new();
        for &(address, mac) in macs {
            let before = match mac {
                Some(mac) => state.macs.insert(address, mac),
                None => state.macs.remove(&address),
            };
            if before != mac {
                moved.push(address);
            }
        }
        let mut concerned: HashSet<IpAddr> = outlook.differences(&state.outlook);
        if concerned.is_empty() && moved.is_empty() {
            return;
        }
        if !concerned.is_empty() {
            state.outlook = Arc::new(outlook.clone());
        }
        concerned.extend(&moved);
        let mut model = Model::clone(&state.model);
        model.now_ms = now_ms;
        let services: Vec<ServiceId> = model.with_backends(&concerned).copied().collect();
        for service in &services {
            model.take_note(service, outlook);
        }
        state.publish(model, &moved);
        state.note_behind(&services);
        self.news.notify_all();
    }

    /// Takes news from a port: its MAC address, its MTU, its link. They are in force at once.
    pub fn set_port(&self, port: PortNo, link: PortLink) {
        let mut state = self.state();
        if std::mem::replace(&mut state.ports[port.index()], link) != link {
            let model = Model::clone(&state.model);
            state.publish(model, &[]);
        }
    }

    /// Publishes the state again, so that the workers look for what else has changed.
    pub fn republish(&self) {
        let mut state = self.state();
        let model = Model::clone(&state.model);
        state.publish(model, &[]);
    }

    /// Keeps services up to date with the network, and frees unused memory from time to time, until `stop` is set.
    pub fn keep_up(&self, stop: &AtomicBool) {
        // Bound: none, it is the thread's life.
        while !stop.load(Ordering::Relaxed) {
            let more = self.catch_up();
            self.reclaim();
            let state = self.state();
            if !more && state.behind.is_empty() && !stop.load(Ordering::Relaxed) {
                drop(self.news.wait_timeout(state, HOUSEKEEPING).expect(NO_PANIC));
            }
        }
    }

    /// Makes [`Self::keep_up`] check whether it must stop.
    pub fn wake(&self) {
        // A thread that is about to wait holds the lock, and has checked `stop` under it. `keep_up` must end even if
        // another thread has panicked.
        let _state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.news.notify_all();
    }

    /// Renews the services that do not match the state of the network, and those whose hand-over or drain has ended.
    /// Those in an outage come first. After `BATCH`, publishes the services that are done. Returns whether there is
    /// more to do.
    pub fn catch_up(&self) -> bool {
        let _turn = self.renewing.lock().expect(NO_PANIC);
        let now_ms = self.now_ms();
        let (base, services, mut last_renewed, outlook, resolved) = {
            let mut state = self.state();
            let model = state.model.clone();
            state.behind.extend(model.due(now_ms));
            let mut services: Vec<ServiceId> = std::mem::take(&mut state.behind).into_iter().collect();
            if services.is_empty() {
                return false;
            }
            in_order(&mut services, &model, &state.last_renewed);
            let waiting = services.iter().filter_map(|id| model.services.get(id)).flat_map(|service| service.waiting());
            let resolved: HashSet<IpAddr> = waiting.filter(|address| state.macs.contains_key(address)).collect();
            (model, services, state.last_renewed, state.outlook.clone(), resolved)
        };
        let mut model = Model::clone(&base);
        model.now_ms = now_ms;
        let network = Reachability { outlook: &outlook, resolved: &|address| resolved.contains(&address) };
        let begin = Instant::now();
        let mut services = services.into_iter();
        // Bound: each round takes a service; no round begins after BATCH.
        while begin.elapsed() < BATCH
            && let Some(service) = services.next()
        {
            model.renew(&service, &network);
            last_renewed[class(&base, &service)] = Some(service);
        }
        let mut state = self.state();
        state.last_renewed = last_renewed;
        state.behind.extend(services);
        let Merged { model, outdated } = state.merged(&base, model, false);
        state.note_behind(&outdated);
        if state.model.differences(&model).next().is_some() {
            state.publish(model, &[]);
        }
        !state.behind.is_empty()
    }

    /// The time of changes, in ms since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("u64 has room for 500 million years in ms")
    }

    /// Frees the snapshots and tables that are not in use any more. To be called from time to time.
    pub fn reclaim(&self) {
        let (unused, model) = {
            let mut state = self.state();
            (state.publisher.reclaim(), state.model.clone())
        };
        drop(unused);
        model.forget_tables();
    }

    /// The current snapshot, and the model that it was made from.
    pub fn current(&self) -> Compiled {
        self.state().current.clone()
    }

    /// A reader, for a thread that follows the snapshots.
    pub fn reader(&self) -> SnapshotReader {
        self.state().publisher.reader()
    }

    /// The slow path's counters, by port.
    pub fn unsent(&self) -> &[UnsentCounters] {
        &self.unsent
    }

    /// The workers' counters, by worker.
    pub fn workers(&self) -> &[Arc<WorkerCounters>] {
        &self.workers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

/// The classes of services to renew: those in an outage, and the others.
const OUTAGE: usize = 0;
const OTHER: usize = 1;

fn class(model: &Model, id: &ServiceId) -> usize {
    if model.services.get(id).is_some_and(|service| service.outage.is_some()) { OUTAGE } else { OTHER }
}

/// Sorts services into the order in which they are renewed: one that is not in an outage, then those in an outage, then
/// the others. So each of the others gets its turn, however many services are in an outage.
fn in_order(services: &mut [ServiceId], model: &Model, last_renewed: &[Option<ServiceId>; 2]) {
    services.sort_by_key(|id| (class(model, id), Some(*id) <= last_renewed[class(model, id)]));
    if let Some(other) = services.iter().position(|id| class(model, id) == OTHER) {
        services[..=other].rotate_right(1);
    }
}

const NO_PANIC: &str = "no thread panics while it holds a lock of the director";

/// A model with the changes that were made to an older one.
struct Merged {
    model: Model,
    /// The services that have changed meanwhile, too. Their changes are left out, unless they are insisted on.
    outdated: Vec<ServiceId>,
}

impl State {
    /// The current model with the changes from `base`, a model that was current, to `changed`. If `insists`, with the
    /// changes of outdated services, too.
    fn merged(&self, base: &Arc<Model>, changed: Model, insists: bool) -> Merged {
        if Arc::ptr_eq(base, &self.model) {
            return Merged { model: changed, outdated: Vec::new() };
        }
        let mut model = Model::clone(&self.model);
        let same = |a: Option<&Arc<Service>>, b: Option<&Arc<Service>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let (mine, outdated): (Vec<ServiceId>, Vec<ServiceId>) =
            base.differences(&changed).partition(|id| same(base.services.get(id), self.model.services.get(id)));
        for id in mine.iter().chain(outdated.iter().filter(|_| insists)) {
            model.take_service(id, &changed);
        }
        Merged { model, outdated }
    }

    /// Makes a model current and publishes it. Its services may not have the last failures yet.
    fn publish(&mut self, mut model: Model, moved: &[IpAddr]) -> u64 {
        self.generation += 1;
        let changed: Vec<ServiceId> = self.model.differences(&model).collect();
        for service in &changed {
            model.take_note(service, &self.outlook);
        }
        self.model = Arc::new(model);
        let macs = &self.macs;
        let resolve = |address| macs.get(&address).copied();
        self.current = recompile(&self.current, moved, self.model.clone(), resolve, &self.ports, self.generation);
        self.publisher.publish(self.current.snapshot.clone());
        self.note_behind(&changed);
        self.generation
    }

    /// Puts those of these services on the list that do not match the state of the network.
    fn note_behind(&mut self, services: &[ServiceId]) {
        let macs = &self.macs;
        let network = Reachability { outlook: &self.outlook, resolved: &|address| macs.contains_key(&address) };
        let behind = |id: &&ServiceId| {
            // Deadlines are checked from time to time.
            self.model.services.get(*id).is_some_and(|service| service.is_behind(&network, 0))
        };
        self.behind.extend(services.iter().filter(behind));
    }
}

#[cfg(test)]
mod tests {
    use ctl::OnAllDown;
    use ctl::request::BackendEdit;

    use super::*;
    use crate::base::ids::{BackendNo, CounterNo};
    use crate::control::model::Reach;
    use crate::state::vips::Local;
    use crate::testing::model::{PORT, backend, leases, model, service};
    use crate::wire::ipv6::link_local;

    fn director() -> Director {
        Director::new(model(), leases(), vec![], vec![PORT])
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let director = director();
        let add =
            |vip| director.change(|model, leases| model.add_service(&service(vip, &[("192.168.0.3", 1)]), leases));
        assert_eq!(add("192.168.0.101:80"), Ok(2));
        assert!(add("192.168.0.101:80").is_err());
        assert_eq!(director.current().generation, 2);
    }

    fn address(last: u8) -> IpAddr {
        format!("192.168.0.{last}").parse().unwrap()
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    /// News from the network: the MAC addresses of `found` are known, those of `lost` no more, and `down` are down.
    fn hear(director: &Director, found: &[u8], lost: &[u8], down: &[u8]) {
        let found = found.iter().map(|&last| (address(last), Some(mac(last))));
        let macs: Vec<_> = found.chain(lost.iter().map(|&last| (address(last), None))).collect();
        director.hear(&macs, &Outlook::with_down(down.iter().map(|&last| address(last))));
    }

    fn slots(director: &Director, id: &str) -> Vec<u32> {
        let snapshot = director.current();
        snapshot.model.services[&id.parse().unwrap()].backends.iter().map(|backend| backend.slots).collect()
    }

    /// By slot, the backend that gets new flows of a service.
    fn owners(director: &Director, service: usize) -> Vec<BackendNo> {
        let snapshot = director.current();
        let entry = &snapshot.services[service];
        (0..entry.table.len()).map(|slot| entry.now(slot)).collect()
    }

    #[test]
    fn a_mac_address_reaches_all_services_of_its_backend() {
        let director = director();
        for vip in ["192.168.0.101:80", "192.168.0.102:80"] {
            director.change(|model, leases| model.add_service(&service(vip, &[("192.168.0.3", 1)]), leases)).unwrap();
        }
        assert!(director.current().targets.iter().all(|target| !target.known));
        hear(&director, &[3], &[], &[]);
        let snapshot = director.current();
        assert_eq!(snapshot.targets.len(), 2);
        assert!(snapshot.targets.iter().all(|target| target.known && target.mac() == mac(3).0));
        hear(&director, &[3], &[], &[]);
        assert_eq!(director.current().generation, snapshot.generation, "nothing new");
    }

    #[test]
    fn what_is_new_of_a_port_reaches_all_backends_behind_it() {
        let director = director();
        director
            .change(|model, leases| model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), leases))
            .unwrap();
        hear(&director, &[3], &[], &[]);
        let port = PortNo::new(0);
        let set = |link| {
            let before = director.current().generation;
            director.set_port(port, link);
            let current = director.current();
            assert_eq!((current.ports[0], current.networks[0].link), (link, link));
            (current.targets[0], current.generation - before)
        };
        let (first, published) = set(PORT);
        assert_eq!((first.up, first.known, published), (true, true, 0), "nothing new");
        let (down, published) = set(PortLink { up: false, ..PORT });
        assert_eq!((down.up, down.known, down.plain_len, published), (false, true, 0, 1));
        let other = PortLink { mac: mac(0x77), mtu: 1_400, up: true, joins: 1 };
        let (now, _) = set(other);
        assert_eq!((now.macs[6..].to_vec(), now.mtu, now.plain_len), (mac(0x77).0.to_vec(), 1_400, 1_414));
        assert_eq!(now.mac(), mac(3).0, "its own stays");
        // What follows is copied from that.
        hear(&director, &[4], &[], &[]);
        assert_eq!(director.current().targets[0], now);
        let own = link_local(other.mac).into();
        assert_eq!(director.current().vips.local(own), Some(Local::Own), "the link-local address follows");
    }

    #[test]
    fn a_backend_added_to_a_running_service_gets_flows_when_it_is_resolved() {
        let director = director();
        let wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
        director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
        let shares = || slots(&director, "192.168.0.101:80");
        assert_eq!(shares(), [1_021], "from the start: its share is its own, resolved or not");
        hear(&director, &[3], &[], &[]);
        director
            .change(|model, leases| model.add_backend(&wanted.service, &backend("192.168.0.4", 1), leases))
            .unwrap();
        assert!(!director.catch_up());
        assert_eq!(shares(), [1_021, 0]);
        hear(&director, &[4], &[], &[]);
        director.catch_up();
        assert_eq!(shares().iter().sum::<u32>(), 1_021);
        assert!(shares()[1].abs_diff(510) <= 1);
        // When its MAC address is lost again, it keeps its share: that alone does not make it down.
        hear(&director, &[], &[4], &[]);
        director.catch_up();
        assert!(shares()[1].abs_diff(510) <= 1);
    }

    #[test]
    fn no_slot_goes_to_a_backend_that_is_down_and_the_tables_follow() {
        let director = director();
        let backends = [("192.168.0.3", 1), ("192.168.0.4", 1), ("192.168.0.5", 1)];
        for vip in ["192.168.0.101:80", "192.168.0.102:80"] {
            director.change(|model, leases| model.add_service(&service(vip, &backends), leases)).unwrap();
        }
        hear(&director, &[3, 4, 5], &[], &[]);
        let before = owners(&director, 0);
        hear(&director, &[], &[4], &[4]);
        for service in [0, 1] {
            let owners = owners(&director, service);
            assert!(!owners.contains(&BackendNo::new(1)) && !owners.contains(&BackendNo::NONE));
            let moved = before.iter().zip(&owners).filter(|(before, now)| before != now);
            assert!(moved.into_iter().all(|(&before, _)| before == BackendNo::new(1)), "no other slot moves");
        }
        let stood_in = owners(&director, 0);
        assert_eq!(slots(&director, "192.168.0.101:80")[1], 340, "there are no new tables yet");
        // A service that is added meanwhile has the failure, too. A service that is removed does not come back.
        director.change(|model, leases| model.add_service(&service("192.168.0.103:80", &backends), leases)).unwrap();
        director.change(|model, _| model.remove_service(&"192.168.0.102:80".parse().unwrap())).unwrap();
        assert!(!owners(&director, 1).contains(&BackendNo::new(1)));
        while director.catch_up() {}
        let snapshot = director.current();
        assert!(
            snapshot
                .services
                .iter()
                .all(|service| service.outage.is_none() && !service.table.contains(&BackendNo::new(1)))
        );
        assert_eq!(snapshot.services.len(), 2);
        // Flows that have begun at the backends that stood in are all remembered. The slots wait for the one that is down.
        let entry = &snapshot.services[0];
        for (slot, (&first, &stood_in)) in before.iter().zip(&stood_in).enumerate() {
            let is_down = first == BackendNo::new(1);
            assert_eq!(entry.is_awaited(slot), is_down);
            assert!(is_down || entry.now(slot) == stood_in || entry.before(slot) == stood_in);
        }
    }

    #[test]
    fn a_backend_that_is_up_again_before_the_tables_are_built_gets_its_slots_back() {
        for (vip, tells_new_flows) in [("192.168.0.101:80", true), ("192.168.0.101:80/udp", false)] {
            let director = director();
            let wanted = service(vip, &[("192.168.0.3", 1), ("192.168.0.4", 1)]);
            director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
            let before = owners(&director, 0);
            hear(&director, &[3, 4], &[], &[]);
            hear(&director, &[], &[], &[4]);
            let its_own = before.iter().filter(|&&owner| owner == BackendNo::new(1)).count();
            let awaited =
                |snapshot: &Compiled| (0..before.len()).filter(|&slot| snapshot.services[0].is_awaited(slot)).count();
            assert_eq!(awaited(&director.current()), if tells_new_flows { its_own } else { 0 });
            hear(&director, &[], &[], &[]);
            assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::new(0)), "until there is a new table");
            while director.catch_up() {}
            assert_eq!(owners(&director, 0), before);
            let snapshot = director.current();
            let handed_over =
                (0..before.len()).filter(|&slot| snapshot.services[0].before(slot) == BackendNo::new(0)).count();
            assert_eq!(handed_over, if tells_new_flows { 0 } else { its_own }, "{vip}");
        }
    }

    #[test]
    fn a_backend_that_is_up_again_takes_part_at_once_if_no_other_is_left() {
        for on_all_down in [OnAllDown::Drop, OnAllDown::All] {
            let director = director();
            let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]);
            wanted.on_all_down = on_all_down;
            director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
            hear(&director, &[3, 4], &[], &[]);
            hear(&director, &[], &[], &[3]);
            while director.catch_up() {}
            // No table was built since it is back.
            hear(&director, &[], &[], &[]);
            hear(&director, &[], &[], &[4]);
            assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::new(0)), "{on_all_down:?}");
            while director.catch_up() {}
            assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::new(0)), "{on_all_down:?}");
        }
    }

    #[test]
    fn the_first_backend_that_is_up_again_takes_part_at_once() {
        let director = director();
        let wanted = service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]);
        director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
        hear(&director, &[3, 4], &[], &[]);
        for renewed in [false, true] {
            hear(&director, &[], &[], &[3, 4]);
            while renewed && director.catch_up() {}
            assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::NONE), "renewed: {renewed}");
            hear(&director, &[], &[], &[4]);
            assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::new(0)), "renewed: {renewed}");
        }
    }

    /// Of two networks, one is silent or has no link. Its backends answer again later.
    #[test]
    fn a_network_that_is_out_gives_its_new_flows_to_another_and_gets_them_back() {
        for reach in [Reach::Silent, Reach::NoLink] {
            let director = director();
            let wanted = service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1), ("192.168.0.5", 1)]);
            director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
            hear(&director, &[3, 4, 5], &[], &[]);
            let at_first = owners(&director, 0);
            let out: Outlook = [address(3), address(4)].into_iter().map(|address| (address, reach)).collect();
            director.hear(&[], &out);
            for renewed in [false, true] {
                assert!(owners(&director, 0).iter().all(|&owner| owner == BackendNo::new(2)), "renewed: {renewed}");
                let snapshot = director.current();
                for (slot, &first) in at_first.iter().enumerate() {
                    let before = snapshot.services[0].before(slot);
                    assert_eq!(before, if first.index() == 2 { BackendNo::NONE } else { first }, "renewed: {renewed}");
                }
                assert!(snapshot.targets.iter().all(|target| target.known), "they keep their MAC addresses");
                while director.catch_up() {}
            }
            assert_eq!(slots(&director, "192.168.0.101:80"), [0, 0, 1_021]);
            // The other one is out as well: all have their shares again.
            let all: Outlook = [3, 4, 5].into_iter().map(|last| (address(last), Reach::Silent)).collect();
            director.hear(&[], &all);
            assert!(owners(&director, 0).iter().all(|&owner| owner != BackendNo::NONE));
            while director.catch_up() {}
            assert_eq!(owners(&director, 0), at_first);
            director.hear(&[], &Outlook::default());
            while director.catch_up() {}
            assert_eq!(owners(&director, 0), at_first);
            assert!(director.current().services[0].had.is_none());
        }
    }

    /// While many services fail again and again, one of the others is renewed each time.
    #[test]
    fn no_service_waits_for_ever_behind_outages() {
        let director = director();
        for vip in 101..107 {
            let backends = if vip < 105 { ["192.168.0.3", "192.168.0.4"] } else { ["192.168.0.5", "192.168.0.6"] };
            let wanted = service(&format!("192.168.0.{vip}:80"), &backends.map(|backend| (backend, 1)));
            director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
        }
        hear(&director, &[3, 4, 5, 6], &[], &[6]);
        while director.catch_up() {}
        // One backend fails, another one is up again.
        hear(&director, &[], &[], &[3]);
        let order = {
            let state = director.state();
            let mut services: Vec<ServiceId> = state.behind.iter().copied().collect();
            in_order(&mut services, &state.model, &state.last_renewed);
            services.iter().map(|id| class(&state.model, id)).collect::<Vec<_>>()
        };
        assert_eq!(order, [OTHER, OUTAGE, OUTAGE, OUTAGE, OUTAGE, OTHER]);
    }

    /// Operators and the network change the same services, while another thread keeps up.
    #[test]
    fn no_change_is_lost_when_changes_overlap() {
        let director = director();
        let backends: Vec<(String, u32)> = (3..13).map(|last| (format!("192.168.0.{last}"), 1)).collect();
        let backends: Vec<(&str, u32)> = backends.iter().map(|(address, weight)| (&**address, *weight)).collect();
        let leases: Vec<String> = (0..20).map(|i| format!("192.168.0.{}:80", 100 + i)).collect();
        for id in &leases {
            director.change(|model, leases| model.add_service(&service(id, &backends), leases)).unwrap();
        }
        let stop = AtomicBool::new(false);
        let (mut in_order, mut to_down) = (true, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| director.keep_up(&stop));
            let weigh = || {
                for weight in 2..30 {
                    for id in &leases {
                        let (service, address) = (id.parse().unwrap(), address(3 + (weight % 10) as u8));
                        let edit = BackendEdit { service, address, weight: Some(weight), mac: None };
                        director.change(|model, _| model.edit_backend(&edit)).unwrap();
                    }
                }
            };
            let operator = scope.spawn(weigh);
            let all: Vec<u8> = (3..13).collect();
            let mut generation = 0;
            for round in 0..60u8 {
                let down: Vec<u8> =
                    all.iter().copied().filter(|last| (u32::from(*last) * 7 + u32::from(round) * 5) % 11 < 4).collect();
                hear(&director, &all, &[], &down);
                let snapshot = director.current();
                // Asserted afterwards: the other threads must end first.
                in_order &= snapshot.generation >= generation;
                generation = snapshot.generation;
                for entry in &snapshot.services {
                    let owners =
                        (0..entry.table.len()).map(|slot| entry.now(slot)).filter(|&owner| owner != BackendNo::NONE);
                    to_down += owners
                        .into_iter()
                        .filter(|&owner| down.iter().any(|d| usize::from(*d) == owner.index() + 3))
                        .count();
                }
            }
            let operator = operator.join();
            while director.catch_up() {}
            stop.store(true, Ordering::Relaxed);
            director.wake();
            operator.unwrap();
        });
        assert!(in_order, "a snapshot was published out of order");
        assert_eq!(to_down, 0, "slots go to backends that are down");
        let snapshot = director.current();
        let last = snapshot.model.services.values().flat_map(|service| service.backends.iter().map(|b| b.weight));
        let expected = [21, 22, 23, 24, 25, 26, 27, 28, 29, 20].into_iter();
        let mut of_one: Vec<u32> = last.take(10).collect();
        of_one.sort_unstable();
        let mut expected: Vec<u32> = expected.collect();
        expected.sort_unstable();
        assert_eq!(of_one, expected);
        assert!(snapshot.services.iter().all(|service| service.outage.is_none()));
        assert_eq!(snapshot.targets.len(), 200);
    }

    /// A backend that goes up and down faster than a change can be made.
    #[test]
    fn an_operators_change_is_made_whatever_the_network_does_meanwhile() {
        let director = director();
        let id: ServiceId = "192.168.0.101:80".parse().unwrap();
        let wanted = service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]);
        director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
        hear(&director, &[3, 4], &[], &[]);
        let tries = std::cell::Cell::new(0usize);
        let edit = BackendEdit { service: id, address: address(4), weight: Some(7), mac: None };
        let changed = director.change(|model, _| {
            tries.set(tries.get() + 1);
            assert!(tries.get() < 100, "the change is made again and again");
            hear(&director, &[], &[], if tries.get().is_multiple_of(2) { &[] } else { &[3] });
            director.catch_up();
            model.edit_backend(&edit)
        });
        assert!(changed.is_ok() && tries.get() == TRIES);
        let weights = |snapshot: &Compiled| -> Vec<u32> {
            snapshot.model.services[&id].backends.iter().map(|backend| backend.weight).collect()
        };
        assert_eq!(weights(&director.current()), [1, 7]);
        // What the network has said last counts, too.
        hear(&director, &[], &[], &[3]);
        director.catch_up();
        assert_eq!((weights(&director.current()), slots(&director, "192.168.0.101:80")), (vec![1, 7], vec![0, 1_021]));
    }

    #[test]
    fn a_snapshot_made_from_the_previous_one_equals_one_made_from_nothing() {
        let director = director();
        let leases = ["192.168.0.101:80", "192.168.0.102:80", "192.168.0.103:80"];
        let check = |what: &str| {
            let snapshot = director.current();
            let macs = director.state().macs.clone();
            let fresh = compile(snapshot.model.clone(), |address| macs.get(&address).copied(), &[PORT], 0);
            assert_eq!(snapshot.targets, fresh.targets, "{what}");
            let owners = |snapshot: &Compiled| -> Vec<_> {
                (0..200).map(CounterNo::new).filter_map(|counter| Some((counter, *snapshot.owner(counter)?))).collect()
            };
            assert_eq!(owners(&snapshot), owners(&fresh), "{what}");
            assert_eq!(format!("{:?}", snapshot.services), format!("{:?}", fresh.services), "{what}");
        };
        for id in [leases[1], leases[2], leases[0]] {
            let wanted = service(id, &[("192.168.0.3", 1), ("192.168.0.4", 2), ("192.168.0.5", 1)]);
            director.change(|model, leases| model.add_service(&wanted, leases)).unwrap();
            check("one more service");
        }
        hear(&director, &[3, 5], &[], &[]);
        check("resolved");
        let middle: ServiceId = leases[1].parse().unwrap();
        director.change(|model, leases| model.add_backend(&middle, &backend("192.168.0.2", 1), leases)).unwrap_err();
        director.change(|model, leases| model.add_backend(&middle, &backend("192.168.0.9", 1), leases)).unwrap();
        check("one more backend");
        hear(&director, &[9, 4], &[3], &[3]);
        check("one is down");
        director.catch_up();
        check("tables");
        director.change(|model, _| model.remove_backend(&leases[0].parse().unwrap(), address(4))).unwrap();
        check("one backend less");
        director.change(|model, _| model.drain_backend(&middle, address(4), Some(0))).unwrap();
        check("drained");
        hear(&director, &[3], &[], &[]);
        director.catch_up();
        check("up again");
        director.change(|model, _| model.remove_service(&leases[0].parse().unwrap())).unwrap();
        check("one service less");
    }
}
