//! How a port is to be opened, and what its device is asked to do with frames.

use dpdk_sys::{
    SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM, SHUNT_ETH_RX_OFFLOAD_SCATTER, SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP,
    SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE, SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS, rte_eth_dev_info,
};

use crate::dpdk::device::Device;
use crate::dpdk::frame_size::FRAME_OVERHEAD;
use crate::dpdk::port_error::PortError;

/// How to open a port.
#[derive(Debug, Clone)]
pub struct PortSettings {
    /// Its number in the configuration, from 0; names virtual devices.
    pub index: usize,
    /// The device.
    pub device: Device,
    /// Receive and transmit queue pairs.
    pub queues: u16,
    /// Whether the device is to take VLAN tags out of received frames.
    pub vlan_strip: bool,
    /// The largest L3 packet; `None`: the device's.
    pub mtu: Option<u16>,
}

/// What a device is asked to do with frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offloads {
    pub(super) rx: u64,
    pub(super) tx: u64,
    /// The MTU, where it is not the device's own nor the kernel's matter.
    pub(super) mtu: Option<u16>,
}

impl Offloads {
    pub(super) fn new(
        settings: &PortSettings,
        info: &rte_eth_dev_info,
        driver: &str,
        room: u16,
    ) -> Result<Offloads, PortError> {
        let (device, driver) = (settings.device.to_string(), driver.to_owned());
        // A Linux interface has its MTU from the kernel.
        let mtu = settings.mtu.filter(|_| !matches!(settings.device, Device::Interface { .. }));
        let limits = info.min_mtu..=info.max_mtu;
        if let Some(mtu) = mtu.filter(|mtu| !limits.contains(mtu)) {
            return Err(PortError::MtuRange { device, driver, least: info.min_mtu, most: info.max_mtu, mtu });
        }
        let mut rx = SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM & info.rx_offload_capa;
        // All mbufs are of one pool, and nobody holds a second reference, to any segment.
        let mut tx = SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE & info.tx_offload_capa;
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
            Offloads::new(&settings(nic(), mtu, strip), info, "net_x", 2_048).map_err(|error| error.to_string())
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
        assert!(ask(&simple, Some(9_000), false).unwrap_err().contains("mtu to 2022 or less"));
        assert!(ask(&simple, None, true).unwrap_err().contains("vlan_strip"));
        let interface = Device::Interface { name: "eth1".into(), driver: Driver::Auto };
        let offloads = Offloads::new(&settings(interface, Some(9_000), false), &simple, "net_af_packet", 2_048);
        assert_eq!(offloads.unwrap(), Offloads { rx: 0, tx: 0, mtu: None });
    }
}
