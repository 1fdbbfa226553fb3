//! The keeper of the runner: the thread that starts it when it is wanted, hears it, and starts it again if it ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use ctl::answer::{Severity, Subject};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use crate::commands::account::Account;
use crate::commands::channel::{Channel, Received};
use crate::commands::notify::Notify;
use crate::commands::order::Ended;
use crate::commands::outbox::Commands;
use crate::commands::process::SUBCOMMAND;
use crate::commands::shared::Shared;
use crate::control::events::{EventLog, Kind};

/// How often the keeper looks whether it is to do something.
const TICK: Duration = Duration::from_millis(100);
/// Before a runner is started again that has ended: at first, and at most. It doubles each time, until one has lived for a while.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const LIVED: Duration = Duration::from_secs(60);
/// How long the runner may take to end its commands when the daemon ends.
const END: Duration = Duration::from_secs(3);
/// Answers that are heard in a tick.
const HEARD: usize = 1_024;

/// The keeper.
pub struct Keeper {
    /// The program that is the runner if it is told so: this one.
    program: PathBuf,
    account: Option<Account>,
    events: Arc<EventLog>,
    shared: Arc<Shared>,
    to_checks: Sender<Ended>,
    notify: Option<Notify>,
    runner: Option<Process>,
    /// No runner is started until then; and how long that was.
    pause: Option<(Instant, Duration)>,
}

/// A runner.
struct Process {
    child: Child,
    channel: Arc<Channel>,
    began: Instant,
}

impl Keeper {
    /// A keeper whose runner is this program, and the slow path's end. Commands run as this account.
    pub fn new(account: Option<Account>, events: Arc<EventLog>) -> (Keeper, Commands) {
        // Also where the file has been replaced meanwhile.
        Self::of_program("/proc/self/exe".into(), account, events)
    }

    /// The same with another program.
    pub fn of_program(program: PathBuf, account: Option<Account>, events: Arc<EventLog>) -> (Keeper, Commands) {
        let shared = Arc::<Shared>::default();
        let (to_checks, ended) = channel();
        let commands = Commands::new(shared.clone(), ended);
        let keeper = Keeper { program, account, events, shared, to_checks, notify: None, runner: None, pause: None };
        (keeper, commands)
    }

    /// Has this command run for each event that is as bad as that, or worse.
    pub fn notifying(self, command: Vec<String>, least: Severity) -> Keeper {
        Keeper { notify: Some(Notify::new(command, least, self.events.clone())), ..self }
    }

    /// Works until it is told to stop; the runner and all that it runs have ended then.
    pub fn run(mut self, stop: &AtomicBool) {
        // Bound: until the daemon ends.
        while !stop.load(Ordering::Relaxed) {
            self.turn(Instant::now());
        }
        self.end();
    }

    /// A tick.
    fn turn(&mut self, now: Instant) {
        match &self.runner {
            Some(runner) => {
                runner.wait();
                self.hear();
            }
            None if self.shared.is_wanted() && self.pause.is_none_or(|(until, _)| until <= now) => {
                self.start(now);
            }
            None => std::thread::sleep(TICK),
        }
        if let Some(notify) = &mut self.notify {
            notify.turn(now, |order| self.shared.send(order));
        }
    }

    fn start(&mut self, now: Instant) {
        match Process::start(&self.program, self.account.as_ref(), now) {
            Ok(runner) => {
                debug!(process = runner.child.id(), "commands are run");
                self.shared.set(Some(runner.channel.clone()));
                self.runner = Some(runner);
            }
            Err(error) => self.lament(now, Duration::ZERO, &format!("cannot be started: {error}")),
        }
    }

    /// Takes what the runner says.
    fn hear(&mut self) {
        let Some(runner) = &self.runner else { return };
        for _ in 0..HEARD {
            match runner.channel.receive::<Ended>() {
                Received::Message(ended) => {
                    if !self.notify.as_mut().is_some_and(|notify| notify.hear(&ended)) {
                        // The slow path is gone when the daemon ends.
                        let _ = self.to_checks.send(ended);
                    }
                }
                Received::Garbage => {}
                Received::Nothing => return,
                Received::Closed => {
                    self.lost();
                    return;
                }
            }
        }
    }

    /// The runner has ended by itself.
    fn lost(&mut self) {
        self.shared.set(None);
        let Some(mut runner) = self.runner.take() else { return };
        // It may have closed the socket only.
        let _ = runner.child.kill();
        let how = runner.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        self.lament(Instant::now(), runner.began.elapsed(), &format!("has ended: {how}"));
    }

    fn lament(&mut self, now: Instant, lived: Duration, what: &str) {
        let (first, most) = AGAIN;
        let pause = match self.pause {
            Some((_, pause)) if lived < LIVED => (pause * 2).min(most),
            _ => first,
        };
        self.pause = Some((now + pause, pause));
        self.events.write(Kind::CommandsStopped, Subject::default(), now, || {
            let seconds = pause.as_secs_f64();
            format!("The process that runs commands {what}; it is started again in {seconds} s. Until then, checks of type script say nothing, and notify is silent.")
        });
    }

    /// Ends the runner, which ends all commands.
    fn end(&mut self) {
        self.shared.set(None);
        let Some(Process { mut child, channel, .. }) = self.runner.take() else { return };
        drop(channel);
        let begin = Instant::now();
        // Bound: the time for the end.
        while matches!(child.try_wait(), Ok(None)) {
            if begin.elapsed() > END {
                warn!("the process that runs commands does not end, and is killed");
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Process {
    /// Starts a runner. Without a closure before `exec` and without another user, `Command` uses `posix_spawn`: the memory of this
    /// process is not copied, and not write-protected, which would be page faults of the workers.
    fn start(program: &PathBuf, account: Option<&Account>, now: Instant) -> io::Result<Process> {
        let (own, of_runner) = Channel::pair()?;
        let mut command = Command::new(program);
        command.arg0("shuntd").arg(SUBCOMMAND).args(account.map(|account| &account.name));
        command.stdin(OwnedFd::from(of_runner)).stdout(Stdio::null()).process_group(0);
        Ok(Process { child: command.spawn()?, channel: Arc::new(own), began: now })
    }

    /// Waits until it says something, or a tick.
    fn wait(&self) {
        let mut socket = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut socket, PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO));
    }
}
