//! Limits that several rooms use: how many of each thing there may be, and how large each may be.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The most services.
pub const MAX_SERVICES: usize = 16_384;
/// The most backends that a service may have.
pub const MAX_BACKENDS: usize = 10_000;
/// The most pairs of service and backend, over all services.
pub const MAX_TARGETS: usize = 1 << 17;
/// The most counters of services. They are more than the services, because a removed service's counters become free
/// only when no worker uses them any more.
pub const MAX_SERVICE_COUNTERS: usize = MAX_SERVICES + 1_024;

/// The slots of a Maglev table, unless configured. It is a prime, about a hundred times the backends of a large
/// service, and makes a table of 128 KiB.
pub const DEFAULT_TABLE_SIZE: u32 = 65_537;
/// The fewest slots of a Maglev table: the smallest odd prime.
pub const MIN_TABLE_SIZE: u32 = 3;
/// The most slots of a Maglev table.
pub const MAX_TABLE_SIZE: u32 = 1_048_573;

/// The longest idle timeout. Ages are counted modulo 2,048 ticks, and the sweep through the exception table must reach
/// each entry before its age wraps.
pub const MAX_IDLE_MS: u64 = 2 * 60 * 60 * 1_000;

/// The MTUs that a port may have. The least is what IPv6 needs of any link (RFC 8200 §5). The most fits an mbuf's
/// length together with Ethernet header and tags.
pub const MTUS: RangeInclusive<u16> = 1_280..=64_000;

/// The ids that a VLAN may have: 0 is a priority alone, 4095 is reserved (IEEE 802.1Q §9.6).
pub const VLAN_IDS: RangeInclusive<u16> = 1..=4_094;

/// The packet buffers that there may be.
pub const MBUFS: RangeInclusive<u32> = 1_024..=1 << 24;
/// The flows of an address family that a worker may be able to remember.
pub const EXCEPTIONS: RangeInclusive<u32> = 1_024..=1 << 25;

/// The idle timeout of a service that names none, in s: as LVS has it.
pub const DEFAULT_IDLE_S: u32 = 900;
/// The same for UDP, in s.
pub const DEFAULT_IDLE_UDP_S: u32 = 300;
/// The most time that a change of a UDP service hands over, if the service names none, in s. A flow that is silent for
/// longer has mostly ended: QUIC's clients and servers commonly close an idle connection after 30 s, and what must go
/// through NAT and firewalls sends at least every 30 s (RFC 9000 §10.1.2).
pub const DEFAULT_HANDOVER_UDP_S: u32 = 30;

/// The time from one probe of a health check to the next, and for its answer.
pub const CHECK_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// How many good or failed probes in a row it may take.
pub const CHECK_TIMES: RangeInclusive<u32> = 1..=100;
/// The most checks of a service.
pub const MAX_CHECKS: usize = 8;
/// The longest text in a check, in bytes.
pub const MAX_CHECK_TEXT: usize = 1_024;
/// The most probes in a second, over all services, that the checks may ask for.
pub const MAX_PROBES_PER_S: u32 = 20_000;
/// The longest slow start of a service, in s.
pub const MAX_SLOW_START_S: u32 = 3_600;
