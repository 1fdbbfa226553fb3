//! The daemon's log: wherever it goes, whether anybody reads it or not, the director works and ends.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctl::answer::Status;
use ctl::request::{BackendEdit, Request};
use ctl::{Client, ClientError};
use dataplane::dpdk::Driver;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;

use crate::lab::{Lab, Topology, VIP, service_id, wait_for};

/// Far more lines than a pipe, a socket or a terminal takes without a reader, and more than the daemon keeps for one.
const LINES: u64 = 6_000;

/// How a shell starts the daemon.
const PLAIN: &str = r#"exec "$@""#;

/// Has the daemon write that many lines.
fn chatter(lab: &Lab) {
    let mut client = Client::connect(&lab.socket()).unwrap();
    let (service, address) = (service_id(VIP), "192.168.0.3".parse().unwrap());
    let refused = Request::BackendEdit(BackendEdit { service, address, weight: Some(70_000), mac: None });
    for _ in 0..LINES {
        assert!(matches!(client.ask(refused.clone()), Err(ClientError::Refused(_))));
    }
}

/// The director does all that it is for, and ends when it is told to. Returns its status before the end.
fn works_and_ends(lab: &mut Lab, what: &str) -> Status {
    chatter(lab);
    // Changes and what the slow path has to say are lines, too.
    for weight in [2, 1] {
        lab.set_weight(VIP, "192.168.0.3", weight);
    }
    let printed = lab.on("client", &["arping", "-c", "2", "-w", "5", "-I", "lan0", VIP]);
    assert!(printed.contains("Received 2 response(s)"), "{what}: ARP is answered: {printed}");
    assert_eq!(lab.requests(VIP, 20).len(), 20);
    let status = lab.status();
    let begin = Instant::now();
    let ended = lab.end_daemon(Signal::SIGTERM);
    assert!(ended.success() && begin.elapsed() < Duration::from_secs(6), "{what}: {ended} {:?}", begin.elapsed());
    status
}

fn signals_without_a_meaning_end_nothing(lab: &Lab) {
    use Signal::{SIGALRM, SIGHUP, SIGIO, SIGPROF, SIGPWR, SIGSTKFLT, SIGTTOU, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ};
    let logged = [SIGHUP, SIGUSR1, SIGUSR2];
    let blocked = [SIGALRM, SIGIO, SIGPROF, SIGPWR, SIGSTKFLT, SIGTTOU, SIGVTALRM, SIGXFSZ, Signal::SIGPIPE];
    for signal in logged.into_iter().chain(blocked) {
        kill(lab.daemon_pid(), signal).unwrap();
    }
    for signal in logged {
        wait_for("the log says so", || lab.logged().contains(signal.as_str()));
    }
}

#[test]
fn whoever_reads_the_log_or_does_not_the_director_works_and_ends() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    signals_without_a_meaning_end_nothing(&lab);
    let lost = works_and_ends(&mut lab, "a file").lost_log_lines;
    assert_eq!(lab.logged().matches("refused: ").count() as u64 + lost, LINES, "a file gets every line in time");

    let (_unread, pipe) = io::pipe().unwrap();
    lab.restart_by(PLAIN, pipe);
    let status = works_and_ends(&mut lab, "a pipe that nobody reads");
    assert!(status.lost_log_lines > 0, "lost lines are counted");
    assert!(
        status.warnings.iter().any(|warning| warning.contains("lines of the daemon's log were lost")),
        "{status:?}"
    );

    let (read, pipe) = io::pipe().unwrap();
    drop(read);
    lab.restart_by(PLAIN, pipe);
    works_and_ends(&mut lab, "a pipe whose reader has gone");

    for redirections in ["2>/dev/full", "2>&-", "2>&- >&- <&-"] {
        lab.restart_by(&format!("{PLAIN} {redirections}"), Stdio::null());
        works_and_ends(&mut lab, redirections);
    }
    let terminal = nix::pty::openpty(None, None).unwrap();
    lab.restart_by(PLAIN, terminal.slave);
    works_and_ends(&mut lab, "a terminal that is stopped");
}

#[test]
fn who_reads_the_log_again_is_told_how_many_lines_were_lost() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    lab.end_daemon(Signal::SIGTERM);
    let (mut read, pipe) = io::pipe().unwrap();
    lab.restart_by(PLAIN, pipe);
    chatter(&lab);
    let lost = lab.status().lost_log_lines;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        read.read_to_string(&mut text).map(|_| text)
    });
    lab.end_daemon(Signal::SIGTERM);
    let text = reader.join().unwrap().unwrap();
    let told = text.lines().filter_map(|line| line.split_once(" WARN ")?.1.split_once(" lines of this log were lost"));
    let told: u64 = told.map(|(count, _)| count.parse::<u64>().unwrap()).sum();
    assert!(lost > 0 && told == lost, "{told} of {lost}");
    assert_eq!(text.matches("refused: ").count() as u64 + lost, LINES, "each line is read, or told to be lost");
    assert!(text.trim_end().ends_with("INFO stopped"), "the end is in the log");
}

/// As systemd starts it: with the journal's socket, and a variable that names it.
#[test]
fn the_journal_gets_priorities_and_no_times() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    let (mut journal, socket) = UnixStream::pair().unwrap();
    let stream = fstat(&socket).unwrap();
    let shell = format!("JOURNAL_STREAM={}:{} exec \"$@\"", stream.st_dev, stream.st_ino);
    lab.restart_by(&shell, OwnedFd::from(socket));
    lab.end_daemon(Signal::SIGTERM);
    let mut text = String::new();
    journal.read_to_string(&mut text).unwrap();
    assert!(text.contains("\n<6>started: shuntd ") && text.ends_with("<6>stopped\n"), "{text}");
    let priority = |line: &str| ["<3>", "<4>", "<5>", "<6>", "<7>"].iter().any(|priority| line.starts_with(priority));
    assert!(text.lines().all(|line| priority(line) && !line.contains("INFO") && !line.contains('\u{1b}')), "{text}");
    let year = |line: &str| line.get(3..5) == Some("20");
    assert!(!text.lines().any(year), "the journal has the time itself: {text}");
}
