//! What the operator asked for: networks, services, backends.
//!
//! A [`Model`] is a value. A change makes a new one from the old ([`Model::clone`] is cheap: services are shared),
//! checks it, and either all of it is right or a [`ModelError`] says what is not. [`compile`] turns a model into
//! the [`Snapshot`](crate::snapshot::Snapshot) that workers forward by.

pub mod compile;
mod error;
pub mod handover;
mod tables;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ctl::request::{BackendEdit, BackendSpec, MacChange, ServiceAdd};
use ctl::{FlowHash, MAX_WEIGHT, Mac, OnAllDown, Ports, Protocol, Scheduler, ServiceId, Tracking};
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::counters::{ServicePlace, TargetId, TargetIds};
use crate::exceptions::MAX_IDLE_MS;
use crate::maglev::{self, Candidate};
use crate::outage::Outage;
use crate::schedule::{Cursor, NOBODY, Schedule};
use crate::vlan::Tags;

pub use error::ModelError;
use handover::{HandOver, Slots};
use tables::Tables;

/// How much longer than the idle timeout a hand-over lasts.
const HAND_OVER_SLACK_MS: u64 = 1_000;

/// The most services.
pub const MAX_SERVICES: usize = 16_384;

/// So few addresses are looked for in each service's backends, and not the other way round.
const FEW_ADDRESSES: usize = 16;

/// What the network says of the backends.
#[derive(Clone, Copy)]
pub struct Reachability<'a> {
    /// Who does not answer; the others do, or are not known not to.
    pub down: &'a HashSet<IpAddr>,
    /// Whose MAC address is known.
    pub resolved: &'a dyn Fn(IpAddr) -> bool,
}

/// All that forwarding depends on, except what the network itself tells (MAC addresses).
#[derive(Debug, Clone)]
pub struct Model {
    /// Keys the flow hash and the Maglev tables; the same on every director of the same VIPs.
    pub hash_key: [u8; 16],
    /// Slots of a Maglev table, a prime.
    pub table_size: u32,
    /// The networks, in the order of the configuration.
    pub networks: Arc<[Network]>,
    /// The services by VIP, port and protocol.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
    /// The time of the change that is being made, in ms on any clock that does not go back.
    pub now_ms: u64,
    /// The table of a service in which nobody takes new flows.
    nobody: Arc<[u16]>,
    /// How many services have each backend, in [parts](part_of_uses), so that a change copies but a small one.
    backend_uses: Box<[Arc<HashMap<IpAddr, usize>>]>,
    /// Services of the same backends and weights have one table between them.
    tables: Arc<Tables>,
}

/// A network that the director is in: a port, or a VLAN of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The port, by its place in the configuration.
    pub port: usize,
    /// The port's name in the configuration.
    pub port_name: String,
    /// The VLAN tags of its frames.
    pub tags: Tags,
    /// The director's own addresses there, each with its network's prefix length.
    pub addresses: Vec<IpNet>,
}

impl Network {
    /// What it is called: as the port, with the VLAN, if there is one: `lan0`, `lan0.100`.
    pub fn name(&self) -> String {
        if self.tags.is_none() { self.port_name.clone() } else { format!("{}.{}", self.port_name, self.tags) }
    }
}

/// A service and its backends.
#[derive(Debug, Clone)]
pub struct Service {
    /// VIP, port, protocol.
    pub id: ServiceId,
    /// How backends are chosen.
    pub scheduler: Scheduler,
    /// What decides the backend of a flow.
    pub hash: FlowHash,
    /// Which flows are remembered.
    pub tracking: Tracking,
    /// For how long a flow is remembered that nothing is heard of, and how long a hand-over lasts.
    pub idle_ms: u64,
    /// What becomes of packets when all backends are down.
    pub on_all_down: OnAllDown,
    /// In ascending order of their addresses.
    pub backends: Vec<Backend>,
    /// The Maglev table over `backends`; all [`NOBODY`] where nobody takes new flows.
    pub table: Arc<[u16]>,
    /// Who had its slots before.
    pub handover: Option<Arc<HandOver>>,
    /// Who has failed since the table was built, and who stands in. Then the service waits to be [renewed](Model::renew).
    pub outage: Option<Arc<Outage>>,
    /// When a hand-over or a drain's deadline passes next, in ms.
    deadline: Option<u64>,
    /// Whether all backends that should have flows are down, and get them nevertheless.
    forced: bool,
    /// Who gets a new flow.
    pub schedule: Schedule,
    /// By worker: where it is in the schedule.
    pub cursors: Arc<[Cursor]>,
    /// Where what is dropped of its packets is counted.
    pub counter: Arc<ServicePlace>,
}

