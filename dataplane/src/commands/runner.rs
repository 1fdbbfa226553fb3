//! The runner: takes orders, runs commands, so many at once, and says how each ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::commands::channel::{Channel, Received, Sent};
use crate::commands::order::{Ended, How, Order};
use crate::commands::run::Run;
use crate::commands::stray::end_strays;

/// Commands that run at once.
const AT_ONCE: usize = 32;
/// Commands that wait for their turn, and what is said of others that was not heard yet.
const WAITING: usize = 1_024;
/// If the runner wakes up so late, it was stopped, and its commands may have been, too.
const STALL: Duration = Duration::from_millis(250);
/// The time between two looks for strays.
const STRAYS: Duration = Duration::from_millis(100);
/// How long the end may take.
const END: Duration = Duration::from_secs(2);

/// The runner's state.
pub(super) struct Runner {
    channel: Channel,
    /// Whether it looks for strays among this process's children: all of them are commands.
    alone: bool,
    running: Vec<Run>,
    waiting: VecDeque<(Instant, Order)>,
    answers: VecDeque<Ended>,
    /// When to look for strays: some time after a command has ended.
    strays_at: Option<Instant>,
}

impl Runner {
    /// A runner that takes its orders from there. `alone`: this process has no other children.
    pub(super) fn new(channel: Channel, alone: bool) -> Self {
        let (running, waiting, answers) = (Vec::new(), VecDeque::new(), VecDeque::new());
        Runner { channel, alone, running, waiting, answers, strays_at: None }
    }

    /// Works until the other end is closed, and leaves no process behind.
    pub(super) fn serve(mut self) {
        // Bound: until the daemon ends or closes its end.
        while self.turn() {}
        self.end();
    }

    /// Waits for something to do, and does it. Returns whether the other end is still there.
    fn turn(&mut self) -> bool {
        let wake = self.wake();
        self.wait(wake);
        let now = Instant::now();
        if let Some(late) = wake.and_then(|wake| now.checked_duration_since(wake)).filter(|late| *late > STALL) {
            self.running.iter_mut().for_each(|run| run.extend(late));
        }
        let is_there = self.take_orders(now);
        self.attend(now);
        self.begin_waiting(now);
        self.look_for_strays(now);
        is_there && self.answer()
    }

    /// When there is something to do by itself.
    fn wake(&self) -> Option<Instant> {
        let limits = self.running.iter().filter(|run| !run.is_told).map(|run| run.until);
        limits.chain(self.strays_at).min()
    }

    fn wait(&self, until: Option<Instant>) {
        let time = until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let time = time.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        let mut of_channel = PollFlags::empty();
        of_channel.set(PollFlags::POLLIN, self.answers.len() < WAITING);
        of_channel.set(PollFlags::POLLOUT, !self.answers.is_empty());
        let mut all = vec![PollFd::new(rustix::fd::AsFd::as_fd(&self.channel), of_channel)];
        let of_runs = self.running.iter().flat_map(Run::descriptors);
        all.extend(of_runs.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)));
        // What is ready, the turn finds by itself.
        let _ = poll(&mut all, time);
    }

    fn take_orders(&mut self, now: Instant) -> bool {
        // Bound: answers that are not taken hold back the orders.
        while self.answers.len() < WAITING {
            match self.channel.receive::<Order>() {
                Received::Message(order) => self.take(order, now),
                Received::Garbage => {}
                Received::Nothing => break,
                Received::Closed => return false,
            }
        }
        true
    }

    fn take(&mut self, order: Order, now: Instant) {
        if order.beside && !self.running.iter().any(|run| run.beside) {
            self.begin(&order, now);
        } else if order.beside || self.waiting.len() >= WAITING {
            self.say(order.id, How::NotBegun { why: "too many others wait".into() });
        } else {
            self.waiting.push_back((now, order));
            self.begin_waiting(now);
        }
    }

    fn begin(&mut self, order: &Order, now: Instant) {
        match Run::begin(order, now) {
            Ok(run) => self.running.push(run),
            Err(how) => self.say(order.id, how),
        }
    }

    fn say(&mut self, id: u64, how: How) {
        self.answers.push_back(Ended { id, how });
    }

    /// Hears the commands, ends those whose time is over, and takes down those that have ended.
    fn attend(&mut self, now: Instant) {
        for index in (0..self.running.len()).rev() {
            let run = &mut self.running[index];
            run.listen();
            if run.has_ended() {
                let run = self.running.swap_remove(index);
                let (id, is_told) = (run.id, run.is_told);
                let how = run.end();
                if !is_told {
                    self.say(id, how);
                }
                self.strays_at = self.strays_at.or(self.alone.then_some(now + STRAYS));
            } else if run.until <= now && !run.is_told {
                // It still counts among those that run: one that waits in the kernel ends when that lets go of it.
                run.kill();
                run.is_told = true;
                let id = run.id;
                self.say(id, How::Overran);
            }
        }
    }

    /// Begins those whose turn it is. What has waited too long is not begun any more.
    fn begin_waiting(&mut self, now: Instant) {
        // Bound: each that waits is taken once.
        while self.running.iter().filter(|run| !run.beside).count() < AT_ONCE {
            let Some((since, order)) = self.waiting.pop_front() else { return };
            if now.saturating_duration_since(since) < order.limit() {
                self.begin(&order, now);
            } else {
                self.say(order.id, How::NotBegun { why: "others took too long".into() });
            }
        }
    }

    fn groups(&self) -> Vec<Pid> {
        self.running.iter().filter_map(Run::group).collect()
    }

    fn look_for_strays(&mut self, now: Instant) {
        if self.strays_at.is_none_or(|at| at > now) {
            return;
        }
        // A stray's children become strays when it has ended.
        let found = end_strays(&self.groups(), false);
        self.strays_at = (found > 0).then_some(now + STRAYS);
    }

    /// Returns whether the other end is still there.
    fn answer(&mut self) -> bool {
        // Bound: each answer is sent once.
        while let Some(answer) = self.answers.front() {
            match self.channel.send(answer) {
                Sent::Gone => _ = self.answers.pop_front(),
                Sent::Full => return true,
                Sent::Never => return false,
            }
        }
        true
    }

    /// Ends all that runs.
    fn end(&mut self) {
        let begin = Instant::now();
        // Bound: the time for the end.
        while begin.elapsed() < END {
            self.running.iter().for_each(Run::kill);
            self.running.retain_mut(|run| !run.has_ended());
            let strays = if self.alone { end_strays(&self.groups(), true) } else { 0 };
            if self.running.is_empty() && strays == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
