//! The worker's state that the stages of a burst share.

use rtrb::Producer;

use crate::base::ids::PortNo;
use crate::base::packet::PacketIo;
use crate::count::counters::WorkerCounters;
use crate::forward::exceptions::Exceptions;
use crate::forward::fragment::Fragments;
use crate::forward::handshake::handshakes::Handshakes;
use crate::forward::ingress::Ingress;
use crate::forward::limits::Limits;
use crate::forward::port::WorkerPort;
use crate::forward::rings::Punts;
use crate::forward::sample::Sample;
use crate::state::snapshot::Snapshot;

/// The state that the stages of a burst share: the worker's own, and the snapshot of this turn.
pub(super) struct Context<'w, Io: PacketIo> {
    pub(super) snapshot: &'w Snapshot,
    pub(super) ports: &'w mut [WorkerPort<Io>],
    pub(super) counters: &'w WorkerCounters,
    pub(super) punts: &'w mut Punts<Io::Packet>,
    pub(super) samples: &'w mut Producer<Sample>,
    pub(super) fragments: &'w mut Fragments<Io::Packet>,
    pub(super) exceptions: &'w mut Exceptions,
    pub(super) limits: &'w mut Limits,
    pub(super) handshakes: &'w mut Handshakes,
    /// The time at which the turn began.
    pub(super) now_ms: u64,
}

impl<'w, Io: PacketIo> Context<'w, Io> {
    /// The frames that a port accepts.
    #[inline]
    pub(super) fn ingress(&self, port: PortNo) -> Ingress<'w> {
        Ingress { mac: self.ports[port.index()].mac, vlans: &self.snapshot.vlans[port.index()] }
    }

    /// Sends the frames that are queued on the ports.
    #[inline]
    pub(super) fn flush(&mut self) {
        for (port, counters) in self.ports.iter_mut().zip(&self.counters.ports) {
            port.flush(counters);
        }
    }
}
