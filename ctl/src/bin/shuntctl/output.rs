//! What goes to standard output and standard error, and what happens when that is not possible.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit_code::Exit;

/// Writes text to standard output. Whatever was asked of the daemon has been done by then.
pub(crate) fn print(text: &str) -> Exit {
    exit("shuntd has answered, but the answer", write(text))
}

/// Writes text to standard output, all of it now.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The status for what came of writing something to standard output.
pub(crate) fn exit(what: &str, written: io::Result<()>) -> Exit {
    match written {
        Ok(()) => Exit::Done,
        // The reader has had enough (`| head`): that is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(format_args!("shuntctl: {what} cannot be written: {error}"));
            Exit::Unusable
        }
    }
}

/// Whether nobody reads standard output any more.
pub(crate) fn is_abandoned() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(std::os::fd::AsFd::as_fd(&out), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut polled, PollTimeout::ZERO).is_ok() && polled[0].revents().is_some_and(|events| events.intersects(gone))
}

/// Writes a line to standard error. Where that is not possible, the exit status alone has to say it.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
