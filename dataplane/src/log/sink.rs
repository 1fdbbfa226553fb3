//! The end of the log: writes lines to a descriptor, and counts those that it cannot write.
//!
//! This may wait for as long as it likes, for a reader or for ever: it runs in a thread of its own, which nobody waits for.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CpuSet;
use tracing_appender::non_blocking::ErrorCounter;

use crate::log::form::Form;

/// Lines that may wait to be written. The usual ones take some 600 KiB, the longest 32 MiB.
pub(super) const WAITING: usize = 4_096;

/// How many lines were lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Those for which there was no room while they waited to be written.
    queue: OnceLock<ErrorCounter>,
    /// Those that could not be written.
    unwritten: AtomicU64,
}

impl Lost {
    /// Takes the queue's own count into account.
    pub(super) fn count_queue(&self, counter: ErrorCounter) {
        let _ = self.queue.set(counter);
    }

    /// All of them, since the start.
    pub(super) fn lines(&self) -> u64 {
        let queue = self.queue.get().map_or(0, |counter| counter.dropped_lines() as u64);
        queue + self.unwritten.load(Ordering::Relaxed)
    }
}

/// The cores of the log's threads, once they are known.
pub(super) type Cores = Arc<OnceLock<CpuSet>>;

/// Writes lines to a descriptor. To its caller, it never fails.
#[derive(Debug)]
pub(super) struct Sink<W> {
    out: W,
    form: Form,
    lost: Arc<Lost>,
    /// How many of the lost lines the log has told of.
    told: u64,
    /// Lines written since others were lost in the queue. Those come behind all that waited then.
    behind: usize,
    /// The last line could not be written.
    failing: bool,
    /// Part of a line was written: the next one begins a new line.
    broken: bool,
    pinned: Pinned,
}

/// Moves the thread to its cores, once.
#[derive(Debug)]
pub(super) struct Pinned {
    cores: Cores,
    done: bool,
}

impl Pinned {
    pub(super) fn new(cores: &Cores) -> Pinned {
        Pinned { cores: cores.clone(), done: false }
    }

    /// Moves the calling thread there if they are known, and it is not there yet.
    pub(super) fn keep(&mut self) {
        if !self.done
            && let Some(cores) = self.cores.get()
        {
            // At worst it goes on where it is.
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), cores);
            self.done = true;
        }
    }
}

impl<W: Write + AsFd> Sink<W> {
    pub(super) fn new(out: W, form: Form, lost: &Arc<Lost>, cores: &Cores) -> Self {
        Sink {
            out,
            form,
            lost: lost.clone(),
            told: 0,
            behind: 0,
            failing: false,
            broken: false,
            pinned: Pinned::new(cores),
        }
    }

    /// Tells the reader of the lines that were lost since it was told last. Returns whether it knows of all.
    fn tell_lost(&mut self) -> bool {
        let lost = self.lost.lines();
        if lost == self.told {
            return true;
        }
        self.behind = 0;
        let new = lost - self.told;
        let (lines, were) = if new == 1 { ("line", "was") } else { ("lines", "were") };
        let sentence =
            format!("{new} {lines} of this log {were} lost here: nobody read it, or there was no room on its disk");
        if self.put(&self.form.warning(&sentence)).is_err() {
            return false;
        }
        self.told = lost;
        true
    }

    /// Writes all of a text, however long that takes.
    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        let new_line: &[u8] = if self.broken { b"\n" } else { b"" };
        for mut part in [new_line, text] {
            while !part.is_empty() {
                match self.out.write(part) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        part = &part[written..];
                        self.broken = !part.is_empty();
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // Another process that has the same terminal or pipe can set this at any time.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room(),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) {
        // What is wrong with the descriptor, the next attempt to write says.
        let _ = poll(&mut [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
    }
}

impl<W: Write + AsFd> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.pinned.keep();
        if self.lost.lines() != self.told {
            self.behind += 1;
        }
        let tells = self.failing || self.behind > WAITING;
        self.failing = (tells && !self.tell_lost()) || self.put(line).is_err();
        if self.failing {
            self.lost.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    /// Called when no more lines wait.
    fn flush(&mut self) -> io::Result<()> {
        self.failing = !self.tell_lost();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::BorrowedFd;

    use super::*;

    /// A disk that is full after so many bytes.
    struct Disk {
        file: File,
        free: usize,
    }

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if self.free == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let written = self.file.write(&text[..text.len().min(self.free)])?;
            self.free -= written;
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Disk {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }

    #[test]
    fn a_full_disk_breaks_a_line_off_and_the_next_begins_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lost = Arc::new(Lost::default());
        let disk = Disk { file: File::create(&path).unwrap(), free: 10 };
        let mut sink = Sink::new(disk, Form::Plain, &lost, &Cores::default());
        for line in ["first\n", "second\n", "third\n"] {
            sink.write_all(line.as_bytes()).unwrap();
        }
        sink.flush().unwrap();
        assert_eq!(lost.lines(), 2);
        sink.out.free = 1 << 20;
        sink.write_all(b"fourth\n").unwrap();
        sink.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1], lines[3]), (4, "first", "seco", "fourth"), "{text}");
        assert!(lines[2].contains("WARN 2 lines of this log were lost here: "), "{text}");
    }
}
