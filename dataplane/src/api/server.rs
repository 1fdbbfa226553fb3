//! The Unix socket: which users may connect, how long a line may be and how long it may take.
//!
//! Each client has a thread of its own, so one that hangs disturbs no other; the number of clients is bounded, with some
//! kept for users who may change things, so that an operator can always get in.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ctl::MAX_REQUEST_BYTES;
use ctl::answer::{Answer, Envelope, Outcome};
use ctl::request::Request;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::api::answer::answer;
use crate::api::decode::{self, refusal};
use crate::api::facts::Facts;
use crate::api::tally;

/// Clients at one time.
const MAX_CLIENTS: usize = 64;
/// Of these, for root and the daemon's own user alone.
const RESERVED_CLIENTS: usize = 16;
/// A line must be whole this long after its first byte.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client may be silent for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client must take its answer within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A daemon answers there.
    #[error("Another shuntd answers at {0}: stop it, or give this one another director.socket")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} is there, and is no socket: remove it, or give director.socket another path")]
    NotASocket(PathBuf),
    /// There is no such group.
    #[error("There is no group \"{0}\" (director.socket_group)")]
    NoGroup(String),
    /// The system refuses.
    #[error("The control socket {path} cannot be made")]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The listening socket, not served yet.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    guard: SocketGuard,
}

/// Removes the socket when it is dropped, if it still is the one that was made.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    made: (u64, u64),
    /// Held as long as the socket is ours: two daemons that start at once do not both find it free.
    _lock: File,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if identity(&self.path).ok() != Some(self.made) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("the control socket {} could not be removed: {error}", self.path.display());
        }
    }
}

/// What stands at a path, by device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that a killed daemon has left. Anything else at that path is not ours, and stays.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let fail = |source| ServerError::Io { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ServerError::NotASocket(path.into())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServerError::InUse(path.into())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(fail),
        Err(error) => Err(fail(error)),
    }
}

