//! How a port is to be opened, and what its device is asked to do with frames.

use dpdk_sys::{
    SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM, SHUNT_ETH_RX_OFFLOAD_SCATTER, SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
    SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE, SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS, rte_eth_dev_info,
};

use crate::dpdk::device::{Device, XDP};
use crate::dpdk::frame_size::{FRAME_OVERHEAD, XDP_MTU};
use crate::dpdk::port_error::PortError;

/// How to open a port.
#[derive(Debug, Clone)]
pub struct PortSettings {
    /// Its number in the configuration, from 0; names the virtual devices that Linux interfaces are reached by, so no two ports have the
    /// same.
    pub index: usize,
    /// The device.
    pub device: Device,
    /// Receive and transmit queue pairs, at least one.
    pub queues: u16,
    /// Whether the device is to take VLAN tags out of received frames.
    pub vlan_strip: bool,
    /// The largest L3 packet; `None`: the device's.
    pub mtu: Option<u16>,
}

/// Drivers that send frames in several buffers and do not say so.
const SEND_SEGMENTS: [&str; 2] = ["net_null", "net_pcap"];

/// What a device is asked to do with frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offloads {
    pub(super) rx: u64,
    pub(super) tx: u64,
    /// The MTU, where it is not the device's own nor the kernel's matter.
    pub(super) mtu: Option<u16>,
}

impl Offloads {
    /// What the port is to be asked for. `fast_free` says whether it may free sent frames without a look at each buffer's pool; it is
    /// asked for where the device can.
    pub(super) fn new(
        settings: &PortSettings,
        info: &rte_eth_dev_info,
        driver: &str,
        room: u16,
        fast_free: impl FnOnce() -> bool,
    ) -> Result<Offloads, PortError> {
        let (device, driver) = (settings.device.to_string(), driver.to_owned());
        // A Linux interface has its MTU from the kernel.
        let mtu = settings.mtu.filter(|_| !matches!(settings.device, Device::Interface { .. }));
        // The driver of AF_XDP sockets says more than they take.
        let most = if driver == XDP { info.max_mtu.min(XDP_MTU) } else { info.max_mtu };
        if let Some(mtu) = mtu.filter(|mtu| !(info.min_mtu..=most).contains(mtu)) {
            return Err(PortError::MtuRange { device, driver, least: info.min_mtu, most, mtu });
        }
        let mut rx = SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM & info.rx_offload_capa;
        // `Mbuf` has no second reference to a buffer; that all are of one pool is the registry's to know.
        let mut tx = SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE & info.tx_offload_capa;
        if tx != 0 && !fast_free() {
            tx = 0;
        }
        // Virtual devices may receive frames in several buffers unasked; and it costs these and sockets nothing to send such frames.
        if !matches!(settings.device, Device::Pci(_)) {
            tx |= SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS & info.tx_offload_capa;
        }
        if settings.vlan_strip {
            rx |= SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP;
        }
        if mtu.is_some_and(|mtu| usize::from(mtu) + FRAME_OVERHEAD > usize::from(room)) {
            rx |= SHUNT_ETH_RX_OFFLOAD_SCATTER;
            tx |= SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS;
        }
        let lacking = (rx & !info.rx_offload_capa, tx & !info.tx_offload_capa);
        if lacking.0 & SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP != 0 {
            return Err(PortError::NoVlanStrip { device, driver });
        }
        if lacking != (0, 0) {
            return Err(PortError::NoScatter { device, driver, room, most: usize::from(room) - FRAME_OVERHEAD });
        }
        Ok(Offloads { rx, tx, mtu })
    }

    /// Whether the port sends frames that lie in several buffers.
    pub(super) fn sends_segments(&self, driver: &str) -> bool {
        self.tx & SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS != 0 || SEND_SEGMENTS.contains(&driver)
    }

