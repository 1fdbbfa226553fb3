//! The process that runs commands: what it gives up, what it leaves behind, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that this is all tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctl::request::EventQuery;
use dataplane::commands::{Account, Commands, Ended, How, Keeper, Order};
use dataplane::control::events::EventLog;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// The keeper, with `shuntd` as its runner.
struct Rig {
    commands: Commands,
    events: Arc<EventLog>,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
    orders: u64,
}

impl Rig {
    fn new() -> Rig {
        let events = Arc::<EventLog>::default();
        let account = Account::find(None).unwrap();
        let (keeper, commands) = Keeper::of_program(env!("CARGO_BIN_EXE_shuntd").into(), account, events.clone());
        let stop = Arc::<AtomicBool>::default();
        let of_keeper = stop.clone();
        let keeper = std::thread::spawn(move || keeper.run(&of_keeper));
        Rig { commands, events, stop, keeper: Some(keeper), orders: 0 }
    }

    /// What becomes of a script of a shell. `None`: nobody says so.
    fn run(&mut self, script: &str) -> Option<How> {
        self.orders += 1;
        let (id, begin) = (self.orders, Instant::now());
        let command = ["/bin/sh", "-c", script].map(String::from).into();
        let order = Order { id, command, environment: Vec::new(), input: None, limit_ms: 5_000, beside: false };
        self.commands.order(vec![order], Instant::now());
        while begin.elapsed() < Duration::from_secs(7) {
            if let Some(Ended { how, .. }) = self.commands.turn(Instant::now()).into_iter().find(|ended| ended.id == id)
            {
                return Some(how);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// What a script says that ends well.
    fn says(&mut self, script: &str) -> String {
        match self.run(script) {
            Some(How::Exit { status: 0, said }) => said,
            other => panic!("{script}: {other:?}"),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.keeper.take().unwrap().join().unwrap();
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap())
}

fn wait_for_end(pid: Pid) {
    let begin = Instant::now();
    while Path::new("/proc").join(pid.to_string()).exists() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{pid} is there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that any user may write to.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

#[test]
fn commands_have_no_privileges() {
    let mut rig = Rig::new();
    let said = rig.says("echo $(grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|NoNewPrivs):' /proc/self/status)");
    if geteuid().is_root() {
        assert!(said.starts_with("Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534 Groups: 65534 "), "{said}");
        assert!(said.contains("CapPrm: 0000000000000000 CapEff: 0000000000000000 "), "{said}");
    }
    assert!(said.ends_with("NoNewPrivs: 1"), "{said}");
    let said = rig.says("echo $(grep -E '^(CapAmb|SigBlk):' /proc/self/status)");
    assert_eq!(said, "SigBlk: 0000000000000000 CapAmb: 0000000000000000");
    assert_eq!(rig.says("echo $(ls /proc/self/fd)"), "0 1 2 3", "the last one is of ls itself");
    // Of the runner itself, nothing but the socket and the standard descriptors is open.
    let runner = rig.says("echo $PPID");
    let open = fs::read_dir(format!("/proc/{runner}/fd")).unwrap().flatten();
    let open: Vec<String> =
        open.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect();
    assert!(open.iter().filter(|file| file.starts_with("socket:")).count() == 2 && open.len() == 4, "{open:?}");
    assert_eq!(fs::read_to_string(format!("/proc/{runner}/comm")).unwrap().trim(), "shunt-commands");
    rig.end();
    wait_for_end(pid(&runner));
}

#[test]
fn what_a_command_leaves_behind_ends_wherever_it_hides() {
    let (mut rig, folder) = (Rig::new(), folder());
    let file = folder.path().join("pid");
    // In a session of its own, without parents.
    let script = format!("setsid sh -c '(echo $$; exec sleep 1000) > {}' > /dev/null 2>&1 & sleep 0.3", file.display());
    assert_eq!(rig.says(&script), "");
    let stray = pid(&fs::read_to_string(&file).unwrap());
    wait_for_end(stray);
    rig.end();
}

#[test]
fn a_runner_that_ends_is_started_again_and_leaves_with_the_daemon() {
    let mut rig = Rig::new();
    let first = pid(&rig.says("echo $PPID"));
    // What all processes are told at once is not for it.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        kill(first, signal).unwrap();
    }
    assert_eq!(pid(&rig.says("echo $PPID")), first);
    kill(first, Signal::SIGKILL).unwrap();
    wait_for_end(first);
    let second = pid(&rig.says("echo $PPID"));
    assert_ne!(second, first);
    let events = rig.events.list(EventQuery::default());
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["commands-stopped"]);
    assert!(events[0].message.contains("signal: 9"), "{}", events[0].message);
    assert_eq!(rig.run("kill -9 $PPID; sleep 1"), None, "nobody says what became of it");
    rig.end();
    wait_for_end(second);
}