/// A backend of one service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight, 0 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Its MAC address, where the operator gives it.
    pub pinned: Option<Mac>,
    /// The network by which it is reached, an index into [`Model::networks`].
    pub network: usize,
    /// Where its traffic is counted.
    pub target: Arc<TargetId>,
    /// Its slots of the service's table.
    pub slots: u32,
    /// Whether it takes part. A backend that is added to a running service does when its MAC address is known for the
    /// first time: before that, its share of the flows would be lost.
    pub joined: bool,
    /// Whether it takes new flows, or is being drained.
    pub duty: Duty,
    /// Whether it cannot be reached, or fails its checks. Nothing goes there.
    pub down: bool,
}

/// What the operator wants a backend to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Take new flows, by its weight.
    Serve,
    /// Take no new flows; keep the old ones until they end, or until then.
    Drain {
        /// In ms.
        until_ms: Option<u64>,
    },
    /// Its drain's deadline has passed: nothing goes there.
    Drained,
}

impl Model {
    /// Without services.
    pub fn new(hash_key: [u8; 16], table_size: u32, networks: Vec<Network>) -> Self {
        let nobody = vec![NOBODY; table_size as usize].into();
        Model {
            hash_key,
            table_size,
            networks: networks.into(),
            services: BTreeMap::new(),
            now_ms: 0,
            nobody,
            backend_uses: (0..=u8::MAX).map(|_| Arc::default()).collect(),
            tables: Arc::default(),
        }
    }

    /// The service of this name.
    pub fn service(&self, id: &ServiceId) -> Result<&Arc<Service>, ModelError> {
        self.services.get(id).ok_or(ModelError::NoSuchService(*id))
    }

    /// Adds a service. All that is wrong with it is said at once; then the model is as it was.
    pub fn add_service(&mut self, wanted: &ServiceAdd, ids: &Arc<TargetIds>) -> Result<(), Vec<ModelError>> {
        let service = self.checked(wanted, ids)?;
        self.count_backends(&service);
        self.put(service);
        Ok(())
    }

