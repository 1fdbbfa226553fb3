//! The log from its start to its end.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex};

use nix::sched::CpuSet;
use nix::sys::signal::{SigSet, Signal};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::log::form::Form;
use crate::log::libraries::Libraries;
use crate::log::lines::Lines;
use crate::log::sink::{Cores, Lost, Pinned};

/// The log of this process. When it is dropped, what waits is written within a second or two, or lost.
#[derive(Debug)]
pub struct Log {
    lost: Arc<Lost>,
    cores: Cores,
    libraries: Libraries,
    guard: Arc<Guard>,
}

/// Empty once the log has ended.
type Guard = Mutex<Option<WorkerGuard>>;

impl Log {
    /// From here on, all that this process has to say goes where its standard error does, and nobody waits for that. To be called
    /// once, before other threads begin: they must not be stopped or ended by signals that come of writing.
    ///
    /// # Errors
    /// Where the system has no descriptors or threads left.
    pub fn start(filter: EnvFilter) -> io::Result<Log> {
        // A terminal would stop a process in the background (`stty tostop`), and a file at its size limit end it. Blocked, the
        // signals leave it to the call to fail.
        SigSet::from_iter([Signal::SIGTTOU, Signal::SIGXFSZ]).thread_block()?;
        let out = File::from(nix::unistd::dup(io::stderr())?);
        let colours = out.is_terminal();
        let form = Form::of(&out, std::env::var("JOURNAL_STREAM").ok().as_deref());
        let (lost, cores) = (Arc::new(Lost::default()), Cores::default());
        let (lines, guard) = Lines::to(out, form, &lost, &cores);
        let libraries = Libraries::take_in(lines.clone(), Pinned::new(&cores))?;
        let guard = Arc::new(Mutex::new(Some(guard)));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(colours)
            .log_internal_errors(false)
            .with_writer(lines);
        match form {
            Form::Plain => subscriber.init(),
            Form::Journal => subscriber.without_time().with_level(false).init(),
        }
        let of_panics = guard.clone();
        std::panic::set_hook(Box::new(move |panic| log_panic(panic, &of_panics)));
        Ok(Log { lost, cores, libraries, guard })
    }

    /// How many lines were lost up to the time of the call.
    pub fn lost_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let lost = self.lost.clone();
        move || lost.lines()
    }

    /// Keeps the log's threads to these cores.
    pub fn keep_to(&self, cores: CpuSet) {
        let _ = self.cores.set(cores);
    }

    /// What libraries have printed comes before the next line; what they print from here on is not taken in any more.
    pub fn end_libraries(&self) {
        self.libraries.end();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.libraries.end();
        end(&self.guard);
    }
}

fn end(guard: &Guard) {
    // A guard waits for a moment when it is dropped: not under the lock.
    let taken = guard.lock().map(|mut guard| guard.take());
    drop(taken);
}

/// A panic is a line of the log like others. The standard hook writes to standard error by itself, and the process may end before the
/// thread that reads this has seen it.
fn log_panic(panic: &PanicHookInfo<'_>, guard: &Guard) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    // Taken where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!("thread {name}: {panic}\n{backtrace}"),
        _ => tracing::error!("thread {name}: {panic}"),
    }
    // Where panics abort, this is the end of the process.
    if cfg!(panic = "abort") {
        end(guard);
    }
}
