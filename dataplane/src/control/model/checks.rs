//! Checks of a request that do not depend on the other services.

use std::net::IpAddr;

use ctl::request::ServiceAdd;
use ctl::{FlowHash, MAX_WEIGHT, Mac, Protocol, Scheduler, Tracking};

use crate::base::limits::{DEFAULT_IDLE_S, DEFAULT_IDLE_UDP_S, MAX_IDLE_MS};
use crate::control::model::error::ModelError;

/// Which flows are remembered. A scheduler that decides flow by flow needs all of them.
pub(super) fn tracking(wanted: &ServiceAdd) -> Result<Tracking, ModelError> {
    match wanted.tracking {
        Some(Tracking::Exceptions) if wanted.scheduler.decides_by_flow() => {
            Err(ModelError::MustTrack(wanted.scheduler))
        }
        Some(tracking) => Ok(tracking),
        None if wanted.scheduler.decides_by_flow() => Ok(Tracking::All),
        None => Ok(Tracking::Exceptions),
    }
}

/// The idle timeout in ms. The defaults are those of LVS.
pub(super) fn idle_timeout(wanted: &ServiceAdd) -> Result<u64, ModelError> {
    let default = if wanted.service.protocol == Protocol::Udp { DEFAULT_IDLE_UDP_S } else { DEFAULT_IDLE_S };
    let seconds = wanted.idle_timeout_s.unwrap_or(default);
    let milliseconds = u64::from(seconds) * 1_000;
    if (1..=MAX_IDLE_MS).contains(&milliseconds) { Ok(milliseconds) } else { Err(ModelError::IdleTimeout(seconds)) }
}

/// The hash that a request asks for, if it fits the scheduler and the VIP. Without one, the scheduler's own hash.
pub(super) fn flow_hash(wanted: &ServiceAdd) -> Result<FlowHash, ModelError> {
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

pub(super) fn checked_weight(weight: u32) -> Result<u32, ModelError> {
    if weight <= MAX_WEIGHT { Ok(weight) } else { Err(ModelError::Weight(weight)) }
}

pub(super) fn checked_mac(mac: Mac) -> Result<Mac, ModelError> {
    if mac.is_unicast() { Ok(mac) } else { Err(ModelError::MacNotUnicast(mac)) }
}

/// Refuses an address that no single host can have on a network.
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
