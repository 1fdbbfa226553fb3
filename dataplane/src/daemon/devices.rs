//! The thread that opens and closes devices while the daemon runs: the kernel takes its time for that, and whoever follows the ports must
//! not wait.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::daemon::place::{Opened, Place};
use crate::dpdk::{PortError, QueuePair};

/// What has been done with the device of a port, by its number.
pub(super) enum Done {
    Opened(usize, Result<Opened, PortError>),
    Closed(usize),
}

enum Job {
    Open(usize),
    Close(usize, Vec<QueuePair>),
}

/// The thread. It ends with this value, which waits for that.
pub(super) struct Devices {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Devices {
    /// Starts the thread, which passes on what it has done.
    pub(super) fn start(places: Arc<[Place]>, done: impl Fn(Done) + Send + 'static) -> std::io::Result<Devices> {
        let (jobs, to_do) = channel();
        let thread = Builder::new().name("shunt-devices".into()).spawn(move || work(&places, &to_do, done))?;
        Ok(Devices { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a port's device opened.
    pub(super) fn open(&self, port: usize) {
        self.send(Job::Open(port));
    }

    /// Has a port's device closed. These are all of its queue pairs.
    pub(super) fn close(&self, port: usize, queues: Vec<QueuePair>) {
        self.send(Job::Close(port, queues));
    }

    fn send(&self, job: Job) {
        // Without the thread, it stays as it is.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

fn work(places: &[Place], to_do: &Receiver<Job>, done: impl Fn(Done)) {
    for job in to_do {
        match job {
            Job::Open(port) => done(Done::Opened(port, places[port].open_again())),
            Job::Close(port, queues) => {
                places[port].close(queues);
                done(Done::Closed(port));
            }
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that opens devices ended in a panic");
        }
    }
}
