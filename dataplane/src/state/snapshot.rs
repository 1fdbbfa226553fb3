//! The snapshot: the state by which workers forward. It is immutable, and is replaced as a whole.

use std::any::Any;
use std::sync::Arc;

use ctl::Mac;

use crate::base::ids::{BackendNo, CounterNo, NetworkNo, PortNo, ServiceCounterNo, WorkerNo};
use crate::base::limits::{MAX_SERVICES, MAX_TARGETS};
use crate::select::maglev;
use crate::select::schedule::{Cursor, Schedule};
use crate::state::backends::BackendUses;
use crate::state::networks::{LocalNetwork, PortLink, PortVlans};
use crate::state::outage::Outage;
use crate::state::vips::{LastService, VipMap};
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::flow::{Flow, FlowHasher};
use crate::wire::vlan::Tags;

/// The forwarding state.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of the snapshot. Each change makes a new one.
    pub generation: u64,
    /// The flow hash with its key.
    pub hasher: FlowHasher,
    /// The services by destination address, port and protocol, and all local addresses.
    pub vips: VipMap,
    /// The services, by the numbers that `vips` returns.
    pub services: Box<[ServiceEntry]>,
    /// The backends of all services. Those of one service are consecutive.
    pub targets: Box<[Target]>,
    /// By [`CounterNo`]: the backend that has these counters. Remembered flows name their backend by them.
    pub owners: Box<[Owner]>,
    /// The addresses of all backends.
    pub backends: BackendUses,
    /// The networks, for the slow path. Their order is that of the model.
    pub networks: Box<[LocalNetwork]>,
    /// By port: its MAC address, MTU and link.
    pub ports: Box<[PortLink]>,
    /// By port: its VLANs.
    pub vlans: Box<[PortVlans]>,
    /// Keeps the source of the snapshot, and with it the leases of its counters, as long as a worker may use it.
    pub source: Arc<dyn Any + Send + Sync>,
}

/// A service on the fast path. Its backends are numbered from 0; [`BackendNo::NONE`] is none of them. The fields that
/// each packet needs come first, so that they share one cache line.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct ServiceEntry {
    /// The Maglev table: by slot, the backend of a new flow. All are [`BackendNo::NONE`] if no backend takes new flows.
    pub table: Arc<[BackendNo]>,
    /// During a hand-over: by slot, the backend that had it before. In an outage there is one, too, so that the exception
    /// table is asked.
    pub had: Option<Arc<[BackendNo]>>,
    /// Which of the backends in `table` and `had` have failed, until there are new tables.
    pub outage: Option<Arc<Outage>>,
    /// The index of the service's first backend in [`Snapshot::targets`].
    pub first_target: usize,
    /// The counters of its dropped packets.
    pub counter: ServiceCounterNo,
    /// The number of leading bits of the client's address that decide the slot. `None`: the whole flow decides it.
    pub source_bits: Option<u8>,
    /// Whether all flows are remembered.
    pub tracks: bool,
    /// Whether more is needed than the hash of a flow's 5-tuple and the table, even if nothing is remembered.
    pub needs_more: bool,
    /// The rule that finds the backend of a new flow.
    pub schedule: Schedule,
    /// A cursor for each worker; empty if the schedule needs none.
    pub cursors: Arc<[Cursor]>,
    /// The number of backends.
    pub backends: usize,
    /// Whether an unknown flow of UDP is a new one: the scheduler decides flow by flow, or all flows are known.
    pub unknown_is_new: bool,
    /// By backend, whether it is away: it gets no unknown flows, but has its slots back without a hand-over when it returns.
    /// `None` if none in `had` is.
    pub away: Option<Arc<[bool]>>,
}

const _: () = assert!(std::mem::offset_of!(ServiceEntry, schedule) <= 64);

