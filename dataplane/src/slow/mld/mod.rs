//! Multicast listener discovery (MLDv2, RFC 3810; MLDv1, RFC 2710): tells switches that the director wants neighbor
//! solicitations.
//!
//! A solicitation for an address goes to that address's solicited-node group (RFC 4861 §7.2.2). A switch that snoops
//! MLD sends a group's frames only to ports where it has heard a report for that group, and forgets the report after a
//! time. Without a report, an IPv6 VIP behind such a switch cannot be reached. So the director reports its groups as a
//! host does: when it joins one, when it is queried, and when it leaves one. Besides, it reports all groups once a minute,
//! for switches that snoop where nobody queries.
//!
//! IPv4 needs nothing of this kind: ARP is broadcast, and no switch filters that. So there is no IGMP.
//!
//! - In: the addresses of each network, the valid queries that arrive, the time.
//! - Out: reports to send.

mod listener;
pub(super) mod message;

#[cfg(test)]
mod tests;

pub use listener::Listener;
