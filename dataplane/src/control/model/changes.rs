//! The model, and the changes that an operator makes to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::ServiceId;
use ctl::request::{BackendEdit, BackendSpec, MacChange, ServiceAdd};

use crate::base::ids::BackendNo;
use crate::base::limits::{MAX_BACKENDS, MAX_PROBES_PER_S, MAX_SERVICES};
use crate::control::model::backend::{Backend, Duty};
use crate::control::model::checks::{
    checked_mac, checked_min_up, checked_passive, checked_slow_start, checked_weight, flow_hash, handover_time,
    idle_timeout, tracking,
};
use crate::control::model::contact::Contact;
use crate::control::model::error::ModelError;
use crate::control::model::health;
use crate::control::model::network::Network;
use crate::control::model::service::{Service, hand_over, schedule};
use crate::control::model::tables::Tables;
use crate::count::lease::Leases;
use crate::select::maglev::{self, Candidate};
use crate::select::schedule::{Cursor, Schedule};
use crate::state::backends::BackendUses;

/// Everything that forwarding depends on, except the MAC addresses, which the network tells.
#[derive(Debug, Clone)]
pub struct Model {
    /// The key of the flow hash and of the Maglev tables. All directors of the same VIPs have the same key.
    pub hash_key: [u8; 16],
    /// The number of slots of a Maglev table, a prime.
    pub table_size: u32,
    /// The networks, in the order of the configuration.
    pub networks: Arc<[Network]>,
    /// The services by VIP, port and protocol.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
    /// The time of the current change, in ms on any clock that does not go back.
    pub now_ms: u64,
    /// The table of a service in which no backend takes new flows.
    pub(super) no_backends: Arc<[BackendNo]>,
    /// How many services have each backend.
    pub(crate) backend_uses: BackendUses,
    /// The Maglev tables in use. Services with the same backends and weights share a table.
    pub(super) tables: Arc<Tables>,
}

impl Model {
    /// A model without services.
    pub fn new(hash_key: [u8; 16], table_size: u32, networks: Vec<Network>) -> Self {
        let no_backends = vec![BackendNo::NONE; table_size as usize].into();
        Model {
            hash_key,
            table_size,
            networks: networks.into(),
            services: BTreeMap::new(),
            now_ms: 0,
            no_backends,
            backend_uses: BackendUses::default(),
            tables: Arc::default(),
        }
    }

    /// The service of this name.
    pub fn service(&self, id: &ServiceId) -> Result<&Arc<Service>, ModelError> {
        self.services.get(id).ok_or(ModelError::NoSuchService(*id))
    }

    /// Adds a service. If the request is wrong, returns all its errors at once, and leaves the model as it was.
    pub fn add_service(&mut self, wanted: &ServiceAdd, leases: &Arc<Leases>) -> Result<(), Vec<ModelError>> {
        let service = self.checked(wanted, leases)?;
        self.check_probes(Some(&service)).map_err(|error| vec![error])?;
        self.count_backends(&service);
        self.put(service);
        Ok(())
    }

    /// Adds services. `threads` threads build their tables. On an error, some of the services have been added.
    pub fn add_services(
        &mut self,
        wanted: &[ServiceAdd],
        leases: &Arc<Leases>,
        threads: usize,
    ) -> Result<(), Vec<ModelError>> {
        let mut added = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let service = self.checked(wanted, leases)?;
            self.count_backends(&service);
            let service = Arc::new(service);
            self.services.insert(service.id, service.clone());
            added.push(service);
        }
        self.check_probes(None).map_err(|error| vec![error])?;
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

    /// Whether the checks of all services ask for no more probes than the director can make. `changed` is a service as it is to
    /// be.
    pub(super) fn check_probes(&self, changed: Option<&Service>) -> Result<(), ModelError> {
        let of = |service: &Service| health::probes_per_1000_s(&service.checks, service.backends.len());
        let others = self.services.values().filter(|service| changed.is_none_or(|changed| changed.id != service.id));
        let all = (others.map(|service| of(service)).sum::<u64>() + changed.map_or(0, of)).div_ceil(1_000);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        if all <= MAX_PROBES_PER_S { Ok(()) } else { Err(ModelError::TooManyProbes(all)) }
    }

    fn count_backends(&mut self, service: &Service) {
        service.backends.iter().for_each(|backend| self.backend_uses.count(backend.address, true));
    }

