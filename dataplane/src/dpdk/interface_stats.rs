//! What the kernel counts at a Linux interface.

use std::path::{Path, PathBuf};

use ctl::Mac;

/// What is read of it, since the port was opened.
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

/// A Linux interface whose counters are to be had. They are read from /sys, which needs no lock of the kernel's that others may hold.
#[derive(Debug)]
pub(super) struct Interface {
    folder: PathBuf,
    index: u32,
    before: InterfaceStats,
}

impl Interface {
    /// The interface of this index and MAC address. `None` where /sys does not have it: it may be that of another network namespace.
    pub(super) fn of(index: u32, mac: Mac) -> Option<Self> {
        let name = nix::net::if_::if_indextoname(index).ok()?.into_string().ok()?;
        Self::in_folder(Path::new("/sys/class/net").join(name), index, mac)
    }

    fn in_folder(folder: PathBuf, index: u32, mac: Mac) -> Option<Self> {
        let address = std::fs::read_to_string(folder.join("address")).ok()?;
        if address.trim().parse() != Ok(mac) {
            return None;
        }
        let mut interface = Interface { folder, index, before: InterfaceStats::default() };
        interface.before = interface.now()?;
        Some(interface)
    }

    /// What has been counted since the port was opened. `None`: the interface is gone, or another one has its name.
    pub(super) fn since_opened(&self) -> Option<InterfaceStats> {
        let (now, before) = (self.now()?, &self.before);
        Some(InterfaceStats {
            rx_dropped: now.rx_dropped.saturating_sub(before.rx_dropped),
            rx_missed: now.rx_missed.saturating_sub(before.rx_missed),
            rx_errors: now.rx_errors.saturating_sub(before.rx_errors),
            tx_packets: now.tx_packets.saturating_sub(before.tx_packets),
            down: now.down,
        })
    }

    fn now(&self) -> Option<InterfaceStats> {
        let read = |file: &str| std::fs::read_to_string(self.folder.join(file)).ok();
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let count = |name: &str| number(&format!("statistics/{name}"));
        if number("ifindex")? != u64::from(self.index) {
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
    fn what_was_counted_before_the_port_was_opened_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mac) = (folder.path(), Mac([2, 0, 0, 0, 0, 1]));
        let open = || Interface::in_folder(path.into(), 7, mac);
        assert!(open().is_none(), "no such interface");
        write(path, &[("address", "02:00:00:00:00:01"), ("ifindex", "7"), ("operstate", "up")]);
        for (number, file) in ["rx_dropped", "rx_missed_errors", "rx_errors", "tx_packets"].iter().enumerate() {
            write(path, &[(&format!("statistics/{file}"), &(10 * number).to_string())]);
        }
        let interface = open().unwrap();
        write(
            path,
            &[("statistics/rx_dropped", "5"), ("statistics/tx_packets", "29"), ("operstate", "lowerlayerdown")],
        );
        let stats = InterfaceStats { rx_dropped: 5, rx_missed: 0, rx_errors: 0, tx_packets: 0, down: true };
        assert_eq!(interface.since_opened(), Some(stats), "a counter that went back says nothing");
        write(path, &[("operstate", "unknown")]);
        assert_eq!(interface.since_opened(), Some(InterfaceStats { down: false, ..stats }));
        write(path, &[("ifindex", "8")]);
        assert_eq!(interface.since_opened(), None, "another one has its name");
        assert!(open().is_none());
        assert!(Interface::in_folder(path.into(), 8, Mac([2, 0, 0, 0, 0, 2])).is_none(), "another namespace's");
    }
}
