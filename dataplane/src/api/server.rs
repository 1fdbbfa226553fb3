//! The Unix socket: which users may connect, and what happens to their requests.
//!
//! Each client has a thread of its own, so one that hangs disturbs no other. How many there may be, and who has to go for another, is in
//! `clients.rs`; how long a line may be and how long it may take, in `line.rs`.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ctl::MAX_REQUEST_BYTES;
use ctl::answer::{Answer, Envelope, Outcome};
use ctl::request::Request;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::api::answer::answer;
use crate::api::clients::{Clients, Place};
use crate::api::decode::{self, refusal};
use crate::api::facts::Facts;
use crate::api::line::{LINE_TIMEOUT, Line, WRITE_TIMEOUT, read_line, write_line};
use crate::api::lock::{self, LockError};
use crate::api::tally;
use crate::base::lock_file::{self, LockFile};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A daemon answers there, or will soon.
    #[error("Another shuntd answers at {0}, or is about to: stop it, or give this one another director.socket")]
    InUse(PathBuf),
    /// The lock that keeps others from it cannot be had.
    #[error("The control socket {path} cannot be locked")]
    Lock {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        source: LockError,
    },
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
    _lock: LockFile,
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
        let lock = lock::take(path).map_err(|error| match error {
            LockError::File(lock_file::LockError::Held { .. }) => ServerError::InUse(path.into()),
            source => ServerError::Lock { path: path.into(), source },
        })?;
        remove_stale(path)?;
        // Bound under another name and then renamed: no client can connect before the mode is right.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}.tmp", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
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
    let (clients, readers) = (Clients::new(), Arc::default());
    for stream in listener.incoming() {
        let served = stream.and_then(|stream| serve(stream, facts, &clients, &readers));
        if let Err(error) = served {
            tracing::warn!("a control client could not be served: {error}");
            // Out of file descriptors or memory: do not spin on it.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn serve(stream: UnixStream, facts: &Arc<Facts>, clients: &Arc<Clients>, readers: &Arc<Mutex<()>>) -> io::Result<()> {
    let uid = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?.uid();
    let privileged = uid == 0 || uid == nix::unistd::geteuid().as_raw();
    let stream = Arc::new(stream);
    let Some(place) = clients.admit(uid, privileged, &stream) else {
        let refused = Outcome::Error(refusal("Too many control clients are at work: try again in some seconds"));
        // It fits the socket's buffer: this waits for nobody.
        return write_line(&stream, &line_of(refused)?, WRITE_TIMEOUT);
    };
    let mut client = Client { stream, facts: facts.clone(), uid, privileged, place, readers: readers.clone() };
    std::thread::Builder::new().name("shunt-client".into()).spawn(move || {
        if let Err(error) = client.converse() {
            tracing::debug!("a control client went away: {error}");
        }
    })?;
    Ok(())
}

struct Client {
    stream: Arc<UnixStream>,
    facts: Arc<Facts>,
    uid: u32,
    privileged: bool,
    place: Place,
    /// Taken while an answer for a reader is made: one at a time, so that they need no more memory and time than one.
    readers: Arc<Mutex<()>>,
}

impl Client {
    fn converse(&mut self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            match read_line(&self.stream, &mut buffer)? {
                Line::Whole(line) => {
                    if !self.place.work() {
                        return Ok(());
                    }
                    let line = self.answer(&line)?;
                    self.write(&line)?;
                    self.place.rest();
                }
                Line::TooLong => {
                    let message = format!("The request is longer than {MAX_REQUEST_BYTES} bytes");
                    return self.write(&line_of(Outcome::Error(refusal(message)))?);
                }
                Line::TooSlow => {
                    let message = format!("The request was not complete after {} s", LINE_TIMEOUT.as_secs());
                    return self.write(&line_of(Outcome::Error(refusal(message)))?);
                }
                Line::End => return Ok(()),
            }
        }
    }

    /// Carries out the request on a line; returns the line that answers it.
    fn answer(&self, line: &[u8]) -> io::Result<Vec<u8>> {
        let readers = &self.readers;
        let _one_at_a_time = (!self.privileged).then(|| readers.lock().unwrap_or_else(PoisonError::into_inner));
        let request = decode::request(line);
        let command = tally::command(&request);
        let outcome = request.map_or_else(Outcome::Error, |request| self.carry_out(request));
        tally::count(command, &outcome);
        line_of(outcome)
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

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let Some(_until_taken) = self.place.answer(line.len()) else {
            let message = "Too many large answers are still to be taken by others: try again in some seconds";
            return write_line(&self.stream, &line_of(Outcome::Error(refusal(message)))?, WRITE_TIMEOUT);
        };
        write_line(&self.stream, line, WRITE_TIMEOUT)
    }
}

fn line_of(outcome: Outcome) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Envelope { version: ctl::VERSION, outcome })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};

    use metrics::with_local_recorder;

    use super::*;
    use crate::metrics::ControlSide;
    use crate::testing::facts::{director, facts};

    #[test]
    fn requests_are_counted_by_command_and_outcome() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Arc::new(ours);
        let place = Clients::new().admit(1, false, &stream).unwrap();
        let facts = Arc::new(facts(Arc::new(director(&[]))));
        let mut client = Client { stream, facts, uid: 1, privileged: false, place, readers: Arc::default() };
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
        assert!(left.iter().all(|name| name == "run"), "nothing is left: {left:?}");
    }

    /// A server in a folder of its own, which lasts as long as the guard.
    fn served() -> (tempfile::TempDir, PathBuf, SocketGuard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shuntd.sock");
        let server = Server::bind(&path, None).unwrap();
        let guard = server.run(Arc::new(facts(Arc::new(director(&[]))))).unwrap();
        (folder, path, guard)
    }

    const STATUS: &[u8] = b"{\"version\":1,\"command\":\"status\"}";

    #[test]
    fn clients_that_say_nothing_shut_nobody_out() {
        let (_folder, path, _guard) = served();
        let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&path).unwrap()).collect();
        // Some have begun a line.
        silent.iter().step_by(2).for_each(|mut client| drop(client.write_all(b"{")));
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(STATUS).unwrap();
        client.write_all(b"\n").unwrap();
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).unwrap();
        assert!(answer.contains("\"ok\":{\"status\""), "{answer}");
        drop(silent);
    }

    #[test]
    fn a_last_line_without_newline_is_answered() {
        let (_folder, path, _guard) = served();
        let ask = |request: &[u8]| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(request).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = ask(STATUS);
        assert!(answer.contains("\"ok\":{\"status\"") && answer.ends_with('\n'), "{answer}");
        let cut_off = ask(&STATUS[..STATUS.len() - 1]);
        assert!(cut_off.contains("\"error\""), "half a request is none: {cut_off}");
        assert_eq!(ask(b""), "");
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
