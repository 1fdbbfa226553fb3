//! Talks to `shuntd` over its Unix socket.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::answer::{self, Answer, OtherAnswer, Outcome, Refusal};
use crate::request::{self, Request, VERSION};

/// Where `shuntd` listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/shunt/shuntd.sock";

/// How long the daemon may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the daemon; requests are answered one after the other.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens.
    #[error("No shuntd answers at {path}: is it running, and is --socket right?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The socket's mode keeps us out.
    #[error("The socket {path} may not be opened by this user: become root, or join the socket's group")]
    Permission {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection broke or timed out.
    #[error("The connection to shuntd at {path} failed")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The daemon closed the connection without an answer.
    #[error("shuntd at {path} closed the connection without an answer")]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is not one that this version understands.
    #[error("shuntd's answer is not understood: are shuntctl and shuntd of the same release?")]
    Answer(#[from] serde_json::Error),
    /// The answer is one to another request.
    #[error(transparent)]
    OtherAnswer(#[from] OtherAnswer),
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Client {
    /// Connects to the daemon's socket.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let fail = |source: std::io::Error| match source.kind() {
            ErrorKind::PermissionDenied => ClientError::Permission { path: path.into(), source },
            _ => ClientError::Connect { path: path.into(), source },
        };
        let stream = UnixStream::connect(path).map_err(fail)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(fail)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(fail)?;
        Ok(Client { stream: BufReader::new(stream), path: path.into() })
    }

    /// Sends one request and waits for its answer.
    pub fn ask(&mut self, request: Request) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_vec(&request::Envelope { version: VERSION, request })?;
        line.push(b'\n');
        // The daemon may refuse us before it has read our request (too many clients); its answer says why.
        let written = self.stream.get_mut().write_all(&line);
        let mut answer = String::new();
        let read = self.stream.read_line(&mut answer);
        if answer.is_empty() {
            read.and(written).map_err(|source| ClientError::Io { path: self.path.clone(), source })?;
            return Err(ClientError::Closed { path: self.path.clone() });
        }
        match serde_json::from_str::<answer::Envelope>(&answer)?.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(refusal) => Err(refusal.into()),
        }
    }
}