    /// Whether the port may receive frames into several buffers.
    pub(super) fn receives_segments(&self, device: &Device) -> bool {
        self.rx & SHUNT_ETH_RX_OFFLOAD_SCATTER != 0 || matches!(device, Device::Vdev(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::device::Driver;

    fn settings(device: Device, mtu: Option<u16>, vlan_strip: bool) -> PortSettings {
        PortSettings { index: 0, device, queues: 1, vlan_strip, mtu }
    }

    #[test]
    fn large_frames_are_spread_over_buffers_where_the_device_can() {
        let able = rte_eth_dev_info {
            rx_offload_capa: SHUNT_ETH_RX_OFFLOAD_SCATTER | SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
            tx_offload_capa: SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS | SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
            min_mtu: 68,
            max_mtu: 9_702,
            ..Default::default()
        };
        let simple = rte_eth_dev_info { min_mtu: 68, max_mtu: 9_000, ..Default::default() };
        let nic = || Device::Pci("0000:01:00.0".into());
        let ask = |info, mtu, strip| {
            Offloads::new(&settings(nic(), mtu, strip), info, "net_x", 2_048, || true)
                .map_err(|error| error.to_string())
        };
        let fast_free = SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
        assert_eq!(ask(&able, None, false), Ok(Offloads { rx: 0, tx: fast_free, mtu: None }));
        assert_eq!(ask(&able, Some(2_022), false), Ok(Offloads { rx: 0, tx: fast_free, mtu: Some(2_022) }));
        let jumbo = Offloads {
            rx: SHUNT_ETH_RX_OFFLOAD_SCATTER | SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
            tx: SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS | fast_free,
            mtu: Some(9_000),
        };
        assert_eq!(ask(&able, Some(9_000), true), Ok(jumbo));
        assert!(ask(&able, Some(9_703), false).unwrap_err().contains("68 to 9702, not 9703"));
        let xdp = settings(Device::Vdev("net_af_xdp0,iface=lan0".into()), Some(3_499), false);
        let xdp = Offloads::new(&xdp, &able, XDP, 3_776, || true).unwrap_err().to_string();
        assert!(xdp.contains("68 to 3498, not 3499"), "{xdp}");
        assert!(ask(&simple, Some(9_000), false).unwrap_err().contains("mtu to 2022 or less"));
        assert!(ask(&simple, None, true).unwrap_err().contains("vlan_strip"));
        let interface = Device::Interface { name: "eth1".into(), driver: Driver::Auto };
        let offloads =
            Offloads::new(&settings(interface, Some(9_000), false), &simple, "net_af_packet", 2_048, || true);
        assert_eq!(offloads.unwrap(), Offloads { rx: 0, tx: 0, mtu: None });
    }

    #[test]
    fn fast_free_is_asked_for_where_the_device_can_and_may() {
        let nic = settings(Device::Pci("0000:01:00.0".into()), None, false);
        for (capable, granted, expected) in [(true, true, true), (true, false, false), (false, true, false)] {
            let tx_offload_capa = if capable { SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE } else { 0 };
            let info = rte_eth_dev_info { tx_offload_capa, ..Default::default() };
            let mut asked = false;
            let offloads =
                Offloads::new(&nic, &info, "net_x", 2_048, || std::mem::replace(&mut asked, true) || granted);
            assert_eq!(offloads.unwrap().tx != 0, expected, "capable: {capable}, granted: {granted}");
            assert_eq!(asked, capable, "a grant that is not used would keep other pools out");
        }
    }

    #[test]
    fn what_is_no_nic_sends_frames_in_several_buffers_where_it_can() {
        let both = SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS | SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
        for (device, capable, sends, receives) in [
            (Device::Vdev("net_pcap0".into()), both, true, true),
            (Device::Vdev("net_old0".into()), 0, false, true),
            (Device::Pci("0000:01:00.0".into()), both, false, false),
            (Device::Interface { name: "eth1".into(), driver: Driver::Auto }, both, true, false),
        ] {
            let info = rte_eth_dev_info { tx_offload_capa: capable, ..Default::default() };
            let offloads =
                Offloads::new(&settings(device.clone(), None, false), &info, "net_x", 2_048, || true).unwrap();
            assert_eq!(
                (offloads.sends_segments("net_x"), offloads.receives_segments(&device)),
                (sends, receives),
                "{device}"
            );
        }
    }
}