    /// Adds services, whose tables are built by so many threads. On an error, some have been added.
    pub fn add_services(
        &mut self,
        wanted: &[ServiceAdd],
        ids: &Arc<TargetIds>,
        threads: usize,
    ) -> Result<(), Vec<ModelError>> {
        let mut added = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let service = self.checked(wanted, ids)?;
            self.count_backends(&service);
            let service = Arc::new(service);
            self.services.insert(service.id, service.clone());
            added.push(service);
        }
        let model = &*self;
        let share = added.len().div_ceil(threads.max(1)).max(1);
        let build = |services: &[Arc<Service>]| -> Vec<Service> {
            services.iter().map(|service| model.finished(Service::clone(service), None)).collect()
        };
        let built: Vec<Service> = std::thread::scope(|scope| {
            let builders: Vec<_> = added.chunks(share).map(|services| scope.spawn(move || build(services))).collect();
            let join = |builder: std::thread::ScopedJoinHandle<'_, Vec<Service>>| {
                builder.join().expect("building a table does not panic")
            };
            builders.into_iter().flat_map(join).collect()
        });
        self.services.extend(built.into_iter().map(|service| (service.id, Arc::new(service))));
        Ok(())
    }

    fn count_backends(&mut self, service: &Service) {
        service.backends.iter().for_each(|backend| self.count_backend(backend.address, true));
    }

    /// A service as wanted, without its table.
    fn checked(&self, wanted: &ServiceAdd, ids: &Arc<TargetIds>) -> Result<Service, Vec<ModelError>> {
        let id = wanted.service;
        if self.services.contains_key(&id) {
            return Err(vec![ModelError::DuplicateService(id)]);
        }
        if self.services.len() >= MAX_SERVICES {
            return Err(vec![ModelError::TooManyServices]);
        }
        let mut errors: Vec<ModelError> = self.check_vip(id).err().into_iter().collect();
        let hash = flow_hash(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let counter = ids.take_service().ok_or_else(|| vec![ModelError::TooManyServices])?.into();
        let tracking = tracking(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let idle_ms = idle_timeout(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let decides_by_flow = wanted.scheduler.decides_by_flow();
        let mut service = Service {
            id,
            scheduler: wanted.scheduler,
            hash,
            tracking,
            idle_ms,
            on_all_down: wanted.on_all_down,
            backends: Vec::new(),
            table: self.nobody.clone(),
            handover: None,
            outage: None,
            deadline: None,
            forced: false,
            schedule: Schedule::Slot,
            cursors: (0..if decides_by_flow { ids.workers() } else { 0 }).map(|_| Cursor::default()).collect(),
            counter,
        };
        for (index, backend) in wanted.backends.iter().enumerate() {
            if let Err(error) = self.insert_backend(&mut service, backend, ids) {
                errors.push(ModelError::InList { index, error: Box::new(error) });
            }
        }
        if errors.is_empty() { Ok(service) } else { Err(errors) }
    }

    /// Removes a service with its backends.
    pub fn remove_service(&mut self, id: &ServiceId) -> Result<(), ModelError> {
        let service = self.services.remove(id).ok_or(ModelError::NoSuchService(*id))?;
        service.backends.iter().for_each(|backend| self.count_backend(backend.address, false));
        Ok(())
    }

    /// Adds a backend to a service.
    pub fn add_backend(
        &mut self,
        id: &ServiceId,
        wanted: &BackendSpec,
        ids: &Arc<TargetIds>,
    ) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let place = self.insert_backend(&mut service, wanted, ids)?;
        // To a service that has nobody else, there is nothing to lose.
        service.backends[place].joined = wanted.mac.is_some() || service.backends.len() == 1;
        self.count_backend(wanted.address, true);
        self.put(service);
        Ok(())
    }

    /// Changes a backend's weight or MAC address.
    pub fn edit_backend(&mut self, edit: &BackendEdit) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(&edit.service)?);
        let place = service.place(edit.address)?;
        let backend = &mut service.backends[place];
        if edit.weight.is_none() && edit.mac.is_none() {
            return Err(ModelError::NothingToChange);
        }
        if let Some(weight) = edit.weight {
            backend.weight = checked_weight(weight)?;
        }
        match edit.mac {
            Some(MacChange::Pin(mac)) => {
                backend.pinned = Some(checked_mac(mac)?);
                (backend.joined, backend.down) = (true, false);
            }
            Some(MacChange::Resolve) => backend.pinned = None,
            None => {}
        }
        self.put(service);
        Ok(())
    }

    /// Removes a backend from a service.
    pub fn remove_backend(&mut self, id: &ServiceId, address: IpAddr) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let place = service.place(address)?;
        service.backends.remove(place);
        self.count_backend(address, false);
        self.put(service);
        Ok(())
    }

    /// Has a backend take no new flows. Its old ones stay until they end, or for so long.
    pub fn drain_backend(
        &mut self,
        id: &ServiceId,
        address: IpAddr,
        deadline_ms: Option<u64>,
    ) -> Result<(), ModelError> {
        let until_ms = deadline_ms.map(|deadline| self.now_ms.saturating_add(deadline));
        let duty = if deadline_ms == Some(0) { Duty::Drained } else { Duty::Drain { until_ms } };
        self.set_duty(id, address, duty)
    }

    /// Has a backend that was drained take new flows again.
    pub fn enable_backend(&mut self, id: &ServiceId, address: IpAddr) -> Result<(), ModelError> {
        self.set_duty(id, address, Duty::Serve)
    }

    fn set_duty(&mut self, id: &ServiceId, address: IpAddr, duty: Duty) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let place = service.place(address)?;
        service.backends[place].duty = duty;
        self.put(service);
        Ok(())
    }

    /// Has nothing go to those of a service's backends that have failed, from now on: a matter of microseconds. The table
    /// stays, and others stand in; the service needs to be [renewed](Self::renew). Who is up again is left to that, too, unless
    /// there is nobody else.
    pub fn mark_down(&mut self, id: &ServiceId, down: &HashSet<IpAddr>) {
        let concerned =
            |service: &&Arc<Service>| service.fails(down) || service.is_deserted() && service.recovers(down);
        let Some(old) = self.services.get(id).filter(concerned) else { return };
        let mut service = Service::clone(old);
        for backend in &mut service.backends {
            backend.down |= backend.is_among(down);
        }
        if service.is_deserted() {
            for backend in &mut service.backends {
                backend.down = backend.is_among(down);
            }
        }
        // Where all serve because all are down, that is not for others to stand in.
        if old.forced || service.is_forced() {
            return;
        }
        let candidates = service.candidates();
        if let Schedule::Fewest { .. } = service.schedule {
            service.schedule = schedule(service.scheduler, &candidates);
        }
        let standing = service.backends.iter().zip(&candidates);
        let standing = standing.map(|(backend, candidate)| (service.serves(backend), candidate.weight > 0));
        service.outage = Some(Arc::new(Outage::new(standing)));
        self.services.insert(*id, Arc::new(service));
    }

    /// Has a service be as the network says: who is down and who is up, who takes part because its MAC address is known; and
    /// ends the hand-overs and drains whose deadlines have passed.
    pub fn renew(&mut self, id: &ServiceId, network: &Reachability<'_>) {
        let Some(old) = self.services.get(id).filter(|service| service.is_behind(network, self.now_ms)) else { return };
        let mut service = Service::clone(old);
        for backend in &mut service.backends {
            backend.down = backend.is_among(network.down);
            backend.joined |= (network.resolved)(backend.address);
            if matches!(backend.duty, Duty::Drain { until_ms: Some(until) } if until <= self.now_ms) {
                backend.duty = Duty::Drained;
            }
        }
        self.put(service);
    }

    /// All services as the network says.
    pub fn renew_all(&mut self, network: &Reachability<'_>) {
        for id in self.services.keys().copied().collect::<Vec<_>>() {
            self.renew(&id, network);
        }
    }

    /// The services that are not the same in another model: changed, added or removed.
    pub fn differences<'a>(&'a self, other: &'a Model) -> impl Iterator<Item = ServiceId> + 'a {
        let (mut these, mut others) = (self.services.iter().peekable(), other.services.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let order = match (these.peek(), others.peek()) {
                    (Some((this, _)), Some((other, _))) => this.cmp(other),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => return None,
                };
                let (this, other) = match order {
                    Ordering::Less => (these.next(), None),
                    Ordering::Greater => (None, others.next()),
                    Ordering::Equal => (these.next(), others.next()),
                };
                match (this, other) {
                    (Some((_, this)), Some((_, other))) if Arc::ptr_eq(this, other) => {}
                    (this, other) => return this.or(other).map(|(id, _)| *id),
                }
            }
        })
    }

    /// Takes a service over from another model, as it is there, or is not.
    pub fn take_service(&mut self, id: &ServiceId, from: &Model) {
        let new = from.services.get(id).cloned();
        let old = match new.clone() {
            Some(service) => self.services.insert(*id, service),
            None => self.services.remove(id),
        };
        let addresses = |service: &Option<Arc<Service>>| -> Vec<IpAddr> {
            service.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect()
        };
        let (new, old) = (addresses(&new), addresses(&old));
        if new != old {
            new.into_iter().for_each(|address| self.count_backend(address, true));
            old.into_iter().for_each(|address| self.count_backend(address, false));
        }
    }

    /// Lets go of tables that no service has any more; to be called now and then.
    pub fn forget_tables(&self) {
        self.tables.forget();
    }

    /// The table of a service where nobody takes new flows.
    pub(crate) fn nobody(&self) -> &Arc<[u16]> {
        &self.nobody
    }

    /// The services of which a hand-over or a drain's deadline has passed.
    pub fn due(&self, now_ms: u64) -> impl Iterator<Item = &ServiceId> {
        let due = move |service: &Service| service.deadline.is_some_and(|deadline| deadline <= now_ms);
        self.services.iter().filter(move |(_, service)| due(service)).map(|(id, _)| id)
    }

    /// The services that have one of these backends.
    pub fn with_backends(&self, addresses: &HashSet<IpAddr>) -> impl Iterator<Item = &ServiceId> {
        let has = |service: &Service| addresses.iter().any(|&address| service.place(address).is_ok());
        let have = move |(_, service): &(&ServiceId, &Arc<Service>)| {
            if addresses.len() < FEW_ADDRESSES {
                has(service)
            } else {
                service.backends.iter().any(|backend| addresses.contains(&backend.address))
            }
        };
        self.services.iter().filter(have).map(|(id, _)| id)
    }

    /// The network that an address lies in, the most specific one.
    pub fn network_towards(&self, address: IpAddr) -> Option<usize> {
        let prefixes =
            self.networks.iter().enumerate().flat_map(|(place, n)| n.addresses.iter().map(move |net| (place, net)));
        prefixes
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|&(place, net)| (net.prefix_len(), std::cmp::Reverse(place)))
            .map(|(place, _)| place)
    }

    /// Whether an address is one of the director's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.addresses.iter().any(|net| net.addr() == address))
    }

    /// Whether a service has this VIP.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.services_of(address).next().is_some()
    }

    /// The services that have this VIP.
    fn services_of(&self, vip: IpAddr) -> impl Iterator<Item = (&ServiceId, &Arc<Service>)> {
        let first = ServiceId { vip, port: Ports::NONE, protocol: Protocol::Tcp };
        self.services.range(first..).take_while(move |(id, _)| id.vip == vip)
    }

    /// How often each backend address is used, over all services.
    pub fn backend_addresses(&self) -> BTreeMap<IpAddr, usize> {
        let mut addresses = BTreeMap::new();
        for backend in self.services.values().flat_map(|service| &service.backends) {
            *addresses.entry(backend.address).or_default() += 1;
        }
        addresses
    }

    /// Puts a new or changed service in its place, with its table and what it hands over.
    fn put(&mut self, service: Service) {
        let old = self.services.get(&service.id);
        let service = self.finished(service, old);
        self.services.insert(service.id, Arc::new(service));
    }

    /// A new or changed service with its table and what it hands over.
    fn finished(&self, mut service: Service, old: Option<&Arc<Service>>) -> Service {
        service.forced = service.is_forced();
        service.outage = None;
        let candidates = service.candidates();
        let same = |old: &&Arc<Service>| old.outage.is_none() && old.candidates() == candidates;
        (service.table, service.schedule) = match old.filter(same) {
            Some(old) => (old.table.clone(), old.schedule.clone()),
            None => (self.table(&candidates), schedule(service.scheduler, &candidates)),
        };
        service.handover = old.and_then(|old| hand_over(old, &service, self.now_ms)).map(Arc::new);
        service.deadline = service.next_deadline();
        if old.is_none_or(|old| !Arc::ptr_eq(&old.table, &service.table)) {
            let slots = maglev::slot_counts(&service.table, service.backends.len());
            for (backend, slots) in service.backends.iter_mut().zip(slots) {
                backend.slots = slots;
            }
        }
        service
    }

    fn table(&self, candidates: &[Candidate]) -> Arc<[u16]> {
        if candidates.iter().all(|candidate| candidate.weight == 0) {
            return self.nobody.clone();
        }
        self.tables.find_or(candidates, || maglev::build(&self.hash_key, self.table_size, candidates).into())
    }

    /// One service more (or less) has this backend.
    fn count_backend(&mut self, address: IpAddr, more: bool) {
        let uses = Arc::make_mut(&mut self.backend_uses[part_of_uses(address)]);
        let count = uses.entry(address).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        if *count == 0 {
            uses.remove(&address);
        }
    }

    fn insert_backend(
        &self,
        service: &mut Service,
        wanted: &BackendSpec,
        ids: &Arc<TargetIds>,
    ) -> Result<usize, ModelError> {
        let address = wanted.address;
        self.check_backend_address(service.id, address)?;
        if let Some(port) = wanted.port.filter(|&port| service.id.port.single() != Some(port)) {
            return Err(ModelError::BackendPort { backend: port, service: service.id.port });
        }
        let place = match service.place(address) {
            Ok(_) => return Err(ModelError::DuplicateBackend { service: service.id, address }),
            Err(_) => service.backends.partition_point(|backend| backend.address < address),
        };
        if service.backends.len() >= maglev::MAX_BACKENDS {
            return Err(ModelError::TooManyBackends(service.id));
        }
        let backend = Backend {
            address,
            weight: checked_weight(wanted.weight)?,
            pinned: wanted.mac.map(checked_mac).transpose()?,
            network: self.network_towards(address).ok_or_else(|| self.off_link(address))?,
            target: Arc::new(ids.take().ok_or(ModelError::TooManyTargets)?),
            slots: 0,
            joined: true,
            duty: Duty::Serve,
            down: false,
        };
        service.backends.insert(place, backend);
        Ok(place)
    }

    fn check_vip(&self, id: ServiceId) -> Result<(), ModelError> {
        check_unicast(id.vip)?;
        self.check_no_edge(id.vip)?;
        let others = self.services_of(id.vip).filter(|(other, _)| other.protocol == id.protocol);
        if let Some((other, _)) = others.into_iter().find(|(other, _)| other.port.conflicts(&id.port)) {
            return Err(ModelError::PortsOverlap { service: Box::new(id), other: Box::new(*other) });
        }
        if self.is_own(id.vip) {
            return Err(ModelError::VipIsOwn(id.vip));
        }
        if self.backend_uses[part_of_uses(id.vip)].contains_key(&id.vip) {
            return Err(ModelError::VipIsBackend(id.vip));
        }
        Ok(())
    }

    fn check_backend_address(&self, service: ServiceId, address: IpAddr) -> Result<(), ModelError> {
        check_unicast(address)?;
        if address.is_ipv4() != service.vip.is_ipv4() {
            return Err(ModelError::Family { vip: service.vip, backend: address });
        }
        if self.is_own(address) {
            return Err(ModelError::BackendIsOwn(address));
        }
        if address == service.vip || self.is_vip(address) {
            return Err(ModelError::BackendIsVip(address));
        }
        self.check_no_edge(address)
    }

    /// The first and the last address of an IPv4 network are its own and its broadcast address.
    fn check_no_edge(&self, address: IpAddr) -> Result<(), ModelError> {
        let edge = |net: &IpNet| {
            net.addr().is_ipv4() && net.prefix_len() < 31 && (net.network() == address || net.broadcast() == address)
        };
        let is_edge = self.networks.iter().flat_map(|network| &network.addresses).any(edge);
        if is_edge { Err(ModelError::NotUnicast(address)) } else { Ok(()) }
    }

    fn off_link(&self, address: IpAddr) -> ModelError {
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == address.is_ipv4();
        let networks = self.networks.iter().flat_map(|network| {
            network.addresses.iter().filter(same_family).map(|net| format!("{} ({})", net.trunc(), network.name()))
        });
        ModelError::OffLink { address, networks: networks.collect() }
    }
}

