//! Strays: processes that a command has left behind outside its group. When their parent is gone, they become children of the
//! runner, which ends them.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};

/// Ends the strays among this process's children: those in none of these groups, whose first processes are the commands themselves.
/// Returns how many there were. `all`: none is to be missed. The list of this process's children may lack some while others end
/// (proc(5)), and those are found when the next command has ended.
pub(super) fn end_strays(groups: &[Pid], all: bool) -> usize {
    let own = getpid();
    let children = if all { None } else { children(Path::new("/proc/self/task")) };
    let mut count = 0;
    for pid in children.unwrap_or_else(processes).into_iter().filter(|pid| !groups.contains(pid)) {
        let Some(standing) = Standing::of(pid).filter(|standing| standing.parent == own) else { continue };
        if standing.is_over {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        } else if !groups.contains(&standing.group) {
            let _ = kill(pid, Signal::SIGKILL);
            count += 1;
        }
    }
    count
}

/// The children of a process, whose threads have a folder each there. `None`: the kernel has no such list (CONFIG_PROC_CHILDREN).
fn children(threads: &Path) -> Option<Vec<Pid>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(threads).ok()?.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).ok()?;
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)));
    }
    Some(all)
}

/// All processes that there are.
fn processes() -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect()
}

/// How a process stands.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    parent: Pid,
    group: Pid,
    /// Whether it has ended, and nobody has asked how.
    is_over: bool,
}

impl Standing {
    fn of(pid: Pid) -> Option<Standing> {
        Standing::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// From `/proc/PID/stat` (proc(5)). A program's name may have blanks and parentheses.
    fn read(stat: &str) -> Option<Standing> {
        let mut words = stat.rsplit_once(')')?.1.split_whitespace();
        let state = words.next()?;
        let mut next = || words.next()?.parse().ok().map(Pid::from_raw);
        Some(Standing { parent: next()?, group: next()?, is_over: state == "Z" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_all_threads_are_read_where_the_kernel_lists_them() {
        let threads = tempfile::tempdir().unwrap();
        for (thread, list) in [("7", "12 13 "), ("8", ""), ("9", "14 ")] {
            fs::create_dir(threads.path().join(thread)).unwrap();
            fs::write(threads.path().join(thread).join("children"), list).unwrap();
        }
        let mut all = children(threads.path()).unwrap();
        all.sort_unstable();
        assert_eq!(all, [12, 13, 14].map(Pid::from_raw));
        fs::remove_file(threads.path().join("8/children")).unwrap();
        assert_eq!(children(threads.path()), None);
        assert!(processes().contains(&getpid()));
    }

    #[test]
    fn the_standing_of_a_process_is_read_whatever_its_name_is() {
        let standing = Standing::read("77 (a) Z 1 (b)) Z 5 70 70 0 -1 4228").unwrap();
        assert_eq!(standing, Standing { parent: Pid::from_raw(5), group: Pid::from_raw(70), is_over: true });
        assert_eq!(Standing::read("77 sh S 5"), None);
        let own = Standing::of(getpid()).unwrap();
        assert_eq!((own.parent, own.is_over), (Pid::parent(), false));
    }
}