    /// The service that a request asks for, checked, and still without its table.
    fn checked(&self, wanted: &ServiceAdd, leases: &Arc<Leases>) -> Result<Service, Vec<ModelError>> {
        let id = wanted.service;
        if self.services.contains_key(&id) {
            return Err(vec![ModelError::DuplicateService(id)]);
        }
        if self.services.len() >= MAX_SERVICES {
            return Err(vec![ModelError::TooManyServices]);
        }
        let mut errors: Vec<ModelError> = self.check_vip(id).err().into_iter().collect();
        let hash = flow_hash(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let counter = leases.take_service().ok_or_else(|| vec![ModelError::TooManyServices])?.into();
        let tracking = tracking(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let idle_ms = idle_timeout(wanted).inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let handover = handover_time(wanted, idle_ms);
        let handover_ms = handover.inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let checks = health::all_checked(wanted).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            Vec::new()
        });
        let min_up = checked_min_up(wanted.min_up.unwrap_or_default());
        let min_up = min_up.inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let slow_start = checked_slow_start(wanted.slow_start_s, wanted.scheduler);
        let slow_start_ms = slow_start.inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let passive = checked_passive(wanted.passive.unwrap_or_default(), id.protocol);
        let passive = passive.inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
        let decides_by_flow = wanted.scheduler.decides_by_flow();
        let mut service = Service {
            id,
            scheduler: wanted.scheduler,
            hash,
            tracking,
            idle_ms,
            handover_ms,
            since_ms: self.now_ms,
            knows_all: false,
            on_all_down: wanted.on_all_down,
            checks: checks.into(),
            min_up,
            start: wanted.start,
            slow_start_ms,
            passive,
            backends: Vec::new(),
            table: self.no_backends.clone(),
            handover: None,
            outage: None,
            deadline: None,
            forced: false,
            schedule: Schedule::Slot,
            cursors: (0..if decides_by_flow { leases.workers() } else { 0 }).map(|_| Cursor::default()).collect(),
            counter,
        };
        for (index, backend) in wanted.backends.iter().enumerate() {
            if let Err(error) = self.insert_backend(&mut service, backend, leases) {
                errors.push(ModelError::InList { index, error: Box::new(error) });
            }
        }
        if let Some(address) = wanted.fallback {
            errors.extend(self.insert_fallback(&mut service, address, leases).err());
        }
        if errors.is_empty() { Ok(service) } else { Err(errors) }
    }

    /// Removes a service with its backends.
    pub fn remove_service(&mut self, id: &ServiceId) -> Result<(), ModelError> {
        let service = self.services.remove(id).ok_or(ModelError::NoSuchService(*id))?;
        service.backends.iter().for_each(|backend| self.backend_uses.count(backend.address, false));
        Ok(())
    }

