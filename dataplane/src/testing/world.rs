//! The addresses of the [scene](super::scene).

/// The VIPs of services that forward.
pub(super) const VIPS: [&str; 3] = ["192.168.0.101", "192.168.0.102", "fd00::101"];
/// Their services: VIP, protocol and a port.
pub(super) const SERVED: &[(&str, u8, u16)] = &[
    ("192.168.0.101", 6, 80),
    ("192.168.0.101", 6, 443),
    ("192.168.0.101", 6, 8_080),
    ("192.168.0.101", 17, 53),
    ("192.168.0.102", 6, 80),
    ("fd00::101", 6, 80),
    ("fd00::101", 17, 53),
];
/// A VIP whose backend does not answer.
pub(super) const SILENT: &str = "192.168.0.103";
/// The director's own addresses.
pub(super) const OWN: [&str; 3] = ["192.168.0.2", "192.168.1.2", "fd00::2"];