impl Backend {
    /// Whether it is one of those that do not answer. One whose MAC address is given need not.
    fn is_among(&self, down: &HashSet<IpAddr>) -> bool {
        self.pinned.is_none() && down.contains(&self.address)
    }

    /// Whether the operator wants it to have new flows.
    fn is_wanted(&self) -> bool {
        self.joined && self.weight > 0 && self.duty == Duty::Serve
    }
}

impl Service {
    fn is_forced(&self) -> bool {
        let mut wanted = self.backends.iter().filter(|backend| backend.is_wanted()).peekable();
        self.on_all_down == OnAllDown::All && wanted.peek().is_some() && wanted.all(|backend| backend.down)
    }

    /// Whether a backend may have packets of its old flows.
    pub fn serves(&self, backend: &Backend) -> bool {
        backend.duty != Duty::Drained && (!backend.down || self.forced)
    }

    /// Who takes new flows, by which weight.
    fn candidates(&self) -> Vec<Candidate> {
        let weight = |backend: &Backend| if backend.is_wanted() && self.serves(backend) { backend.weight } else { 0 };
        self.backends.iter().map(|backend| Candidate { address: backend.address, weight: weight(backend) }).collect()
    }

    /// The backends that take part when their MAC addresses are known.
    pub fn waiting(&self) -> impl Iterator<Item = IpAddr> {
        self.backends.iter().filter(|backend| !backend.joined).map(|backend| backend.address)
    }

