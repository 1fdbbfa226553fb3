//! Checks of a request that do not depend on the other services.

use std::net::IpAddr;

use ctl::request::ServiceAdd;
use ctl::{FlowHash, MAX_WEIGHT, Mac, Passive, Protocol, Scheduler, Tracking};

use crate::base::limits::{DEFAULT_HANDOVER_UDP_S, DEFAULT_IDLE_S, DEFAULT_IDLE_UDP_S, MAX_IDLE_MS, MAX_SLOW_START_S};
use crate::control::model::error::ModelError;

/// Which flows are remembered. A scheduler that decides flow by flow needs all of them. TCP and SCTP need those that a
/// change would break.
pub(super) fn tracking(wanted: &ServiceAdd) -> Result<Tracking, ModelError> {
    match wanted.tracking {
        Some(Tracking::Exceptions | Tracking::None) if wanted.scheduler.decides_by_flow() => {
            Err(ModelError::MustTrack(wanted.scheduler))
        }
        Some(Tracking::None) if wanted.service.protocol != Protocol::Udp => {
            Err(ModelError::MustHandOver(wanted.service.protocol))
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

/// The time for which a change hands over, in ms; `idle_ms` is the idle timeout. A TCP or SCTP packet tells whether its
/// connection is new, so the time can be as long as a connection may be idle. A datagram does not tell.
pub(super) fn handover_time(wanted: &ServiceAdd, idle_ms: u64) -> Result<u64, ModelError> {
    let udp_ms = u64::from(DEFAULT_HANDOVER_UDP_S) * 1_000;
    match wanted.handover_time_s {
        Some(_) if wanted.tracking == Some(Tracking::None) => Err(ModelError::NothingToHandOver),
        Some(seconds) => {
            let milliseconds = u64::from(seconds) * 1_000;
            let allowed = (1..=MAX_IDLE_MS).contains(&milliseconds);
            if allowed { Ok(milliseconds) } else { Err(ModelError::HandOverTime(seconds)) }
        }
        None if wanted.tracking == Some(Tracking::None) => Ok(0),
        None if wanted.service.protocol == Protocol::Udp => Ok(idle_ms.min(udp_ms)),
        None => Ok(idle_ms),
    }
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

pub(super) fn checked_min_up(share: u8) -> Result<u8, ModelError> {
    if share <= 100 { Ok(share) } else { Err(ModelError::MinUp(share)) }
}

/// What becomes of a backend whose clients get no answer. That is seen of TCP alone.
pub(super) fn checked_passive(wish: Passive, protocol: Protocol) -> Result<Passive, ModelError> {
    match wish {
        Passive::Remove if protocol != Protocol::Tcp => Err(ModelError::PassiveOf(protocol)),
        wish => Ok(wish),
    }
}

/// How long a slow start takes, in ms.
pub(super) fn checked_slow_start(seconds: Option<u32>, scheduler: Scheduler) -> Result<u64, ModelError> {
    match seconds.unwrap_or_default() {
        0 => Ok(0),
        seconds if seconds > MAX_SLOW_START_S => Err(ModelError::SlowStart(seconds)),
        _ if matches!(scheduler, Scheduler::Rr | Scheduler::Lc) => Err(ModelError::SlowStartWithout(scheduler)),
        seconds => Ok(u64::from(seconds) * 1_000),
    }
}

pub(super) fn checked_weight(weight: u32) -> Result<u32, ModelError> {
    if weight <= MAX_WEIGHT { Ok(weight) } else { Err(ModelError::Weight(weight)) }
}

pub(super) fn checked_mac(mac: Mac) -> Result<Mac, ModelError> {
    if mac.is_unicast() { Ok(mac) } else { Err(ModelError::MacNotUnicast(mac)) }
}

/// Refuses an address that no single host can have on a network, as a VIP, as a backend's or as the director's own. `scripts/real-server`
/// has the same rule for VIPs.
pub fn check_unicast(address: IpAddr) -> Result<(), ModelError> {
    match address {
        IpAddr::V4(v4) => match v4.octets()[0] {
            // "This network" (RFC 1122 §3.2.1.3), loopback; multicast and above it the reserved ones, limited broadcast among them
            // (RFC 1112 §4): hosts and routers drop them, or take them for a group's.
            0 | 127 | 224.. => Err(ModelError::NotUnicast(address)),
            _ => Ok(()),
        },
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() => {
            Err(ModelError::NotUnicast(address))
        }
        // ::ffff:0:0/96 is IPv4-mapped, ::/96 IPv4-compatible (RFC 4291 §2.5.5).
        IpAddr::V6(v6) if matches!(v6.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _]) => {
            Err(ModelError::Mapped(address))
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(ModelError::LinkLocal(address)),
        IpAddr::V6(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_single_host_has_are_refused() {
        for (addresses, says) in [
            (&["0.0.0.0", "0.1.2.3", "0.255.255.255", "127.0.0.1", "127.255.255.255"][..], "single host"),
            (&["224.0.0.1", "239.255.255.255", "240.0.0.0", "250.1.2.3", "255.255.255.255"], "single host"),
            (&["::", "::1", "ff00::", "ff02::1", "ffff::1"], "single host"),
            (&["::ffff:10.1.0.101", "::ffff:0:1", "::1.2.3.4", "::2"], "IPv4"),
            (&["fe80::1", "fe80:1::1", "febf::1"], "link-local"),
        ] {
            for text in addresses {
                let error = check_unicast(text.parse().unwrap()).expect_err(text).to_string();
                assert!(error.contains(says), "{error}");
            }
        }
        for text in
            ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "169.254.1.1", "10.0.0.1", "::1:0:0:0"]
        {
            assert_eq!(check_unicast(text.parse().unwrap()), Ok(()), "{text}");
        }
        for text in ["::fffe:1.2.3.4", "fec0::1", "fd00::1", "2001:db8::ffff:10.1.0.101", "64:ff9b::1.2.3.4", "ff::1"] {
            assert_eq!(check_unicast(text.parse().unwrap()), Ok(()), "{text}");
        }
    }
}