impl ServiceEntry {
    /// The slot of a flow; `hash` is the hash of its 5-tuple.
    #[inline(always)]
    pub fn slot(&self, flow: impl Into<Flow>, hash: u64, hasher: &FlowHasher) -> usize {
        let hash = self.source_bits.map_or(hash, |bits| hasher.hash(&flow.into().source_only(bits)));
        maglev::slot(hash, self.table.len())
    }

    /// The backend that has a slot now.
    #[inline]
    pub fn now(&self, slot: usize) -> BackendNo {
        match &self.outage {
            None => self.table.get(slot).copied().unwrap_or(BackendNo::NONE),
            Some(outage) => outage.now(&self.table, slot),
        }
    }

    /// The backend that gets the old flows of a slot, if it is not the slot's `now`.
    #[inline]
    pub fn before(&self, slot: usize) -> BackendNo {
        let had = self.had(slot);
        match &self.outage {
            None if self.is_away(had) => BackendNo::NONE,
            None => had,
            Some(outage) => outage.before(had, &self.table, slot),
        }
    }

    /// Whether the unknown flows of a slot belong to a backend that is away.
    pub fn is_awaited(&self, slot: usize) -> bool {
        let had = self.had(slot);
        match &self.outage {
            None => self.is_away(had),
            Some(outage) => outage.is_awaited(had, &self.table, slot),
        }
    }

    /// Whether the unknown flows of a slot belong to another backend than the slot's `now`, here or away. So all new flows
    /// of the slot are remembered.
    #[inline]
    pub fn has_owner(&self, slot: usize) -> bool {
        match &self.outage {
            None => self.had(slot) != BackendNo::NONE,
            Some(_) => self.before(slot) != BackendNo::NONE || self.is_awaited(slot),
        }
    }

    #[inline]
    fn had(&self, slot: usize) -> BackendNo {
        self.had.as_ref().and_then(|had| had.get(slot)).copied().unwrap_or(BackendNo::NONE)
    }

    fn is_away(&self, backend: BackendNo) -> bool {
        self.away.as_ref().and_then(|away| away.get(backend.index())).copied().unwrap_or(false)
    }

    /// Whether a backend may get a new flow. In an outage, a backend that has failed may not.
    pub fn takes(&self, backend: BackendNo) -> bool {
        self.outage.as_ref().is_none_or(|outage| outage.takes(backend))
    }

    /// Whether more than a slot's `now` may decide, so that the exception table must be asked.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.tracks || self.had.is_some()
    }
}

/// The backend that has the counters of a [`CounterNo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The index in [`Snapshot::targets`]. With [`Owner::OUT`], the backend gets no packets.
    pub target: u32,
    /// The index of the service in [`Snapshot::services`].
    pub service: u16,
    /// The service's idle timeout.
    pub idle_ticks: u16,
}

const _: () = assert!(size_of::<Owner>() == 8 && MAX_SERVICES <= 1 << u16::BITS);
const _: () = assert!((MAX_TARGETS as u64) < Owner::OUT as u64);

impl Owner {
    /// No backend, or one whose flows are gone.
    pub const NONE: Owner = Owner { target: u32::MAX, service: 0, idle_ticks: 0 };
    /// The bit of a backend that gets no packets now. Its flows are remembered until they idle out: it may be back sooner.
    pub const OUT: u32 = 1 << 31;
}

impl Snapshot {
    /// The network with this number.
    pub fn network(&self, number: NetworkNo) -> &LocalNetwork {
        &self.networks[number.index()]
    }

    /// All networks, with their numbers.
    pub fn numbered_networks(&self) -> impl Iterator<Item = (NetworkNo, &LocalNetwork)> {
        self.networks.iter().enumerate().map(|(index, network)| (NetworkNo::new(index), network))
    }

    /// The backend that has these counters, if its flows are not gone.
    #[inline]
    pub fn owner(&self, counter: CounterNo) -> Option<&Owner> {
        self.owners.get(counter.index()).filter(|owner| **owner != Owner::NONE)
    }