    /// Whether some of its backends have just failed.
    pub fn fails(&self, down: &HashSet<IpAddr>) -> bool {
        let fails = |backend: &Backend| !backend.down && backend.is_among(down);
        if down.len() < FEW_ADDRESSES {
            return down.iter().any(|&address| self.place(address).is_ok_and(|place| fails(&self.backends[place])));
        }
        self.backends.iter().any(fails)
    }

    /// Whether all who would take new flows are down.
    fn is_deserted(&self) -> bool {
        !self.backends.iter().any(|backend| backend.is_wanted() && !backend.down)
    }

    /// Whether some of its backends are up again.
    fn recovers(&self, down: &HashSet<IpAddr>) -> bool {
        self.backends.iter().any(|backend| backend.down && !backend.is_among(down))
    }

    /// Whether it is not as the network says, or a deadline has passed.
    pub fn is_behind(&self, network: &Reachability<'_>, now_ms: u64) -> bool {
        let is_behind = |backend: &Backend| {
            backend.down != backend.is_among(network.down) || !backend.joined && (network.resolved)(backend.address)
        };
        self.outage.is_some()
            || self.deadline.is_some_and(|deadline| deadline <= now_ms)
            || self.backends.iter().any(is_behind)
    }

    fn next_deadline(&self) -> Option<u64> {
        let drains = self.backends.iter().filter_map(|backend| match backend.duty {
            Duty::Drain { until_ms } => until_ms,
            Duty::Serve | Duty::Drained => None,
        });
        drains.chain(self.handover.as_ref().map(|handover| handover.next_deadline())).min()
    }