impl Server {
    /// Makes the socket: mode 0660, of the given group. One that a killed daemon has left is replaced.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Server, ServerError> {
        let fail = |source| ServerError::Io { path: path.into(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        let lock = File::create(path.with_extension("lock")).map_err(fail)?;
        if lock.try_lock().is_err() {
            return Err(ServerError::InUse(path.into()));
        }
        remove_stale(path)?;
        // Bound under another name and then renamed: no client can connect before the mode is right.
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = std::fs::remove_file(&unfinished);
        let listener = UnixListener::bind(&unfinished).map_err(fail)?;
        let finish = || -> Result<(), ServerError> {
            std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
            if let Some(name) = group {
                let group = nix::unistd::Group::from_name(name).map_err(|error| fail(error.into()))?;
                let group = group.ok_or_else(|| ServerError::NoGroup(name.into()))?;
                nix::unistd::chown(&unfinished, None, Some(group.gid)).map_err(|error| fail(error.into()))?;
            }
            std::fs::rename(&unfinished, path).map_err(fail)
        };
        finish().inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
        let made = identity(path).map_err(fail)?;
        Ok(Server { listener, guard: SocketGuard { path: path.into(), made, _lock: lock } })
    }

    /// Serves in threads of its own until the process ends; the socket is removed with the returned guard.
    pub fn run(self, facts: Arc<Facts>) -> io::Result<SocketGuard> {
        let Server { listener, guard } = self;
        std::thread::Builder::new().name("shunt-api".into()).spawn(move || accept(&listener, &facts))?;
        Ok(guard)
    }
}

fn accept(listener: &UnixListener, facts: &Arc<Facts>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let served = stream.and_then(|stream| serve(stream, facts.clone(), Admission::take(&clients)));
        if let Err(error) = served {
            tracing::warn!("a control client could not be served: {error}");
            // Out of file descriptors or memory: do not spin on it.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One of the [`MAX_CLIENTS`] that a client takes.
struct Admission {
    clients: Arc<AtomicUsize>,
    /// How many were taken before.
    before: usize,
}

impl Admission {
    fn take(clients: &Arc<AtomicUsize>) -> Admission {
        Admission { clients: clients.clone(), before: clients.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(stream: UnixStream, facts: Arc<Facts>, admission: Admission) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let uid = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?.uid();
    let privileged = uid == 0 || uid == nix::unistd::geteuid().as_raw();
    let mut client = Client { stream, facts, uid, privileged, _admission: admission };
    let most = if privileged { MAX_CLIENTS } else { MAX_CLIENTS - RESERVED_CLIENTS };
    if client._admission.before >= most {
        return client.write(Outcome::Error(refusal("Too many control clients: try again in a minute")));
    }
    std::thread::Builder::new().name("shunt-client".into()).spawn(move || {
        if let Err(error) = client.converse() {
            tracing::debug!("a control client went away: {error}");
        }
    })?;
    Ok(())
}

struct Client {
    stream: UnixStream,
    facts: Arc<Facts>,
    uid: u32,
    privileged: bool,
    _admission: Admission,
}

impl Client {
    fn converse(&mut self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            match read_line(&mut self.stream, &mut buffer)? {
                Line::Whole(line) => {
                    let request = decode::request(&line);
                    let command = tally::command(&request);
                    let outcome = request.map_or_else(Outcome::Error, |request| self.carry_out(request));
                    tally::count(command, &outcome);
                    self.write(outcome)?;
                }
                Line::TooLong => {
                    let message = format!("The request is longer than {MAX_REQUEST_BYTES} bytes");
                    return self.write(Outcome::Error(refusal(message)));
                }
                Line::TooSlow => {
                    let message = format!("The request was not complete after {} s", LINE_TIMEOUT.as_secs());
                    return self.write(Outcome::Error(refusal(message)));
                }
                Line::End => return Ok(()),
            }
        }
    }

    fn carry_out(&self, request: Request) -> Outcome {
        if !request.changes() {
            return answer(&self.facts, request);
        }
        if !self.privileged {
            return Outcome::Error(refusal("Only root and the daemon's own user may change anything"));
        }
        let outcome = answer(&self.facts, request);
        match &outcome {
            Outcome::Ok(Answer::Done(done)) => {
                tracing::info!(uid = self.uid, generation = done.generation, "{}", done.message);
            }
            Outcome::Ok(_) => {}
            Outcome::Error(refusal) => tracing::info!(uid = self.uid, "refused: {refusal}"),
        }
        outcome
    }

    fn write(&mut self, outcome: Outcome) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Envelope { version: ctl::VERSION, outcome })?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A line, without its newline.
    Whole(Vec<u8>),
    /// More than [`MAX_REQUEST_BYTES`] without a newline.
    TooLong,
    /// The beginning of a line, and then nothing more in time.
    TooSlow,
    /// Nothing more, or nothing for a long time.
    End,
}

/// Reads a line; `buffer` keeps what came behind it for the next call.
fn read_line(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Line> {
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
            Ok(0) => return Ok(Line::End),
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

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::*;
    use crate::metrics::ControlSide;
    use crate::testing::facts::{director, facts};

    #[test]
    fn requests_are_counted_by_command_and_outcome() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let admission = Admission::take(&Arc::default());
        let facts = Arc::new(facts(Arc::new(director(&[]))));
        let mut client = Client { stream: ours, facts, uid: 1, privileged: false, _admission: admission };
        for line in [
            "{\"version\":1,\"command\":\"status\"}",
            "{\"version\":1,\"command\":\"service-remove\",\"arguments\":{\"vip\":\"192.0.2.1\",\"port\":80}}",
            "{\"version\":1,\"command\":\"no-such\"}",
            "{\"version\":1,\"command\":\"status\"}",
        ] {
            writeln!(theirs, "{line}").unwrap();
        }
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let counted = ControlSide::default();
        with_local_recorder(&counted, || client.converse().unwrap());
        let of =
            |command, outcome| counted.count("shunt_requests_total", &[("command", command), ("outcome", outcome)]);
        let [ok, refused] = crate::api::OUTCOMES;
        assert_eq!((of("status", ok), of("status", refused)), (Some(2), Some(0)));
        assert_eq!((of("service-remove", ok), of("service-remove", refused)), (Some(0), Some(1)));
        assert_eq!((of(crate::api::UNREADABLE, refused), of("no-such", refused)), (Some(1), None));
    }

    #[test]
    fn lines_are_told_apart_and_bounded() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"one\ntwo\nthr").unwrap();
        let mut buffer = Vec::new();
        assert_eq!(read_line(&mut ours, &mut buffer).unwrap(), Line::Whole(b"one".into()));
        assert_eq!(read_line(&mut ours, &mut buffer).unwrap(), Line::Whole(b"two".into()));
        theirs.write_all(b"ee\n").unwrap();
        assert_eq!(read_line(&mut ours, &mut buffer).unwrap(), Line::Whole(b"three".into()));
        drop(theirs);
        assert_eq!(read_line(&mut ours, &mut buffer).unwrap(), Line::End);
    }

    #[test]
    fn a_line_without_end_is_not_read_for_ever() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || theirs.write_all(&vec![b'x'; 10 << 20]));
        let mut buffer = Vec::new();
        assert_eq!(read_line(&mut ours, &mut buffer).unwrap(), Line::TooLong);
        assert!(buffer.len() < MAX_REQUEST_BYTES + 8192);
        drop(ours);
        assert!(writer.join().unwrap().is_err());
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/shuntd.sock");
        let first = Server::bind(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(Server::bind(&path, None), Err(ServerError::InUse(_))));
        drop(first);
        // As a killed daemon leaves it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(Server::bind(&path, None).is_ok());
        assert!(!path.exists(), "removed with its server");
        assert!(matches!(
            Server::bind(&folder.path().join("other"), Some("no-such-group")),
            Err(ServerError::NoGroup(_))
        ));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "run" || name == "other.lock"), "nothing unfinished is left: {left:?}");
    }

    #[test]
    fn what_is_no_socket_of_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, datagram) = (folder.path().join("file"), folder.path().join("datagram"));
        std::fs::write(&file, "precious").unwrap();
        let _other = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
        assert!(matches!(Server::bind(&file, None), Err(ServerError::NotASocket(_))));
        assert!(matches!(Server::bind(&datagram, None), Err(ServerError::Io { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        assert!(datagram.exists());
        // A server's guard removes its own socket only.
        let path = folder.path().join("shuntd.sock");
        let server = Server::bind(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(server);
        assert!(path.exists());
    }
}
