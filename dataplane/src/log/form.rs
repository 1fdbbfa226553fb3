//! The form of a line: as people read it, or as the journal of systemd does.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// More of a text is cut off: what waits to be written must be bounded.
pub(super) const MOST_BYTES: usize = 8_192;

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// People: each line has its time and level.
    Plain,
    /// The journal, which has the time by itself. A line begins with its priority (sd-daemon(3)).
    Journal,
}

impl Form {
    /// That for this file. `journal_stream` is the variable `JOURNAL_STREAM`: device and inode of the journal's socket, where the
    /// process was started with one as its standard error (systemd.exec(5)).
    pub(super) fn of(file: &File, journal_stream: Option<&str>) -> Form {
        let read = |text: &str| {
            let (device, inode) = text.split_once(':')?;
            Some((device.parse().ok()?, inode.parse().ok()?))
        };
        let journal: Option<(u64, u64)> = journal_stream.and_then(read);
        let ours = fstat(file.as_fd()).ok().map(|status| (status.st_dev, status.st_ino));
        if journal.is_some() && journal == ours { Form::Journal } else { Form::Plain }
    }

    /// A text of ours, from `tracing`, in this form.
    pub(super) fn ours(self, level: Level, text: &[u8]) -> Vec<u8> {
        match self {
            Form::Plain => ended(cut(text)),
            Form::Journal => prefixed(priority(level), text),
        }
    }

    /// A line of a library. Libraries do not say how serious they are: that is a notice.
    pub(super) fn of_library(self, text: &[u8]) -> Vec<u8> {
        match self {
            Form::Plain => ended(cut(text)),
            Form::Journal => prefixed(5, text),
        }
    }

    /// A warning of the log itself, as `tracing` would write it.
    pub(super) fn warning(self, sentence: &str) -> Vec<u8> {
        let mut line = String::new();
        if self == Form::Plain {
            // Without the time rather than not at all.
            let _ = SystemTime.format_time(&mut Writer::new(&mut line));
            let _ = write!(line, " {:>5} ", Level::WARN);
        }
        line.push_str(sentence);
        self.ours(Level::WARN, line.as_bytes())
    }
}

/// The priority of a level in the journal (syslog(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The journal makes an entry of each line, so each has its priority.
fn prefixed(priority: u8, text: &[u8]) -> Vec<u8> {
    let text = cut(text.strip_suffix(b"\n").unwrap_or(text));
    let mut lines = Vec::with_capacity(text.len() + 4);
    for line in text.split(|&byte| byte == b'\n') {
        lines.extend_from_slice(format!("<{priority}>").as_bytes());
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    lines
}

fn ended(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    text
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(MOST_BYTES)]
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_journal_is_known_by_its_socket() {
        let (ours, _journal) = UnixStream::pair().unwrap();
        let file = File::from(OwnedFd::from(ours));
        let status = fstat(file.as_fd()).unwrap();
        let stream = format!("{}:{}", status.st_dev, status.st_ino);
        let other = format!("{}:{}", status.st_dev, status.st_ino + 1);
        for (variable, form) in [
            (Some(stream.as_str()), Form::Journal),
            (Some(other.as_str()), Form::Plain),
            (Some("8:"), Form::Plain),
            (Some(""), Form::Plain),
            (None, Form::Plain),
        ] {
            assert_eq!(Form::of(&file, variable), form, "{variable:?}");
        }
    }

    #[test]
    fn each_line_for_the_journal_has_its_priority() {
        let journal = |level, text: &str| String::from_utf8(Form::Journal.ours(level, text.as_bytes())).unwrap();
        assert_eq!(journal(Level::ERROR, "one\n"), "<3>one\n");
        assert_eq!(journal(Level::WARN, "one\ntwo\n"), "<4>one\n<4>two\n");
        assert_eq!((journal(Level::INFO, ""), journal(Level::DEBUG, "x")), ("<6>\n".into(), "<7>x\n".into()));
        assert_eq!(Form::Journal.of_library(b"EAL: x\n"), b"<5>EAL: x\n");
        assert_eq!(Form::Journal.warning("Lost."), b"<4>Lost.\n");
    }

    #[test]
    fn lines_for_people_have_time_and_level() {
        assert_eq!(Form::Plain.ours(Level::INFO, b"as it is\n"), b"as it is\n");
        let warning = String::from_utf8(Form::Plain.warning("Lost.")).unwrap();
        assert!(warning.starts_with("20") && warning.ends_with("Z  WARN Lost.\n"), "{warning}");
    }

    #[test]
    fn no_text_is_longer_than_the_bound() {
        let long = vec![b'x'; 1 << 20];
        for line in [Form::Plain.ours(Level::INFO, &long), Form::Journal.of_library(&long)] {
            assert!(line.len() <= MOST_BYTES + 4 && line.ends_with(b"x\n"));
        }
    }
}