    /// Where a backend stands in `backends`.
    pub fn place(&self, address: IpAddr) -> Result<usize, ModelError> {
        self.backends
            .binary_search_by_key(&address, |backend| backend.address)
            .map_err(|_| ModelError::NoSuchBackend { service: self.id, address })
    }
}

/// What a changed service hands over: slots that have moved away from backends that serve.
fn hand_over(old: &Service, new: &Service, now_ms: u64) -> Option<HandOver> {
    if old.handover.is_none() && old.outage.is_none() && Arc::ptr_eq(&old.table, &new.table) {
        return None;
    }
    // By its counters' place: one that was removed and came back is somebody new. So is one that was down: its flows are gone.
    let number = |backend: &Backend| {
        let same = |now: &usize| Arc::ptr_eq(&new.backends[*now].target, &backend.target) && old.serves(backend);
        let serving = new.place(backend.address).ok().filter(same).filter(|&now| new.serves(&new.backends[now]));
        serving.map_or(NOBODY, |now| u16::try_from(now).expect("bounded by MAX_BACKENDS"))
    };
    let numbers: Vec<u16> = old.backends.iter().map(number).collect();
    let stood_in: Option<Vec<u16>> = old.outage.as_ref().map(|outage| {
        // Most slots' owners have not failed.
        let owner =
            |(slot, &named): (usize, &u16)| if outage.takes(named) { named } else { outage.now(&old.table, slot) };
        old.table.iter().enumerate().map(owner).collect()
    });
    let slots = Slots { now: stood_in.as_deref().unwrap_or(&old.table), handover: old.handover.as_deref() };
    // A little longer than a flow may be silent: one that was heard of at the moment of the change has the whole of its time.
    let until_ms = now_ms + new.idle_ms + HAND_OVER_SLACK_MS;
    HandOver::begin(slots, &new.table, |backend| numbers[usize::from(backend)], now_ms, until_ms)
}

