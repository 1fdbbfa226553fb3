//! The file descriptors that a driver opens for a port.
//!
//! DPDK's drivers keep theirs to themselves. But a descriptor is one of this process: those of a port are those that have appeared when it is
//! open.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::path::PathBuf;

use nix::libc;

/// A file descriptor of this process, and what it stands for, which tells it from an earlier or later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Descriptor {
    pub(super) number: RawFd,
    pub(super) target: PathBuf,
}

impl Descriptor {
    /// The address family of a socket (`AF_XDP`, …). `None`: it is no socket.
    pub(super) fn family(&self) -> Option<i32> {
        // SAFETY: a number.
        unsafe { option(self.number, libc::SOL_SOCKET, libc::SO_DOMAIN) }
    }

    /// Whether it is a program or a map of the kernel's virtual machine.
    pub(super) fn is_bpf(&self) -> bool {
        const KINDS: [&str; 4] = ["anon_inode:bpf-map", "anon_inode:bpf-prog", "anon_inode:bpf_link", "anon_inode:btf"];
        KINDS.iter().any(|kind| self.target.as_os_str() == *kind)
    }
}

/// The file descriptors of this process at some moment.
pub(super) struct Descriptors(BTreeSet<Descriptor>);

impl Descriptors {
    /// Those of now.
    pub(super) fn now() -> Self {
        let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let descriptor = |file: std::fs::DirEntry| {
            let number = file.file_name().to_str()?.parse().ok()?;
            Some(Descriptor { number, target: std::fs::read_link(file.path()).ok()? })
        };
        Descriptors(files.filter_map(descriptor).collect())
    }

    /// Whether this one is among them.
    pub(super) fn contains(&self, descriptor: &Descriptor) -> bool {
        self.0.contains(descriptor)
    }

    /// Those that have come since, whoever has opened them.
    pub(super) fn more(&self) -> impl Iterator<Item = Descriptor> {
        Descriptors::now().0.into_iter().filter(|descriptor| !self.contains(descriptor))
    }
}

/// An option of a socket. `None`: it has none of this kind, or the number stands for no socket.
///
/// # Safety
/// `T` is made of numbers: zeros, and whatever the kernel may write, are a value.
pub(super) unsafe fn option<T: Copy>(number: RawFd, level: i32, name: i32) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let size = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    let mut len = size;
    // SAFETY: the kernel writes at most `len` bytes to the value, and looks at no other memory; whatever the number stands for, nothing of it
    // is changed but its statistics.
    let code = unsafe { libc::getsockopt(number, level, name, value.as_mut_ptr().cast(), &raw mut len) };
    // SAFETY: zero or written, and by the caller's word a value.
    (code == 0 && len == size).then(|| unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_has_come_is_found_also_where_it_has_an_old_number() {
        let (old, stays) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let before = Descriptors::now();
        drop(old);
        // The kernel gives the lowest number that is free.
        let new = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found: Vec<RawFd> = before.more().map(|descriptor| descriptor.number).collect();
        assert!(found.contains(&new.as_raw_fd()) && !found.contains(&stays.as_raw_fd()), "{found:?}");
        let family = |number| Descriptor { number, target: PathBuf::new() }.family();
        assert_eq!((family(new.as_raw_fd()), family(0), family(-1)), (Some(libc::AF_INET), None, None));
    }
}
