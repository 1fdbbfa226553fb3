//! Hugepages: how much of them DPDK can use, and why not the rest.
//!
//! DPDK (22.11, `eal_hugepage_info.c`) takes pages of a size from the first hugetlbfs in `/proc/mounts` that has this size; where there is
//! none, it leaves them alone, however many are free. With `--in-memory` it needs no mount. At a mount that it may not open, it gives up
//! altogether. Which sizes it takes first does not matter here: a pool of packet buffers may lie in pages of several sizes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// The hugepages of a machine.
#[derive(Debug, Default)]
pub(super) struct Hugepages(Vec<Size>);

/// Those of one size.
#[derive(Debug)]
struct Size {
    kib: usize,
    free: usize,
    way: Way,
}

/// How DPDK comes by pages of a size.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Mounted(PathBuf),
    /// It needs no mount.
    Anonymous,
    NotMounted,
    /// It may not use the mount.
    Forbidden(PathBuf),
}

/// Where the facts about a machine are.
struct Machine<'m> {
    sizes: &'m Path,
    mounts: &'m str,
    meminfo: &'m str,
    eal_args: &'m [String],
}

impl Hugepages {
    /// Those of this machine, for a DPDK with these arguments.
    pub(super) fn look(eal_args: &[String]) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, meminfo) = (read("/proc/mounts"), read("/proc/meminfo"));
        let sizes = Path::new("/sys/kernel/mm/hugepages");
        Self::of(&Machine { sizes, mounts: &mounts, meminfo: &meminfo, eal_args })
    }

    fn of(machine: &Machine<'_>) -> Self {
        let folders = fs::read_dir(machine.sizes).into_iter().flatten().flatten();
        let size = |folder: fs::DirEntry| {
            let name = folder.file_name().into_string().ok()?;
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(Size { kib, free: free(&folder.path()), way: machine.way(kib) })
        };
        let mut sizes: Vec<Size> = folders.filter_map(size).collect();
        sizes.sort_by_key(|size| size.kib);
        Hugepages(sizes)
    }

    /// How many bytes DPDK can use.
    pub(super) fn usable(&self) -> usize {
        let usable = |size: &&Size| matches!(size.way, Way::Mounted(_) | Way::Anonymous);
        let forbidden = self.0.iter().any(|size| matches!(size.way, Way::Forbidden(_)));
        if forbidden { 0 } else { self.0.iter().filter(usable).map(Size::bytes).sum() }
    }

    /// What keeps DPDK from using pages that are free, and what to do.
    pub(super) fn advice(&self) -> Option<String> {
        let advice: Vec<String> = self.0.iter().filter_map(Size::advice).collect();
        (!advice.is_empty()).then(|| advice.join("; "))
    }
}

impl Size {
    fn bytes(&self) -> usize {
        self.kib * 1_024 * self.free
    }

    /// As mount(8) writes it.
    fn name(&self) -> String {
        if self.kib.is_multiple_of(1 << 20) { format!("{}G", self.kib >> 20) } else { format!("{}M", self.kib >> 10) }
    }

    fn advice(&self) -> Option<String> {
        let (name, free) = (self.name(), self.free);
        match &self.way {
            Way::NotMounted if free > 0 => {
                let mount = format!(
                    "mkdir -p /dev/hugepages{name} && mount -t hugetlbfs -o pagesize={name} none /dev/hugepages{name}"
                );
                Some(format!("{free} hugepages of {name} are free, but DPDK cannot use them without a mount: {mount}"))
            }
            Way::Forbidden(at) => Some(format!(
                "this user may not use {}, where hugepages of {name} are mounted, and DPDK uses no hugepages then: mount it with \
                 uid= and gid= of this user",
                at.display()
            )),
            _ => None,
        }
    }
}