    /// Tells the schedule of a backend's service that a worker remembers more or fewer flows of that backend.
    #[inline]
    pub fn set_load(&self, counter: CounterNo, worker: WorkerNo, load: u64) {
        if let Some(&Owner { target, service, .. }) = self.owner(counter) {
            let service = &self.services[usize::from(service)];
            let target = target & !Owner::OUT;
            service.schedule.set_load(worker, (target as usize).wrapping_sub(service.first_target), load);
        }
    }

    /// The number of the backend that has these counters, if it is one of the service's and serves.
    #[inline]
    pub fn serving(&self, counter: CounterNo, service: &ServiceEntry) -> Option<BackendNo> {
        // For NONE, and for a backend that is out, the difference is larger than any number of backends.
        let number = (self.owners.get(counter.index())?.target as usize).wrapping_sub(service.first_target);
        if number < service.backends { BackendNo::try_new(number) } else { None }
    }

    /// Whether the backend that has these counters is one of the service's that gets no packets now, but whose flows are
    /// remembered.
    pub fn is_out(&self, counter: CounterNo, service: &ServiceEntry) -> bool {
        let out = self.owner(counter).filter(|owner| owner.target & Owner::OUT != 0);
        out.is_some_and(|owner| {
            ((owner.target & !Owner::OUT) as usize).wrapping_sub(service.first_target) < service.backends
        })
    }
}

/// A backend on the fast path: how a frame reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))] // never across two cache lines
pub struct Target {
    /// The new first 12 bytes of the frame: the backend's MAC address and that of the port it leaves by.
    pub macs: [u8; 12],
    /// The port it leaves by.
    pub port: PortNo,
    /// Whether the backend's MAC address is known.
    pub known: bool,
    /// Whether the port's link is up.
    pub up: bool,
    /// The backend's counters.
    pub counter: CounterNo,
    /// The service's counters, for frames that are dropped.
    pub service: ServiceCounterNo,
    /// The VLAN tags of the network that it is in.
    pub tags: Tags,
    /// The largest L3 packet that the port takes.
    pub mtu: u16,
    /// The greatest length on the wire of a frame without tags that needs new MAC addresses only. 0: no frame does.
    pub plain_len: u16,
}

const _: () = assert!(size_of::<Target>() == 32, "two targets are a cache line");

impl Target {
    /// The target of frames that have no backend.
    pub const NOWHERE: Target = Target {
        macs: [0; 12],
        port: PortNo::NONE,
        known: false,
        up: false,
        counter: CounterNo::from_raw(0),
        service: ServiceCounterNo::new(0),
        tags: Tags::NONE,
        mtu: 0,
        plain_len: 0,
    };

    /// A backend in a network, with its MAC address if that is known.
    pub fn new(mac: Option<Mac>, network: &LocalNetwork, counter: CounterNo, service: ServiceCounterNo) -> Self {
        let LocalNetwork { port, tags, link, .. } = *network;
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&mac.unwrap_or_default().0);
        macs[6..].copy_from_slice(&link.mac.0);
        let plain = mac.is_some() && link.up && tags.is_none();
        let longest = usize::from(link.mtu) + ETHERNET_HEADER;
        let plain_len = if plain { u16::try_from(longest).unwrap_or(u16::MAX) } else { 0 };
        Target { macs, port, known: mac.is_some(), up: link.up, counter, service, tags, mtu: link.mtu, plain_len }
    }

    /// Whether this is no backend.
    #[inline]
    pub fn is_nowhere(&self) -> bool {
        self.port == PortNo::NONE
    }

    /// The backend's MAC address; zeros if it is not known.
    #[inline]
    pub fn mac(&self) -> &[u8] {
        &self.macs[..6]
    }
}

impl Snapshot {
    /// The service that a flow belongs to.
    pub fn service(&self, flow: &Flow, last: &mut LastService) -> Option<&ServiceEntry> {
        self.vips.service(flow, last).map(|number| &self.services[number.index()])
    }
}
