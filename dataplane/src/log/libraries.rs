//! What libraries print: DPDK, libbpf and libxdp write to standard output and standard error by themselves, from any thread.
//!
//! A pipe takes the place of both, and a thread makes lines of the log of what comes through it. Its end that is written to does not
//! block, and its other end is always read: the log's queue never blocks. So no thread ever waits in a library that has something to
//! say, and none is ended by SIGPIPE.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{dup2_stderr, dup2_stdout, pipe2};

use crate::log::form::MOST_BYTES;
use crate::log::lines::Lines;
use crate::log::sink::Pinned;

/// How long the end waits for the last lines: they are in memory already.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The thread that reads what libraries print.
#[derive(Debug)]
pub(super) struct Libraries {
    /// Disconnected when it has read all.
    ended: Receiver<()>,
}

impl Libraries {
    /// Takes the places of standard output and standard error.
    pub(super) fn take_in(lines: Lines, pinned: Pinned) -> io::Result<Libraries> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(write.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (ending, ended) = mpsc::channel();
        let body = move || {
            forward(&mut File::from(read), lines, pinned);
            drop(ending);
        };
        std::thread::Builder::new().name("shunt-libraries".into()).spawn(body)?;
        replace(&write)?;
        Ok(Libraries { ended })
    }

    /// What was printed up to now is in the queue when this returns; what is printed later goes nowhere.
    pub(super) fn end(&self) {
        // With the last descriptor that writes to it, the pipe ends.
        let nowhere = File::options().write(true).open("/dev/null");
        if nowhere.is_ok_and(|nowhere| replace(&nowhere.into()).is_ok()) {
            let _ = self.ended.recv_timeout(LAST_LINES);
        }
    }
}

fn replace(by: &OwnedFd) -> io::Result<()> {
    dup2_stdout(by)?;
    dup2_stderr(by)?;
    Ok(())
}

/// Makes lines of all that comes, until nobody can write any more.
fn forward(from: &mut impl Read, mut lines: Lines, mut pinned: Pinned) {
    let mut text: Vec<u8> = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        pinned.keep();
        text.extend_from_slice(&chunk[..count]);
        while let Some(end) = end_of_line(&text) {
            let rest = text.split_off(end);
            lines.of_library(&std::mem::replace(&mut text, rest));
        }
    }
    if !text.is_empty() {
        lines.of_library(&text);
    }
}

/// Where the first line ends, if it is whole, or as long as a line may be.
fn end_of_line(text: &[u8]) -> Option<usize> {
    let line = &text[..text.len().min(MOST_BYTES)];
    let end = line.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
    end.or((line.len() == MOST_BYTES).then_some(MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::form::Form;
    use crate::log::sink::{Cores, Lost};

    #[test]
    fn what_is_printed_becomes_lines() {
        let (mut read, out) = io::pipe().unwrap();
        let lost = Arc::new(Lost::default());
        let (lines, guard) = Lines::to(File::from(OwnedFd::from(out)), Form::Journal, &lost, &Cores::default());
        let printed = format!("EAL: one\ntwo\n\n{}\nno end", "x".repeat(2 * MOST_BYTES));
        forward(&mut printed.as_bytes(), lines, Pinned::new(&Cores::default()));
        drop(guard);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert!(text.lines().all(|line| line.starts_with("<5>") && line.len() <= 3 + MOST_BYTES), "{text}");
        assert!(text.starts_with("<5>EAL: one\n<5>two\n<5>\n<5>xxx") && text.ends_with("\n<5>no end\n"), "{text}");
        assert_eq!(text.matches('x').count(), 2 * MOST_BYTES, "nothing is lost");
    }
}
