//! The queue of lines: bounded, and lossy, so that who writes a line never waits.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use crate::log::form::Form;
use crate::log::sink::{Cores, Lost, Sink, WAITING};

/// The queue's entrance.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: NonBlocking,
    form: Form,
}

impl Lines {
    /// A queue to this file, with its thread. When the guard is dropped, what waits is written within a second, or lost.
    pub(super) fn to(out: File, form: Form, lost: &Arc<Lost>, cores: &Cores) -> (Lines, WorkerGuard) {
        let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).thread_name("shunt-log");
        let (queue, guard) = queue.finish(Sink::new(out, form, lost, cores));
        lost.count_queue(queue.error_counter());
        (Lines { queue, form }, guard)
    }

    /// A line of a library.
    pub(super) fn of_library(&mut self, text: &[u8]) {
        // A line that finds no room is counted as lost, and no error.
        let _ = self.queue.write_all(&self.form.of_library(text));
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: self.clone(), level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { lines: self.clone(), level: *metadata.level() }
    }
}

/// Takes one event of `tracing`, which is written at once.
#[derive(Debug)]
pub(super) struct Line {
    lines: Lines,
    level: Level,
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.queue.write_all(&self.lines.form.ours(self.level, text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    struct Rig {
        lines: Lines,
        guard: WorkerGuard,
        lost: Arc<Lost>,
    }

    fn to(out: impl Into<OwnedFd>) -> Rig {
        let lost = Arc::new(Lost::default());
        let (lines, guard) = Lines::to(File::from(out.into()), Form::Plain, &lost, &Cores::default());
        Rig { lines, guard, lost }
    }

    impl Rig {
        fn write(&self, line: &str) {
            // In one piece, as `tracing_subscriber` does.
            self.lines.make_writer().write_all(format!("{line}\n").as_bytes()).unwrap();
        }

        /// Far more than the queue and a pipe hold.
        fn flood(&self, lines: usize) {
            let begin = Instant::now();
            (0..lines).for_each(|number| self.write(&format!("line {number}")));
            assert!(begin.elapsed() < Duration::from_secs(10), "nobody waits for the reader");
        }
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    const FLOOD: usize = 100_000;

    fn reader_of_nothing_delays_nobody(out: impl Into<OwnedFd>) {
        let rig = to(out);
        rig.flood(FLOOD);
        assert!(rig.lost.lines() > 0);
        let begin = Instant::now();
        drop(rig.guard);
        assert!(begin.elapsed() < Duration::from_secs(4), "the end waits for a moment only");
    }

    #[test]
    fn a_pipe_that_nobody_reads_delays_nobody() {
        let (_unread, out) = io::pipe().unwrap();
        reader_of_nothing_delays_nobody(out);
    }

    /// As the journal's is.
    #[test]
    fn a_socket_that_nobody_reads_delays_nobody() {
        let (_unread, out) = UnixStream::pair().unwrap();
        reader_of_nothing_delays_nobody(out);
    }

    #[test]
    fn a_terminal_that_nobody_reads_delays_nobody() {
        let terminal = nix::pty::openpty(None, None).unwrap();
        reader_of_nothing_delays_nobody(terminal.slave);
    }

    #[test]
    fn a_pipe_whose_reader_is_gone_and_a_full_disk_lose_each_line() {
        let (read, out) = io::pipe().unwrap();
        drop(read);
        for out in [OwnedFd::from(out), File::options().write(true).open("/dev/full").unwrap().into()] {
            let rig = to(out);
            (0..10).for_each(|number| rig.write(&number.to_string()));
            until("each line is counted", || rig.lost.lines() == 10);
            drop(rig.guard);
            assert_eq!(rig.lost.lines(), 10);
        }
    }

    #[test]
    fn who_reads_again_is_told_how_many_lines_were_lost() {
        let (read, out) = io::pipe().unwrap();
        let rig = to(out);
        rig.flood(FLOOD);
        let lost = rig.lost.lines();
        let mut lines = BufReader::new(read).lines().map(Result::unwrap);
        let (mut read, mut told) = (0, Vec::new());
        while read + told.iter().sum::<u64>() < FLOOD as u64 {
            let line = lines.next().unwrap();
            match line.split_once("Z  WARN ") {
                Some((_, sentence)) => {
                    assert!(sentence.contains(" lines of this log were lost here: "), "{sentence}");
                    told.push(sentence.split(' ').next().unwrap().parse::<u64>().unwrap());
                }
                None => read += 1,
            }
        }
        assert_eq!(told.iter().sum::<u64>(), lost, "each line is read or told of");
        // One when the queue is empty, and some in the flood.
        assert!((1..10).contains(&told.len()), "{told:?}");
        rig.write("the last");
        assert_eq!(lines.next().unwrap(), "the last", "told once");
        assert_eq!(rig.lost.lines(), lost);
    }

    #[test]
    fn a_descriptor_that_does_not_block_is_waited_for() {
        let (mut read, out) = UnixStream::pair().unwrap();
        out.set_nonblocking(true).unwrap();
        let rig = to(out);
        // More than the socket holds, less than the queue does.
        let line = "x".repeat(1_000);
        (0..2_000).for_each(|_| rig.write(&line));
        std::thread::sleep(Duration::from_millis(50));
        let mut text = vec![0; 2_000 * 1_001];
        read.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        read.read_exact(&mut text).unwrap();
        assert_eq!(rig.lost.lines(), 0);
        assert!(text.split(|&byte| byte == b'\n').take(2_000).all(|found| found == line.as_bytes()));
    }
}
