//! Strays: processes that a command has left behind outside its group. When their parent is gone, they become children of the
//! runner, which ends them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};

/// Ends the strays among this process's children: those in none of these groups, whose first processes are the commands themselves.
/// Returns how many there were.
pub(super) fn end_strays(groups: &[Pid]) -> usize {
    let own = getpid();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let mut count = 0;
    for pid in pids.filter(|pid| !groups.contains(pid)) {
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
    fn the_standing_of_a_process_is_read_whatever_its_name_is() {
        let standing = Standing::read("77 (a) Z 1 (b)) Z 5 70 70 0 -1 4228").unwrap();
        assert_eq!(standing, Standing { parent: Pid::from_raw(5), group: Pid::from_raw(70), is_over: true });
        assert_eq!(Standing::read("77 sh S 5"), None);
        let own = Standing::of(getpid()).unwrap();
        assert_eq!((own.parent, own.is_over), (Pid::parent(), false));
    }
}