fn part_of_uses(address: IpAddr) -> usize {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    usize::from(last)
}

fn schedule(scheduler: Scheduler, candidates: &[Candidate]) -> Schedule {
    let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
    match scheduler {
        Scheduler::Maglev | Scheduler::Sh => Schedule::Slot,
        Scheduler::Wrr => Schedule::weighted_round_robin(&weights),
        Scheduler::Rr => Schedule::round_robin(&weights),
        Scheduler::Wlc => Schedule::Fewest { weights: weights.into(), weighted: true },
        Scheduler::Lc => Schedule::Fewest { weights: weights.into(), weighted: false },
    }
}

/// Which flows are remembered: where the scheduler decides flow by flow, all.
fn tracking(wanted: &ServiceAdd) -> Result<Tracking, ModelError> {
    match wanted.tracking {
        Some(Tracking::Exceptions) if wanted.scheduler.decides_by_flow() => {
            Err(ModelError::MustTrack(wanted.scheduler))
        }
        Some(tracking) => Ok(tracking),
        None if wanted.scheduler.decides_by_flow() => Ok(Tracking::All),
        None => Ok(Tracking::Exceptions),
    }
}

/// In ms; by default as LVS has it.
fn idle_timeout(wanted: &ServiceAdd) -> Result<u64, ModelError> {
    let default = if wanted.service.protocol == Protocol::Udp { 300 } else { 900 };
    let seconds = wanted.idle_timeout_s.unwrap_or(default);
    let milliseconds = u64::from(seconds) * 1_000;
    if (1..=MAX_IDLE_MS).contains(&milliseconds) { Ok(milliseconds) } else { Err(ModelError::IdleTimeout(seconds)) }
}

/// What decides: what is asked for, if it goes together with scheduler and VIP, else what the scheduler stands for.
fn flow_hash(wanted: &ServiceAdd) -> Result<FlowHash, ModelError> {
    let bits = if wanted.service.vip.is_ipv4() { 32 } else { 128 };
    match (wanted.scheduler, wanted.hash) {
        (Scheduler::Sh, None) => Ok(FlowHash::Source { prefix: None }),
        (Scheduler::Sh, Some(FlowHash::FiveTuple)) => Err(ModelError::HashOfSh),
        (_, Some(FlowHash::Source { prefix: Some(prefix) })) if prefix > bits => {
            Err(ModelError::HashPrefix { prefix, bits })
        }
        (scheduler, Some(FlowHash::Source { .. })) if scheduler.decides_by_flow() => {
            Err(ModelError::HashWithout(scheduler))
        }
        (_, hash) => Ok(hash.unwrap_or_default()),
    }
}

fn checked_weight(weight: u32) -> Result<u32, ModelError> {
    if weight <= MAX_WEIGHT { Ok(weight) } else { Err(ModelError::Weight(weight)) }
}

fn checked_mac(mac: Mac) -> Result<Mac, ModelError> {
    if mac.is_unicast() { Ok(mac) } else { Err(ModelError::MacNotUnicast(mac)) }
}

/// An address that one host may have, as seen by other hosts.
pub fn check_unicast(address: IpAddr) -> Result<(), ModelError> {
    let broadcast = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let mapped = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast(address) {
        return Err(ModelError::NotUnicast(address));
    }
    if mapped(address) {
        return Err(ModelError::Mapped(address));
    }
    if link_local(address) {
        return Err(ModelError::LinkLocal(address));
    }
    Ok(())
}