    /// Adds a backend to a service.
    pub fn add_backend(
        &mut self,
        id: &ServiceId,
        wanted: &BackendSpec,
        leases: &Arc<Leases>,
    ) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let backend_no = self.insert_backend(&mut service, wanted, leases)?;
        // A service without other backends has no flows to lose.
        self.check_probes(Some(&service))?;
        service.backends[backend_no.index()].joined = wanted.mac.is_some() || service.backends.len() == 1;
        self.backend_uses.count(wanted.address, true);
        self.put(service);
        Ok(())
    }

    /// Changes a backend's weight or MAC address.
    pub fn edit_backend(&mut self, edit: &BackendEdit) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(&edit.service)?);
        let backend_no = service.number_of(edit.address)?;
        let backend = &mut service.backends[backend_no.index()];
        if edit.weight.is_none() && edit.mac.is_none() {
            return Err(ModelError::NothingToChange);
        }
        if let Some(weight) = edit.weight {
            backend.weight = checked_weight(weight)?;
        }
        match edit.mac {
            Some(MacChange::Pin(mac)) => {
                backend.pinned = Some(checked_mac(mac)?);
                (backend.joined, backend.contact) = (true, Contact::Up);
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
        let backend_no = service.number_of(address)?;
        service.backends.remove(backend_no.index());
        self.backend_uses.count(address, false);
        self.put(service);
        Ok(())
    }

    /// Drains a backend: it takes no new flows. Its old flows stay until they end, or until `deadline_ms` have passed.
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

    /// Disables a backend: it gets nothing, whatever its checks say, until it is enabled.
    pub fn disable_backend(&mut self, id: &ServiceId, address: IpAddr) -> Result<(), ModelError> {
        self.set_duty(id, address, Duty::Disabled)
    }

    /// Ends a backend's drain, or enables one that is disabled: it takes new flows again.
    pub fn enable_backend(&mut self, id: &ServiceId, address: IpAddr) -> Result<(), ModelError> {
        self.set_duty(id, address, Duty::Serve)
    }

    fn set_duty(&mut self, id: &ServiceId, address: IpAddr, duty: Duty) -> Result<(), ModelError> {
        let mut service = Service::clone(self.service(id)?);
        let backend_no = service.number_of(address)?;
        service.backends[backend_no.index()].duty = duty;
        self.put(service);
        Ok(())
    }

    /// Frees the tables that no service uses any more. To be called from time to time.
    pub fn forget_tables(&self) {
        self.tables.forget();
    }

    /// The table of a service in which no backend takes new flows.
    pub(crate) fn no_backends(&self) -> &Arc<[BackendNo]> {
        &self.no_backends
    }

    /// Puts a new or changed service into the model, with its table and its hand-over.
    pub(super) fn put(&mut self, service: Service) {
        let old = self.services.get(&service.id);
        let service = self.finished(service, old);
        self.services.insert(service.id, Arc::new(service));
    }

    /// A new or changed service with its table and its hand-over.
    fn finished(&self, mut service: Service, old: Option<&Arc<Service>>) -> Service {
        service.forced = service.is_forced();
        service.outage = None;
        service.rise(old, self.now_ms);
        service.knows_all = service.knows_all_flows(self.now_ms);
        let candidates = service.candidates();
        let same = |old: &&Arc<Service>| old.outage.is_none() && old.candidates() == candidates;
        let old_table = old.filter(same);
        service.table = old_table.map_or_else(|| self.table(&candidates), |old| old.table.clone());
        // A backend that was removed and added again has other counters, which the old schedule does not know.
        let same_leases = |(old, new): (&Backend, &Backend)| Arc::ptr_eq(&old.target, &new.target);
        let old_schedule = old_table.filter(|old| old.scheduler == service.scheduler);
        let old_schedule = old_schedule.filter(|old| old.backends.iter().zip(&service.backends).all(same_leases));
        service.schedule = old_schedule.map_or_else(|| schedule(&service, &candidates), |old| old.schedule.clone());
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

    fn table(&self, candidates: &[Candidate]) -> Arc<[BackendNo]> {
        if candidates.iter().all(|candidate| candidate.weight == 0) {
            return self.no_backends.clone();
        }
        self.tables.find_or(candidates, || maglev::build(&self.hash_key, self.table_size, candidates).into())
    }

    /// Adds the backend that serves only when no other takes new flows.
    pub(super) fn insert_fallback(
        &self,
        service: &mut Service,
        address: IpAddr,
        leases: &Arc<Leases>,
    ) -> Result<(), ModelError> {
        let number = self.insert_backend(service, &BackendSpec::new(address), leases);
        let number = number.map_err(|error| ModelError::Fallback(Box::new(error)))?;
        service.backends[number.index()].fallback = true;
        Ok(())
    }

    fn insert_backend(
        &self,
        service: &mut Service,
        wanted: &BackendSpec,
        leases: &Arc<Leases>,
    ) -> Result<BackendNo, ModelError> {
        let address = wanted.address;
        self.check_backend_address(service.id, address)?;
        if let Some(port) = wanted.port.filter(|&port| service.id.port.single() != Some(port)) {
            return Err(ModelError::BackendPort { backend: port, service: service.id.port });
        }
        let index = match service.number_of(address) {
            Ok(_) => return Err(ModelError::DuplicateBackend { service: service.id, address }),
            Err(_) => service.backends.partition_point(|backend| backend.address < address),
        };
        if service.backends.len() >= MAX_BACKENDS {
            return Err(ModelError::TooManyBackends(service.id));
        }
        let backend = Backend {
            address,
            weight: checked_weight(wanted.weight)?,
            pinned: wanted.mac.map(checked_mac).transpose()?,
            network: self.network_towards(address).ok_or_else(|| self.off_link(address))?,
            target: Arc::new(leases.take_target().ok_or(ModelError::TooManyTargets)?),
            slots: 0,
            joined: true,
            rise: None,
            fallback: false,
            duty: if wanted.disabled { Duty::Disabled } else { Duty::Serve },
            contact: Contact::Up,
        };
        service.backends.insert(index, backend);
        Ok(BackendNo::new(index))
    }
}