impl Machine<'_> {
    fn way(&self, kib: usize) -> Way {
        let in_memory = self.eal_args.iter().any(|argument| argument == "--in-memory");
        match self.mount(kib) {
            // There, it makes no files.
            Some(at) if access(&at, rights(in_memory)).is_err() => Way::Forbidden(at),
            Some(at) => Way::Mounted(at),
            None if in_memory => Way::Anonymous,
            None => Way::NotMounted,
        }
    }

    /// The first mount of a size.
    fn mount(&self, kib: usize) -> Option<PathBuf> {
        let mounts = self.mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="));
            let of_size = size.map_or_else(|| self.default_kib(), kib_of) == Some(kib);
            (kind == "hugetlbfs" && of_size).then(|| PathBuf::from(at.replace("\\040", " ")))
        });
        let mut mounts = mounts.filter(|at| self.folder().is_none_or(|folder| Path::new(folder) == at));
        mounts.next()
    }

    /// The size of a mount that does not say one.
    fn default_kib(&self) -> Option<usize> {
        let line = self.meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// The only mount that DPDK is to use.
    fn folder(&self) -> Option<&str> {
        let arguments = self.eal_args;
        let joined = arguments.iter().find_map(|argument| argument.strip_prefix("--huge-dir="));
        let name = arguments.iter().position(|argument| argument == "--huge-dir");
        joined.or_else(|| arguments.get(name? + 1).map(String::as_str))
    }
}

fn rights(in_memory: bool) -> AccessFlags {
    let read = AccessFlags::R_OK | AccessFlags::X_OK;
    if in_memory { read } else { read | AccessFlags::W_OK }
}

/// "2M", "1024M", "1G" or "2048K".
fn kib_of(size: &str) -> Option<usize> {
    let (number, unit) = size.split_at_checked(size.len().checked_sub(1)?)?;
    let factor = match unit {
        "K" | "k" => 1,
        "M" | "m" => 1 << 10,
        "G" | "g" => 1 << 20,
        _ => return size.parse::<usize>().ok().map(|bytes| bytes >> 10),
    };
    number.parse::<usize>().ok().map(|number| number * factor)
}

