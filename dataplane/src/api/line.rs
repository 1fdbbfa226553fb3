//! Lines of a client: how long one may be, and how long it may take, to be read and to be written.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ctl::MAX_REQUEST_BYTES;

/// A line must be whole this long after its first byte.
pub(super) const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client may be silent for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client must take its answer within this time.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its newline. The last one may have none: the end of what is sent ends it, too.
    Whole(Vec<u8>),
    /// More than [`MAX_REQUEST_BYTES`] without a newline.
    TooLong,
    /// The beginning of a line, and then nothing more in time.
    TooSlow,
    /// Nothing more, or nothing for a long time.
    End,
}

/// Reads a line; `buffer` keeps what came behind it for the next call.
pub(super) fn read_line(mut stream: &UnixStream, buffer: &mut Vec<u8>) -> io::Result<Line> {
    let mut searched = 0;
    let mut deadline = Instant::now() + if buffer.is_empty() { IDLE_TIMEOUT } else { LINE_TIMEOUT };
    loop {
        if let Some(end) = buffer[searched..].iter().position(|&byte| byte == b'\n') {
            let rest = buffer.split_off(searched + end + 1);
            let mut line = std::mem::replace(buffer, rest);
            line.pop();
            return Ok(Line::Whole(line));
        }
        searched = buffer.len();
        if searched >= MAX_REQUEST_BYTES {
            return Ok(Line::TooLong);
        }
        let slow = |buffer: &[u8]| if buffer.is_empty() { Line::End } else { Line::TooSlow };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(slow(buffer));
        }
        stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) if buffer.is_empty() => return Ok(Line::End),
            // As `printf '…' | nc` sends it. A request is whole when its JSON is, so none that was cut off is taken for one.
            Ok(0) => return Ok(Line::Whole(std::mem::take(buffer))),
            Ok(count) => {
                if buffer.is_empty() {
                    deadline = Instant::now() + LINE_TIMEOUT;
                }
                buffer.extend_from_slice(&chunk[..count]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(slow(buffer));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a line. Who takes it byte by byte has no more time than others.
pub(super) fn write_line(mut stream: &UnixStream, mut line: &[u8], within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    while !line.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(line) {
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    #[test]
    fn lines_are_told_apart_and_bounded() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"one\ntwo\nthr").unwrap();
        let mut buffer = Vec::new();
        let mut next = || read_line(&ours, &mut buffer).unwrap();
        assert_eq!(next(), Line::Whole(b"one".into()));
        assert_eq!(next(), Line::Whole(b"two".into()));
        theirs.write_all(b"ee\n").unwrap();
        assert_eq!(next(), Line::Whole(b"three".into()));
        drop(theirs);
        assert_eq!(next(), Line::End);
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"one\ntwo").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let mut buffer = Vec::new();
        let mut next = || read_line(&ours, &mut buffer).unwrap();
        assert_eq!([next(), next(), next()], [Line::Whole(b"one".into()), Line::Whole(b"two".into()), Line::End]);
    }

    #[test]
    fn a_line_without_end_is_not_read_for_ever() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || theirs.write_all(&vec![b'x'; 10 << 20]));
        let mut buffer = Vec::new();
        assert_eq!(read_line(&ours, &mut buffer).unwrap(), Line::TooLong);
        assert!(buffer.len() < MAX_REQUEST_BYTES + 8192);
        drop(ours);
        assert!(writer.join().unwrap().is_err());
    }

    #[test]
    fn who_takes_an_answer_byte_by_byte_is_not_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut taken = 0;
            while theirs.read(&mut [0; 1_000]).is_ok_and(|count| count > 0) {
                taken += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            taken
        });
        let begin = Instant::now();
        assert!(write_line(&ours, &vec![b'x'; 10 << 20], Duration::from_millis(500)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(5));
        drop(ours);
        assert!(reader.join().unwrap() > 1, "it did read");
    }
}