/// The link-local address that a MAC address makes (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{backend, ids, model, network, service};

    #[test]
    fn backends_stand_in_the_order_of_their_addresses() {
        let (mut one, mut other) = (model(), model());
        one.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 3)]), &ids()).unwrap();
        other.add_service(&service("192.168.0.101:80", &[("192.168.0.4", 3)]), &ids()).unwrap();
        let id = service("192.168.0.101:80", &[]).service;
        other.add_backend(&id, &backend("192.168.0.3", 1), &ids()).unwrap();
        other.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| true });
        assert_eq!(one.services[&id].table, other.services[&id].table);
    }

    #[test]
    fn an_edit_that_leaves_weights_alone_keeps_the_table() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &ids()).unwrap();
        let id = service("192.168.0.101:80", &[]).service;
        let before = model.services[&id].table.clone();
        let mac = Some(MacChange::Pin("02:00:00:00:00:03".parse().unwrap()));
        let address = "192.168.0.3".parse().unwrap();
        model.edit_backend(&BackendEdit { service: id, address, weight: None, mac }).unwrap();
        assert!(Arc::ptr_eq(&model.services[&id].table, &before));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let add = |vip: &str, backends: &[(&str, u32)]| {
            let mut model = model();
            let error = model.add_service(&service(vip, backends), &ids()).unwrap_err();
            assert!(model.services.is_empty());
            error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
        };
        for (vip, backends, says) in [
            ("192.168.0.2:80", &[][..], "own address"),
            ("224.0.0.1:80", &[], "not an address that a single host"),
            ("[::ffff:192.0.2.1]:80", &[], "IPv4"),
            ("[fe80::1]:80", &[], "link-local"),
            ("192.168.0.101:80", &[("10.9.9.9", 1)], "192.168.0.0/24 (lan0)"),
            ("192.168.0.101:80", &[("192.168.0.3", 65_536)], "65535"),
            ("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.3", 2)], "already"),
            ("192.168.0.101:80", &[("fd00::3", 1)], "family"),
            ("192.168.0.101:80", &[("192.168.0.101", 1)], "is a VIP"),
            ("192.168.0.101:80", &[("192.168.0.2", 1)], "own address"),
            ("192.168.0.101:80", &[("192.168.0.255", 1)], "not an address that a single host"),
        ] {
            assert!(add(vip, backends).contains(says), "{vip} {backends:?}: {}", add(vip, backends));
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = service("192.168.0.2:80", &[("10.9.9.9", 1), ("192.168.0.3", 1), ("192.168.0.4", 99_999)]);
        assert_eq!(model().add_service(&wrong, &ids()).unwrap_err().len(), 3);
    }

    #[test]
    fn a_backends_port_is_the_services() {
        let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
        wanted.backends[0].port = Some(8080);
        let errors = model().add_service(&wanted, &ids()).unwrap_err();
        assert!(errors[0].to_string().contains("8080"), "{errors:?}");
        wanted.backends[0].port = Some(80);
        assert!(model().add_service(&wanted, &ids()).is_ok());
    }

    #[test]
    fn services_of_one_vip_may_overlap_where_one_is_more_specific() {
        let mut model = model();
        let mut add = |vip| model.add_service(&service(vip, &[]), &ids());
        for vip in ["192.168.0.101:80", "192.168.0.101:any", "192.168.0.101:1-100", "192.168.0.102:80"] {
            assert_eq!(add(vip), Ok(()), "{vip}");
        }
        for vip in ["192.168.0.101:80,443", "192.168.0.101:50-149", "192.168.0.101:79,80"] {
            let errors = add(vip);
            let overlaps = errors.as_ref().is_err_and(|errors| errors[0].to_string().contains("overlap"));
            assert_eq!(overlaps, vip != "192.168.0.101:79,80", "{vip}: {errors:?}");
        }
    }

    #[test]
    fn a_vip_is_found_whatever_its_ports() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:443", &[]), &ids()).unwrap();
        assert!(model.is_vip("192.168.0.101".parse().unwrap()));
        assert!(!model.is_vip("192.168.0.100".parse().unwrap()));
        assert!(!model.is_vip("192.168.0.102".parse().unwrap()));
    }

    #[test]
    fn the_most_specific_network_wins() {
        let networks = vec![
            network("wide", 0, "", &["10.0.0.1/8"]),
            network("narrow", 1, "", &["10.1.0.1/16"]),
            network("narrow", 1, "7", &["10.1.7.1/24"]),
        ];
        let model = Model::new([0; 16], 31, networks);
        for (address, place) in
            [("10.1.0.9", Some(1)), ("10.1.7.9", Some(2)), ("10.2.0.9", Some(0)), ("11.0.0.1", None)]
        {
            assert_eq!(model.network_towards(address.parse().unwrap()), place, "{address}");
        }
    }

    #[test]
    fn link_local_addresses_come_from_the_mac() {
        assert_eq!(link_local("52:54:00:12:34:56".parse().unwrap()).to_string(), "fe80::5054:ff:fe12:3456");
    }
}
