//! A command under way, in a process group of its own.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::commands::order::{How, MOST_SAID, Order, first_line};

/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is read in one go of what a command writes, and how often in a turn. The rest of an endless output is for the next turn.
const CHUNK: usize = 16 << 10;
const CHUNKS_IN_A_TURN: usize = 16;
/// What is kept of it until the command ends: its first line may begin with blank ones.
const KEPT: usize = 4 * MOST_SAID;

/// A command under way.
pub(super) struct Run {
    pub(super) id: u64,
    /// Whether it does not count among those that run at once.
    pub(super) beside: bool,
    /// Until when it may run.
    pub(super) until: Instant,
    /// Whether its end was said already: it ran too long, and has been killed.
    pub(super) is_told: bool,
    child: Child,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    /// What it writes; `None`: it has closed that.
    output: Option<PipeReader>,
    said: Vec<u8>,
}

impl Run {
    /// Runs a command.
    pub(super) fn begin(order: &Order, now: Instant) -> Result<Run, How> {
        let unable = |error: io::Error| How::NotBegun { why: plainly(&error) };
        let (program, arguments) = order.command.split_first().ok_or(How::Refused { why: "it is empty".into() })?;
        let (output, write) = pipe().map_err(unable)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| unable(error.into()))?;
        let input = order.input.as_deref().map_or(Ok(Stdio::null()), |text| file_with(text).map(Stdio::from));
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).envs(order.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(input.map_err(unable)?).stdout(write.try_clone().map_err(unable)?).stderr(write);
        let mut child = command.process_group(0).spawn().map_err(refused)?;
        let pidfd = pid(&child).and_then(|pid| {
            let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)?;
            pidfd_open(pid, PidfdFlags::empty()).map_err(|error| Errno::from_raw(error.raw_os_error()))
        });
        let pidfd = pidfd.map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            unable(error.into())
        })?;
        let (id, beside, until) = (order.id, order.beside, now + order.limit());
        Ok(Run { id, beside, until, is_told: false, child, pidfd, output: Some(output), said: Vec::new() })
    }

    /// Its process group, which has the number of its first process.
    pub(super) fn group(&self) -> Option<Pid> {
        pid(&self.child).ok()
    }

    /// What to wait for: its end, and what it writes.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.pidfd.as_fd()].into_iter().chain(self.output.as_ref().map(AsFd::as_fd))
    }

    /// Reads what it has written. What is behind its first words is thrown away.
    pub(super) fn listen(&mut self) {
        let Some(output) = &mut self.output else { return };
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS_IN_A_TURN {
            match output.read(&mut chunk) {
                Ok(0) => {
                    self.output = None;
                    return;
                }
                Ok(len) => self.said.extend(chunk[..len].iter().take(KEPT - self.said.len())),
                Err(_) => return,
            }
        }
    }

    /// Whether its first process has ended. It still has its number then, until [`Run::end`].
    pub(super) fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Ok(pid) = pid(&self.child) else { return true };
        waitid(Id::Pid(pid), flags) != Ok(WaitStatus::StillAlive)
    }

    /// Ends it and all of its group.
    pub(super) fn kill(&self) {
        if let Ok(pid) = pid(&self.child) {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    /// Takes it down after its first process has ended: what that has left behind ends, too.
    pub(super) fn end(mut self) -> How {
        self.listen();
        // Before the first process gives up its number, which is the group's.
        self.kill();
        let said = first_line(&self.said);
        match self.child.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(status), _) => How::Exit { status, said },
                (None, signal) => How::Signal { signal: signal.unwrap_or_default(), said },
            },
            Err(error) => How::NotBegun { why: plainly(&error) },
        }
    }

    /// Gives it more time, because the runner was stopped, and the command perhaps with it.
    pub(super) fn extend(&mut self, time: Duration) {
        self.until += time;
    }
}

fn pid(child: &Child) -> nix::Result<Pid> {
    i32::try_from(child.id()).map(Pid::from_raw).map_err(|_| Errno::ESRCH)
}

/// Text as a file in memory. It has room for any text, which a pipe has not.
fn file_with(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Whether the system lacks something, or objects to this command.
fn refused(error: io::Error) -> How {
    const LACKS: [Errno; 4] = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
    let why = plainly(&error);
    let lacks = error.raw_os_error().is_some_and(|number| LACKS.contains(&Errno::from_raw(number)));
    if lacks { How::NotBegun { why } } else { How::Refused { why } }
}

/// An error without its number.
fn plainly(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().into())
}
