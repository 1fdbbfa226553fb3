//! The sessions of all probes over TLS, and the thread that they are on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustls::pki_types::UnixTime;

use crate::health::tls::desk::{Job, Key, Phase, Said};
use crate::health::tls::session::Session;

/// How long the thread waits for a job before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it waits where there is no room for what it has to say.
const FULL: Duration = Duration::from_millis(1);
/// How often those are looked for whose probe has ended without a word.
const SWEEP: Duration = Duration::from_secs(1);

/// The sessions.
#[derive(Debug)]
pub struct Sessions {
    jobs: Receiver<Job>,
    said: SyncSender<Said>,
    open: HashMap<Key, Open>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    session: Session,
    until: Instant,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new((jobs, said): (Receiver<Job>, SyncSender<Said>)) -> Sessions {
        Sessions { jobs, said, open: HashMap::new(), swept: None }
    }

    /// Does what the slow path asks for, until it is told to stop, or nobody asks any more.
    pub fn run(mut self, stop: &AtomicBool) {
        // Bound: the daemon's life.
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let said = match self.jobs.recv_timeout(PATIENCE) {
                Ok(job) => self.take(job, now, UnixTime::now()),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.sweep(now);
            self.say(said, stop);
        }
    }

    /// Does what there is to do now, for tests.
    #[cfg(test)]
    pub(crate) fn turn(&mut self, now: Instant) {
        // Bound: the queue's room.
        while let Ok(job) = self.jobs.try_recv() {
            let said = self.take(job, now, UnixTime::now());
            self.say(said, &AtomicBool::new(true));
        }
        self.sweep(now);
    }

    /// The sessions that are open.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    fn say(&self, said: Option<Said>, stop: &AtomicBool) {
        let mut left = said;
        // Bound: until the slow path has taken something, or the daemon ends.
        while let Some(said) = left.take() {
            match self.said.try_send(said) {
                Err(TrySendError::Full(said)) if !stop.load(Ordering::Relaxed) => {
                    left = Some(said);
                    std::thread::sleep(FULL);
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, job: Job, now: Instant, wall: UnixTime) -> Option<Said> {
        match job {
            Job::Begin { key, check, target, timeout } => match Session::begin(&check, target, wall) {
                Ok(mut session) => {
                    let send = session.take_bytes();
                    self.open.insert(key, Open { session, until: now + timeout + SWEEP });
                    Some(Said { key, send, phase: Phase::Silent, certificate: None, finding: None })
                }
                Err(failure) => {
                    let (send, finding) = (Vec::new(), Some(Err(failure)));
                    Some(Said { key, send, phase: Phase::Silent, certificate: None, finding })
                }
            },
            Job::Hear { key, data, end } => {
                let session = &mut self.open.get_mut(&key)?.session;
                let finding = session.hear(&data, end);
                let (send, phase, certificate) = (session.take_bytes(), session.phase(), session.take_report());
                if finding.is_some() {
                    self.open.remove(&key);
                }
                Some(Said { key, send, phase, certificate, finding })
            }
            Job::Forget(key) => {
                self.open.remove(&key);
                None
            }
        }
    }

    /// Forgets those whose probe has ended, and whose end found no room in the queue.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|last| now.saturating_duration_since(last) >= SWEEP) {
            self.swept = Some(now);
            self.open.retain(|_, open| open.until > now);
        }
    }
}
