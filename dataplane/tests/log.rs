//! The log of a process: it takes the place of standard output and standard error, so this is one test with several parts.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use dataplane::log::Log;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{dup, dup2_stderr, dup2_stdout};
use tracing_subscriber::EnvFilter;

const LIMIT: Resource = Resource::RLIMIT_FSIZE;

#[test]
fn all_that_a_process_has_to_say_is_in_its_log_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (out, err) = (dup(io::stdout()).unwrap(), dup(io::stderr()).unwrap());
    dup2_stderr(File::create(&path).unwrap()).unwrap();
    let log = Log::start(EnvFilter::new("info")).unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let lost = log.lost_lines();
        libraries_and_panics_are_heard();
        until(|| read(&path).contains("thread fails: ") && read(&path).contains("to standard output"));
        signals_that_come_of_writing_end_nobody();

        // Until nothing is on its way: the file does not grow, and all that was lost has been told of.
        let mut before = 0;
        until(|| std::mem::replace(&mut before, read(&path).len()) == read(&path).len());
        let flooded = lost();
        // A file that may not grow is as a full disk.
        let (soft, hard) = getrlimit(LIMIT).unwrap();
        setrlimit(LIMIT, read(&path).len() as u64, hard).unwrap();
        (0..10).for_each(|number| tracing::info!("in vain {number}"));
        until(|| lost() == flooded + 10);
        setrlimit(LIMIT, soft, hard).unwrap();
        tracing::info!("in time");
    });
    drop(log);
    // What comes behind the end goes nowhere, and harms nobody.
    let late = raw("late\n");
    dup2_stdout(out).unwrap();
    dup2_stderr(err).unwrap();
    let text = read(&path);
    assert!(outcome.is_ok(), "{text}");
    late.unwrap();
    let position = |wanted: &str| text.find(wanted).unwrap_or_else(|| panic!("{wanted} is not in\n{text}"));
    position("EAL: to standard error\n");
    position("to standard output\n");
    let panic = position("ERROR thread fails: panicked at");
    assert!(text[panic..].contains("It went wrong."));
    let (told, next) = (position("WARN 10 lines of this log were lost here: "), position("INFO in time\n"));
    assert!(panic < told && told < next && !text.contains("in vain") && !text.contains("late"), "{text}");
}

/// Writes to standard error as a library does.
fn raw(text: &str) -> io::Result<()> {
    nix::unistd::write(io::stderr(), text.as_bytes())?;
    Ok(())
}

fn libraries_and_panics_are_heard() {
    raw("EAL: to standard error\n").unwrap();
    io::stdout().write_all(b"to standard output\n").unwrap();
    io::stdout().flush().unwrap();
    let fails = std::thread::Builder::new().name("fails".into()).spawn(|| panic!("It went wrong."));
    assert!(fails.unwrap().join().is_err());
    // More than the pipe holds: who writes neither waits nor fails for good.
    let flood = std::thread::spawn(|| (0..10_000).filter(|_| raw("EAL: again and again\n").is_ok()).count());
    assert!(flood.join().unwrap() > 0);
}

fn signals_that_come_of_writing_end_nobody() {
    for signal in [Signal::SIGTTOU, Signal::SIGXFSZ, Signal::SIGPIPE] {
        raise(signal).unwrap();
    }
}

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}
