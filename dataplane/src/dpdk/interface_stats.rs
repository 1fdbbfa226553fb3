//! What the kernel counts at a Linux interface.

use std::path::{Path, PathBuf};

use ctl::Mac;

/// What the kernel says of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct InterfaceStats {
    /// Received frames that the kernel has dropped.
    pub(super) rx_dropped: u64,
    /// Frames that a NIC had no room for.
    pub(super) rx_missed: u64,
    /// Frames that were received damaged.
    pub(super) rx_errors: u64,
    /// Frames that were sent, whoever sent them.
    pub(super) tx_packets: u64,
    /// Whether the link is down, so that nothing can be sent.
    pub(super) down: bool,
}

/// A Linux interface whose counters are to be had. They are read from /sys, which needs no lock of the kernel's that others may hold for long.
#[derive(Debug)]
pub(super) struct Interface {
    interfaces: PathBuf,
    index: u32,
}

impl Interface {
    /// The interface of this index and MAC address. `None` where /sys does not have it: it may be that of another network namespace.
    pub(super) fn of(index: u32, mac: Mac) -> Option<Self> {
        Self::below("/sys/class/net".into(), index, mac)
    }

    fn below(interfaces: PathBuf, index: u32, mac: Mac) -> Option<Self> {
        let interface = Interface { interfaces, index };
        let address = std::fs::read_to_string(interface.folder()?.join("address")).ok()?;
        (address.trim().parse() == Ok(mac)).then_some(interface)
    }

    /// An interface can be renamed.
    fn folder(&self) -> Option<PathBuf> {
        let name = nix::net::if_::if_indextoname(self.index).ok()?.into_string().ok()?;
        Some(self.interfaces.join(name))
    }

    /// What is counted there at this moment. `None`: the interface is gone.
    pub(super) fn stats(&self) -> Option<InterfaceStats> {
        stats(&self.folder()?, self.index)
    }
}

fn stats(folder: &Path, index: u32) -> Option<InterfaceStats> {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let count = |name: &str| number(&format!("statistics/{name}"));
    if number("ifindex")? != u64::from(index) {
        return None;
    }
    // RFC 2863's states. Some drivers do not tell: "unknown".
    let state = read("operstate")?;
    Some(InterfaceStats {
        rx_dropped: count("rx_dropped")?,
        rx_missed: count("rx_missed_errors")?,
        rx_errors: count("rx_errors")?,
        tx_packets: count("tx_packets")?,
        down: !["up", "unknown"].contains(&state.trim()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder.join("statistics")).unwrap();
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), format!("{text}\n")).unwrap());
    }

    #[test]
    fn counters_are_those_of_the_interface_with_the_index() {
        let net = tempfile::tempdir().unwrap();
        let (path, mac) = (net.path().join("lo"), Mac([2, 0, 0, 0, 0, 1]));
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let open = |index, mac| Interface::below(net.path().into(), index, mac);
        assert!(open(lo, mac).is_none(), "/sys does not have it");
        write(&path, &[("address", "02:00:00:00:00:01"), ("ifindex", &lo.to_string()), ("operstate", "up")]);
        for (number, file) in ["rx_dropped", "rx_missed_errors", "rx_errors", "tx_packets"].iter().enumerate() {
            write(&path, &[(&format!("statistics/{file}"), &(10 * number).to_string())]);
        }
        assert!(open(lo, Mac([2, 0, 0, 0, 0, 2])).is_none(), "another namespace's");
        assert!(open(u32::MAX >> 1, mac).is_none(), "no such interface");
        let interface = open(lo, mac).unwrap();
        let expected = InterfaceStats { rx_dropped: 0, rx_missed: 10, rx_errors: 20, tx_packets: 30, down: false };
        for (state, down) in [("up", false), ("unknown", false), ("lowerlayerdown", true), ("down", true)] {
            write(&path, &[("operstate", state)]);
            assert_eq!(interface.stats(), Some(InterfaceStats { down, ..expected }), "{state}");
        }
        write(&path, &[("ifindex", &(lo + 1).to_string())]);
        assert_eq!(interface.stats(), None, "another one has its name");
    }
}
