//! The runner in a thread, with real commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::commands::channel::{Channel, Received, Sent};
use crate::commands::order::{Ended, How, Order};
use crate::commands::runner::Runner;

struct Rig {
    channel: Channel,
    thread: JoinHandle<()>,
    orders: u64,
}

impl Rig {
    fn new() -> Rig {
        let (channel, other) = Channel::pair().unwrap();
        Rig { channel, thread: std::thread::spawn(|| Runner::new(other, false).serve()), orders: 0 }
    }

    /// Orders this script of a shell.
    fn order(&mut self, script: &str, limit_ms: u64) -> u64 {
        self.send(Order { command: ["/bin/sh", "-c", script].map(String::from).into(), limit_ms, ..order() })
    }

    fn send(&mut self, order: Order) -> u64 {
        self.orders += 1;
        let order = Order { id: self.orders, ..order };
        while self.channel.send(&order) == Sent::Full {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.orders
    }

    /// What ends next.
    fn ended(&self) -> Ended {
        let begin = Instant::now();
        loop {
            match self.channel.receive() {
                Received::Message(ended) => return ended,
                Received::Nothing => std::thread::sleep(Duration::from_millis(1)),
                other => panic!("{other:?}"),
            }
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
    }

    fn run(&mut self, script: &str, limit_ms: u64) -> How {
        let id = self.order(script, limit_ms);
        let ended = self.ended();
        assert_eq!(ended.id, id);
        ended.how
    }
}

fn order() -> Order {
    Order { id: 0, command: Vec::new(), environment: Vec::new(), input: None, limit_ms: 5_000, beside: false }
}

fn exit(status: i32, said: &str) -> How {
    How::Exit { status, said: said.into() }
}

/// The processes that a script has written here.
fn pids(file: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

fn all_end(pids: &[Pid]) {
    let begin = Instant::now();
    let is_there = |pid: &Pid| {
        // A child that nobody has asked for has ended, too.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        kill(*pid, None).is_ok() && !stat.contains(") Z ")
    };
    while pids.iter().any(is_there) {
        assert!(begin.elapsed() < Duration::from_secs(5), "{pids:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_is_its_exit_status_and_its_first_words() {
    let mut rig = Rig::new();
    assert_eq!(rig.run("exit 0", 5_000), exit(0, ""));
    assert_eq!(rig.run("echo; echo ' disk full '; echo more; exit 2", 5_000), exit(2, "disk full"));
    assert_eq!(rig.run("echo lost >&2; exit 1", 5_000), exit(1, "lost"));
    assert_eq!(rig.run("exec >&- 2>&-; sleep 0.1; exit 3", 5_000), exit(3, ""));
    assert_eq!(rig.run("kill -SEGV $$", 5_000), How::Signal { signal: 11, said: String::new() });
    let How::Exit { status: 0, said } = rig.run("yes | head -c 5000000", 5_000) else { panic!() };
    assert_eq!(said, "y");
    let How::Exit { said, .. } = rig.run("head -c 5000000 /dev/zero | tr '\\0' x", 5_000) else { panic!() };
    assert_eq!(said, "x".repeat(200));
}

#[test]
fn a_command_has_nothing_of_the_daemon() {
    let mut rig = Rig::new();
    let environment = vec![("SHUNT_BACKEND".into(), "fd00::3".into())];
    let command = ["/bin/sh", "-c", "echo $(env | grep -v ^PWD= | sort)"].map(String::from).into();
    rig.send(Order { command, environment, ..order() });
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(rig.ended().how, exit(0, &format!("{path} SHUNT_BACKEND=fd00::3")));
    assert_eq!(rig.run("cat; readlink /proc/self/fd/0", 5_000), exit(0, "/dev/null"));
    assert_eq!(rig.run("test $(ps -o pgid= -p $$) = $$", 5_000), exit(0, ""));
}

#[test]
fn a_command_has_its_input() {
    let mut rig = Rig::new();
    let input = Some("x".repeat(50_000));
    rig.send(Order { command: ["/usr/bin/wc", "-c"].map(String::from).into(), input, ..order() });
    assert_eq!(rig.ended().how, exit(0, "50000"));
}

#[test]
fn a_command_that_hangs_ends_with_all_of_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = Rig::new();
    let script = format!("trap '' TERM INT; sleep 1000 & echo $$ $! > {}; echo begun; yes", file.display());
    let begin = Instant::now();
    assert_eq!(rig.run(&script, 400), How::Overran);
    assert!((400..2_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(pids(&file).len(), 2);
    all_end(&pids(&file));
    // What is left behind ends with the command.
    let script = format!("sleep 1000 & echo $! > {}", file.display());
    assert_eq!(rig.run(&script, 5_000), exit(0, ""));
    all_end(&pids(&file));
}

#[test]
fn what_cannot_be_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "exit 0\n").unwrap();
    let mut rig = Rig::new();
    let mut refused = |path: &Path| {
        rig.send(Order { command: vec![path.display().to_string()], ..order() });
        match rig.ended().how {
            How::Refused { why } => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&plain), "Permission denied");
    assert_eq!(refused(&folder.path().join("none")), "No such file or directory");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refused(&plain), "Exec format error");
    rig.send(order());
    assert_eq!(rig.ended().how, How::Refused { why: "it is empty".into() });
}

#[test]
fn so_many_run_at_once_and_others_wait_for_a_while() {
    let mut rig = Rig::new();
    let begin = Instant::now();
    let long: Vec<u64> = (0..32).map(|_| rig.order("sleep 1", 10_000)).collect();
    let (patient, hasty) = (rig.order("exit 0", 10_000), rig.order("exit 0", 300));
    // One may run beside, whatever waits.
    let beside = rig.send(Order { command: vec!["/bin/true".into()], beside: true, ..order() });
    assert_eq!(rig.ended(), Ended { id: beside, how: exit(0, "") });
    assert!(begin.elapsed() < Duration::from_millis(900));
    for _ in 0..32 {
        let ended = rig.ended();
        assert!(long.contains(&ended.id) && ended.how == exit(0, "") || ended.id >= patient, "{ended:?}");
        if ended.id == hasty {
            assert_eq!(ended.how, How::NotBegun { why: "others took too long".into() });
        }
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
    rig.ended();
    rig.ended();
    let all: Vec<u64> = (0..32 + 1_024 + 3).map(|_| rig.order("sleep 100", 100_000)).collect();
    let too_many = How::NotBegun { why: "too many others wait".into() };
    for &id in &all[32 + 1_024..] {
        assert_eq!(rig.ended(), Ended { id, how: too_many.clone() });
    }
    drop(rig.channel);
    rig.thread.join().unwrap();
}

#[test]
fn with_the_daemon_all_commands_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = Rig::new();
    rig.order(&format!("sleep 1000 & echo $$ $! > {}; wait", file.display()), 100_000);
    let begin = Instant::now();
    while pids(&file).len() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    drop(rig.channel);
    rig.thread.join().unwrap();
    all_end(&pids(&file));
}
