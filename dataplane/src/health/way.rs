//! The way of a probe: from an address of the director's own to an address of a backend, at the backend's MAC address.

use std::net::IpAddr;

use ctl::{CheckTo, Mac};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
    UdpPacket, UdpRepr,
};

use crate::base::frame::Frame;
use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::control::model::Service;
use crate::state::networks::LocalNetwork;

const HOP_LIMIT: u8 = 64;

/// The way of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The network that the backend is in.
    pub(super) network: NetworkNo,
    /// The backend's MAC address.
    pub(super) mac: Mac,
    /// Our MAC address.
    pub(super) from: Mac,
    /// Our address.
    pub(super) source: IpAddr,
    /// The address that is asked: the VIP, or the backend's own.
    pub(super) target: IpAddr,
}

impl Way {
    /// The way to a backend; `first_target` is the index of its service's first target in the snapshot. `None`: its MAC address
    /// is not known, or the link is down. The neighbor engine and the port say so.
    pub(super) fn to(
        current: &Compiled,
        service: &Service,
        first_target: usize,
        backend: usize,
        to: CheckTo,
    ) -> Option<Way> {
        let backend_of = service.backends.get(backend)?;
        let target = current.targets.get(first_target + backend)?;
        let network = current.network(backend_of.network);
        if !target.known || !network.link.up {
            return None;
        }
        let [a, b, c, d, e, f] = *target.mac() else { return None };
        let address = match to {
            CheckTo::Vip => service.id.vip,
            CheckTo::Backend => backend_of.address,
        };
        let source = own_address(network, backend_of.address)?;
        let mac = Mac([a, b, c, d, e, f]);
        Some(Way { network: backend_of.network, mac, from: network.link.mac, source, target: address })
    }

    /// A frame with this IP packet.
    pub(super) fn frame(&self, packet: &[u8]) -> Frame {
        let mut bytes = Vec::with_capacity(14 + packet.len());
        bytes.extend(self.mac.0);
        bytes.extend(self.from.0);
        bytes.extend(if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        bytes.extend(packet);
        Frame { network: self.network, bytes }
    }

    /// A datagram.
    pub(super) fn datagram(&self, local: u16, port: u16, payload: &[u8]) -> Vec<u8> {
        let udp = UdpRepr { src_port: local, dst_port: port };
        self.packet(IpProtocol::Udp, udp.header_len() + payload.len(), |bytes| {
            let (source, target) = (self.source.into(), self.target.into());
            let checksums = ChecksumCapabilities::default();
            let fill = |room: &mut [u8]| room.copy_from_slice(payload);
            udp.emit(&mut UdpPacket::new_unchecked(bytes), &source, &target, payload.len(), fill, &checksums);
        })
    }

    /// A ping.
    pub(super) fn ping(&self, ident: u16, seq_no: u16, data: &[u8]) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        match (self.source, self.target) {
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let ping = Icmpv6Repr::EchoRequest { ident, seq_no, data };
                self.packet(IpProtocol::Icmpv6, ping.buffer_len(), |bytes| {
                    ping.emit(&source, &target, &mut Icmpv6Packet::new_unchecked(bytes), &checksums);
                })
            }
            _ => {
                let ping = Icmpv4Repr::EchoRequest { ident, seq_no, data };
                self.packet(IpProtocol::Icmp, ping.buffer_len(), |bytes| {
                    ping.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
                })
            }
        }
    }

    fn packet(&self, next_header: IpProtocol, payload_len: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
        match (self.source, self.target) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let ip = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOP_LIMIT };
                let mut bytes = vec![0; ip.buffer_len() + payload_len];
                ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
                fill(&mut bytes[ip.buffer_len()..]);
                bytes
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let ip = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOP_LIMIT };
                let mut bytes = vec![0; ip.buffer_len() + payload_len];
                ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
                fill(&mut bytes[ip.buffer_len()..]);
                bytes
            }
            // The model has no service and backend of different families.
            _ => Vec::new(),
        }
    }
}

/// Our address in the network that an address lies in: the one whose prefix is longest.
pub(super) fn own_address(network: &LocalNetwork, towards: IpAddr) -> Option<IpAddr> {
    let around = network.addresses.iter().filter(|net| net.contains(&towards));
    around.max_by_key(|net| net.prefix_len()).map(|net| net.addr())
}
