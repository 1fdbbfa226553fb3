//! One daemon for a Linux interface: two on one would each receive, and forward, every frame.
//!
//! The lock goes by network namespace and interface index, and not by name: an interface that was renamed is the same one, and one that was made
//! again is another. It is taken before DPDK touches the interface, because a driver that fails there takes away the XDP program of
//! whoever has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::lock_file::{LockError, LockFile};
use crate::dpdk::device::Device;
use crate::dpdk::port_error::PortError;

/// The arguments of virtual devices that name a Linux interface which is there already (net_af_packet, net_af_xdp, net_pcap, net_tap).
const ARGUMENTS: [&str; 6] = ["iface", "rx_iface", "rx_iface_in", "tx_iface", "tx_iface_out", "remote"];

/// A device's claim to its Linux interfaces, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// What is to be said of it: interfaces that could not be locked.
    pub(super) warnings: Vec<String>,
    locks: Vec<LockFile>,
}

impl Claim {
    /// Claims a device's interfaces. An error, if another process has one.
    pub(super) fn take(device: &Device) -> Result<Claim, PortError> {
        Self::take_in(Path::new(ctl::DEFAULT_SOCKET).parent().unwrap_or(Path::new("/run")), device)
    }

    fn take_in(folder: &Path, device: &Device) -> Result<Claim, PortError> {
        let mut claim = Claim::default();
        for (index, name) in by_index(device) {
            match lock(folder, index) {
                Ok(lock) => claim.locks.push(lock),
                Err(Failure::Lock(LockError::Held { pid, .. })) => {
                    return Err(PortError::Claimed { device: device.to_string(), interface: name.into(), pid });
                }
                Err(Failure::Lock(error @ LockError::Io { .. })) => {
                    return Err(PortError::NoLock { device: device.to_string(), source: error });
                }
                Err(Failure::Impossible(what, error)) => claim.warnings.push(format!(
                    "A second shuntd on {name} would not be kept off, because {what} ({error}): have systemd make the folder \
                     (RuntimeDirectory=shunt), or start no second one"
                )),
            }
        }
        Ok(claim)
    }
}

enum Failure {
    /// Somebody has it, or the lock file is not as it should be.
    Lock(LockError),
    /// This process cannot have such locks.
    Impossible(String, io::Error),
}

fn lock(folder: &Path, interface: u32) -> Result<LockFile, Failure> {
    let namespace = fs::metadata("/proc/thread-self/ns/net").map(|metadata| metadata.ino());
    let namespace =
        namespace.map_err(|error| Failure::Impossible("/proc does not tell its network namespace".into(), error))?;
    let file: PathBuf = folder.join(format!("interface-{namespace}-{interface}.lock"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|error| Failure::Impossible(format!("{} cannot be made", folder.display()), error))?;
    match LockFile::take(&file) {
        Ok(lock) => Ok(lock),
        // Nothing is there, and nothing can be.
        Err(LockError::Io { source, .. }) if fs::symlink_metadata(&file).is_err() => {
            Err(Failure::Impossible(format!("{} is not to be written to", folder.display()), source))
        }
        Err(error) => Err(Failure::Lock(error)),
    }
}

/// The Linux interfaces that a device goes by.
pub(super) fn interfaces(device: &Device) -> Vec<u32> {
    by_index(device).into_keys().collect()
}

/// The same with their names. What is not there yet is the device's own, which it makes (net_tap).
fn by_index(device: &Device) -> BTreeMap<u32, &str> {
    let index = |name| nix::net::if_::if_nametoindex(name).ok().map(|index| (index, name));
    names(device).into_iter().filter_map(index).collect()
}

fn names(device: &Device) -> Vec<&str> {
    match device {
        Device::Interface { name, .. } => vec![name],
        Device::Vdev(arguments) => {
            let pairs = arguments.split(',').filter_map(|argument| argument.split_once('='));
            pairs.filter(|(key, _)| ARGUMENTS.contains(key)).map(|(_, name)| name).collect()
        }
        Device::Pci(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::device::Driver;

    fn lo() -> Device {
        Device::Interface { name: "lo".into(), driver: Driver::Auto }
    }

    #[test]
    fn an_interface_has_one_owner_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("run");
        let claim = Claim::take_in(&folder, &lo()).unwrap();
        assert_eq!((claim.locks.len(), claim.warnings.len()), (1, 0));
        for again in [
            lo(),
            Device::Vdev("net_af_packet3,iface=lo,qpairs=2".into()),
            Device::Vdev("net_pcap1,tx_iface=lo".into()),
        ] {
            let error = Claim::take_in(&folder, &again).unwrap_err();
            assert!(matches!(error, PortError::Claimed { pid: Some(pid), .. } if pid == std::process::id()), "{again}");
            assert!(error.to_string().contains(&format!("process {} has lo", std::process::id())), "{error}");
        }
        for other in ["net_null0", "net_af_packet3,iface=no-such-0", "net_memif0,role=client", "net_tap0,iface=dtap9"] {
            assert_eq!(Claim::take_in(&folder, &Device::Vdev(other.into())).unwrap().locks.len(), 0, "{other}");
        }
        let twice = "net_pcap1,rx_iface=lo,tx_iface=lo";
        drop(claim);
        assert_eq!(Claim::take_in(&folder, &Device::Vdev(twice.into())).unwrap().locks.len(), 1);
        assert_eq!(Claim::take_in(&folder, &Device::Pci("0000:03:00.1".into())).unwrap().locks.len(), 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn without_a_folder_there_is_a_warning_and_a_link_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let claim = Claim::take_in(&file.join("run"), &lo()).unwrap();
        assert_eq!((claim.locks.len(), claim.warnings.len()), (0, 1));
        assert!(claim.warnings[0].starts_with("A second shuntd on lo would not be kept off"), "{}", claim.warnings[0]);

        let place = |claim: &Claim| fs::read_dir(folder.path()).unwrap().count() + claim.locks.len();
        let claim = Claim::take_in(folder.path(), &lo()).unwrap();
        assert_eq!(place(&claim), 3);
        let name = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).find(|path| *path != file);
        drop(claim);
        std::os::unix::fs::symlink(&file, name.unwrap()).unwrap();
        assert!(matches!(Claim::take_in(folder.path(), &lo()), Err(PortError::NoLock { .. })));
    }
}