/// Pages that nobody has or has been promised; and those that the kernel would make on demand.
fn free(folder: &Path) -> usize {
    let count = |name: &str| -> usize {
        fs::read_to_string(folder.join(name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
    free + count("nr_overcommit_hugepages").saturating_sub(count("surplus_hugepages"))
}

/// What there is: "512 free of 2M on /dev/hugepages, 2 free of 1G, not mounted".
impl fmt::Display for Hugepages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.iter().map(|size| {
            let way = match &size.way {
                Way::Mounted(at) => format!(" on {}", at.display()),
                Way::Anonymous => String::new(),
                Way::NotMounted => " not mounted".into(),
                Way::Forbidden(at) => format!(" on {}, which this user may not use", at.display()),
            };
            format!("{} free of {}{way}", size.free, size.name())
        });
        let sizes: Vec<String> = sizes.collect();
        f.write_str(if sizes.is_empty() { "this kernel has none".into() } else { sizes.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal: 1 kB\nHugepagesize:       2048 kB\n";

    /// A machine with these free pages of 2 MiB and of 1 GiB. "DIR" in the mounts is a folder that is there.
    fn look(free: [&str; 2], mounts: &str, eal_args: &[&str]) -> Hugepages {
        let folder = tempfile::tempdir().unwrap();
        for (size, free) in ["hugepages-2048kB", "hugepages-1048576kB"].iter().zip(free) {
            let size = folder.path().join(size);
            fs::create_dir(&size).unwrap();
            fs::write(size.join("free_hugepages"), format!("{free}\n")).unwrap();
        }
        let mounts = mounts.replace("DIR", folder.path().to_str().unwrap());
        let eal_args: Vec<String> =
            eal_args.iter().map(|arg| arg.replace("DIR", folder.path().to_str().unwrap())).collect();
        Hugepages::of(&Machine { sizes: folder.path(), mounts: &mounts, meminfo: MEMINFO, eal_args: &eal_args })
    }

    const SYSFS: &str = "sysfs /sys sysfs rw 0 0\n";
    const MOUNTED_2M: &str = "sysfs /sys sysfs rw 0 0\nhugetlbfs DIR hugetlbfs rw,relatime,pagesize=2M 0 0\n";
    const MOUNTED_BY_DEFAULT: &str = "none DIR hugetlbfs rw,relatime 0 0\n";
    const MOUNTED_1G: &str = "none DIR hugetlbfs rw,pagesize=1024M 0 0\n";

    #[test]
    fn a_size_counts_only_where_it_is_mounted() {
        let (of_2m, of_1g) = (20 << 20, 1 << 30);
        let both = format!("{MOUNTED_2M}{MOUNTED_1G}");
        for (mounts, eal_args, usable) in [
            (SYSFS, &[][..], 0),
            (MOUNTED_2M, &[], of_2m),
            (MOUNTED_BY_DEFAULT, &[], of_2m),
            (MOUNTED_1G, &[], of_1g),
            (both.as_str(), &[], of_2m + of_1g),
            (SYSFS, &["--in-memory"], of_2m + of_1g),
            (both.as_str(), &["--huge-dir=/elsewhere"], 0),
            (both.as_str(), &["--huge-dir", "DIR"], of_2m + of_1g),
            ("none /nowhere hugetlbfs rw,pagesize=2M 0 0\n", &[], 0),
        ] {
            assert_eq!(look(["10", "1"], mounts, eal_args).usable(), usable, "{mounts} {eal_args:?}");
        }
    }

    #[test]
    fn a_mount_that_may_not_be_used_ends_all_use() {
        let found = look(["10", "1"], &format!("none /nowhere hugetlbfs rw,pagesize=1G 0 0\n{MOUNTED_2M}"), &[]);
        assert_eq!(found.usable(), 0);
        assert!(found.advice().unwrap().contains("this user may not use /nowhere, where hugepages of 1G are mounted"));
    }

    #[test]
    fn what_is_free_and_not_used_is_said_with_what_to_do() {
        let found = look(["10", "3"], MOUNTED_2M, &[]);
        let advice = found.advice().unwrap();
        assert!(advice.starts_with("3 hugepages of 1G are free, but"), "{advice}");
        assert!(advice.contains("mount -t hugetlbfs -o pagesize=1G none /dev/hugepages1G"), "{advice}");
        assert!(!advice.contains("2M"), "{advice}");
        assert!(
            found.to_string().starts_with("10 free of 2M on /")
                && found.to_string().ends_with("3 free of 1G not mounted"),
            "{found}"
        );
        assert_eq!(look(["10", "0"], MOUNTED_2M, &[]).advice(), None);
        assert_eq!(look(["0", "0"], SYSFS, &[]).advice(), None);
    }

    #[test]
    fn pages_that_are_promised_to_others_are_not_free() {
        let folder = tempfile::tempdir().unwrap();
        for (name, count) in
            [("free_hugepages", 10), ("resv_hugepages", 4), ("nr_overcommit_hugepages", 3), ("surplus_hugepages", 1)]
        {
            fs::write(folder.path().join(name), count.to_string()).unwrap();
        }
        assert_eq!(free(folder.path()), 8);
        fs::write(folder.path().join("resv_hugepages"), "11").unwrap();
        assert_eq!(free(folder.path()), 2);
    }

    #[test]
    fn sizes_are_read_as_mount_writes_them() {
        for (text, kib) in [("2M", 2_048), ("1024M", 1 << 20), ("1G", 1 << 20), ("64K", 64), ("2097152", 2_048)] {
            assert_eq!(kib_of(text), Some(kib), "{text}");
        }
        assert!(["", "M", "x", "2X", "é"].iter().all(|text| kib_of(text).is_none()));
    }
}
