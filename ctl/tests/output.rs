//! `shuntctl` where its output cannot be written, or is not read to its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A daemon that answers everything with as many events as one wishes.
struct Daemon {
    _folder: tempfile::TempDir,
    socket: PathBuf,
}

impl Daemon {
    fn with_events(count: usize) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("shuntd.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let event = |number| {
            format!(
                r#"{{"sequence":{number},"time":"2026-11-27T00:00:00.000Z","severity":"info","kind":"link-up","subject":{{}},"message":"The link is up.","suppressed":0}}"#
            )
        };
        let events: Vec<String> = (1..=count).map(event).collect();
        let answer = format!("{{\"version\":1,\"ok\":{{\"events\":[{}]}}}}\n", events.join(","));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer) = (stream.expect("a client"), answer.clone());
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
                    while let Some(Ok(_)) = lines.next() {
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Daemon { _folder: folder, socket }
    }

    fn shuntctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shuntctl"));
        command.arg("--socket").arg(&self.socket).args(arguments).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
        self.shuntctl(arguments).stdout(stdout).output().expect("it runs")
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has it")
}

fn ends(mut child: Child) -> Output {
    let begin = Instant::now();
    while child.try_wait().expect("it is ours").is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("it has ended")
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let daemon = Daemon::with_events(3);
    for arguments in [&["events"][..], &["--json", "events"], &["events", "--follow"], &["--help"], &["--version"]] {
        let output = daemon.output(arguments, full());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("shuntctl: ") && said.contains("cannot be written: No space left"), "{said}");
        assert!(said.lines().count() == 1 && !said.contains("panic"), "{arguments:?}: {said}");
    }
}

#[test]
fn where_nothing_can_be_written_the_status_says_it() {
    let daemon = Daemon::with_events(3);
    for (arguments, status) in [
        (&["events"][..], 2),
        (&["--help"], 2),
        (&["no-such-command"], 2),
        (&["--socket", "/nonexistent", "status"], 2),
        (&["--socket", "/nonexistent", "--json", "status"], 2),
    ] {
        let ended = daemon.shuntctl(arguments).stdout(full()).stderr(full()).status().expect("it runs");
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    // More than a pipe holds.
    let daemon = Daemon::with_events(2_000);
    for arguments in [&["events"][..], &["--json", "events"], &["--help"]] {
        let (read, write) = std::io::pipe().expect("a pipe");
        drop(read);
        let output = daemon.output(arguments, write);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn who_follows_events_ends_with_its_reader_even_if_nothing_happens() {
    let daemon = Daemon::with_events(0);
    let (read, write) = std::io::pipe().expect("a pipe");
    let child = daemon.shuntctl(&["events", "--follow"]).stdout(write).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(read);
    let output = ends(child);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
