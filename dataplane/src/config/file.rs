//! The configuration file as it is written. What must be there is checked later, so that all that is missing can be
//! said at once; that is why nearly everything here is an `Option`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::dpdk::Driver;

/// The whole file. An element of a list that is no table at all is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) director: DirectorSection,
    pub(super) ports: Vec<Option<PortSection>>,
    pub(super) services: Vec<Option<ServiceSection>>,
}

/// `[director]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DirectorSection {
    /// Cores that forward, one worker each. Default: core 1, or 0 where it is the only one.
    pub(super) workers: Option<Vec<usize>>,
    /// The core of ARP, NDP, ping and neighbor resolution. Default: 0.
    pub(super) slow_path: Option<usize>,
    /// Whether the slow path polls its core without a pause, for the quickest answers. Default: false.
    pub(super) slow_path_poll: bool,
    /// Pings a second that are answered, over all workers, VIPs and own addresses. Default: 1000. 0: none.
    pub(super) echo_rate: Option<u32>,
    /// 32 hexadecimal digits; the same on every director of the same VIPs. Default: a fixed one.
    pub(super) hash_key: Option<String>,
    /// Slots of a Maglev table, a prime. Default: 65537.
    pub(super) maglev_table_size: Option<u32>,
    /// The control socket. Default: /run/shunt/shuntd.sock.
    pub(super) socket: Option<PathBuf>,
    /// The group whose members may open the socket (and only read). Default: the daemon's own.
    pub(super) socket_group: Option<String>,
    /// Where Prometheus may fetch metrics over HTTP, as address and port. Default: nowhere.
    pub(super) metrics: Option<String>,
    /// "auto", "on" or "off". Default: "auto": hugepages where enough of them are free.
    pub(super) hugepages: Hugepages,
    /// Packet buffers, of 2 KiB unless AF_PACKET has larger frames. Default: what ports and workers need.
    pub(super) mbufs: Option<u32>,
    /// IPv4 flows that a worker can remember, 16 bytes each. Default: 1048576.
    pub(super) exceptions: Option<usize>,
    /// IPv6 flows that a worker can remember, 43 bytes each. Default: a quarter of `exceptions`.
    pub(super) exceptions_ipv6: Option<usize>,
    /// More arguments for DPDK's EAL. Default: none.
    pub(super) eal_args: Vec<String>,
}

/// `[[ports]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PortSection {
    /// What it is called in listings and metrics. Required.
    pub(super) name: Option<String>,
    /// PCI address, `iface:NAME`, or a DPDK vdev string. Required.
    pub(super) device: Option<String>,
    /// For `iface:`: "af_xdp", "af_packet" or "auto". Default: "auto": AF_XDP, else AF_PACKET.
    pub(super) driver: Option<Driver>,
    /// The director's own addresses there, with prefix length. Backends must be in one of the networks of these, or of a
    /// VLAN's.
    pub(super) addresses: Vec<String>,
    /// Networks with VLAN tags. Where there are some and no `addresses`, frames without tags are not taken.
    pub(super) vlans: Vec<Option<VlanSection>>,
    /// Whether the device is to take VLAN tags out of what it receives. Default: false.
    pub(super) vlan_strip: bool,
    /// The largest L3 packet in bytes, 1280 to 64000. Default: the interface's; of other devices, 1500.
    pub(super) mtu: Option<u32>,
}

/// `[[ports.vlans]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VlanSection {
    /// 1 to 4094, or "OUTER.INNER" for two tags (QinQ). Required.
    pub(super) id: Option<VlanNumber>,
    /// The director's own addresses there, with prefix length.
    pub(super) addresses: Vec<String>,
}

/// VLAN tags, as a number or as text.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a VLAN, 1 to 4094, or text such as \"200.30\"")]
pub(super) enum VlanNumber {
    Number(u64),
    Text(String),
}

/// `[[services]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServiceSection {
    /// The virtual address. Required.
    pub(super) vip: Option<String>,
    /// The L4 port, or "80,443", "8000-8100", "any". Required.
    pub(super) port: Option<PortNumber>,
    /// "tcp", "udp" or "sctp". Default: "tcp".
    pub(super) protocol: Option<String>,
    /// "maglev"; "sh": the same by the client's address; or flow by flow "wrr", "rr", "wlc", "lc". Default: "maglev".
    pub(super) scheduler: Option<String>,
    /// "5tuple", "source" or "source/PREFIX": what decides the backend. Default: as the scheduler says.
    pub(super) hash: Option<String>,
    /// "exceptions" or "all": which flows are remembered. Default: as the scheduler needs.
    pub(super) tracking: Option<String>,
    /// How long a flow is remembered that nothing is heard of, and how long a change hands over: "90s", "15m", "2h".
    /// Default: "15m", for UDP "5m".
    pub(super) idle_timeout: Option<String>,
    /// "drop" or "all": what becomes of packets when all backends are down. Default: "drop".
    pub(super) on_all_down: Option<String>,
    /// Not available yet; known, so that it can be refused with a reason.
    pub(super) check: Option<serde_json::Value>,
    /// Who answers.
    pub(super) backends: Vec<Option<BackendSection>>,
}

/// An element of `backends`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BackendSection {
    /// Its IP address. Required.
    pub(super) address: Option<String>,
    /// 0 to 65535. Default: 1. 0: no new flows.
    pub(super) weight: Option<u32>,
    /// Its MAC address, if that is not to be resolved by ARP or NDP.
    pub(super) mac: Option<String>,
}

/// Ports, as a number or as text.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a port, or text such as \"80,443\", \"8000-8100\" or \"any\"")]
pub(super) enum PortNumber {
    Number(u64),
    Text(String),
}

/// Whether packet memory is to be in hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// Where enough of them are free.
    #[default]
    Auto,
    /// Or do not start.
    On,
    /// Never.
    Off,
}
