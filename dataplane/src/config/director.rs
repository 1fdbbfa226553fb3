//! `[director]`: cores, memory, control.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use ctl::answer::Severity;

use crate::base::limits::{DEFAULT_TABLE_SIZE, EXCEPTIONS, MAX_TABLE_SIZE, MBUFS, MIN_TABLE_SIZE};
use crate::commands::{Account, AccountError, file};
use crate::config::rows::{Section, section, typed};
use crate::config::source::Source;
use crate::control::hash_key::HashKey;
use crate::control::model::command::command;
use crate::forward::exceptions::Room;
use crate::select::maglev;

/// IPv4 flows that a worker can remember: 16 MiB.
const DEFAULT_EXCEPTIONS: u32 = 1 << 20;
/// IPv6 flows that a worker can remember, unless configured: one of so many of the IPv4 flows.
const EXCEPTIONS_V4_TO_V6: u32 = 4;

section! {
    /// The director itself: its cores, its memory, and access to it.
    pub(super) struct DirectorSection = Section::new("[director]");

    /// Cores that forward, one worker each.
    workers: Option<Vec<usize>> = None, or("core 1; core 0 where it is the only one", [1]);
    /// The core of ARP, NDP, ping and neighbor resolution.
    slow_path: usize = 0;
    /// Whether the slow path polls its core without a pause, for the quickest answers.
    slow_path_poll: bool = false;
    /// Pings that are answered, over all workers, VIPs and own addresses, each worker its share; 0: none.
    echo_rate: u32 = 1_000, unit("pings a second");
    /// Keys the flow hash and the Maglev tables: the same on every director of the same VIPs. Have one of your own: `shuntd --check FILE`
    /// prints a fresh one to paste as long as there is none, or only the example's, which everybody knows.
    hash_key: Option<String> = None, written("32 hexadecimal digits"),
        or("a fixed one, with which clients can work out their backend", HashKey::EXAMPLE.to_string());
    /// Slots of a Maglev table, 2 bytes each; the same on every director of the same VIPs.
    maglev_table_size: u32 = DEFAULT_TABLE_SIZE, unit("slots"),
        written(format!("a prime from {MIN_TABLE_SIZE} to {MAX_TABLE_SIZE}"));
    /// The control socket.
    socket: PathBuf = ctl::DEFAULT_SOCKET.into(), written("a path");
    /// The name of the group whose members may open the socket. They may only look: changing is for root and the daemon's user.
    socket_group: Option<String> = None, or("the daemon's own group", "adm");
    /// Where Prometheus may fetch `http://…/metrics`.
    metrics: Option<String> = None, written("an address with a port"), or("nowhere", "127.0.0.1:9747");
    /// Whether packet buffers are in hugepages: where enough of them are free, or else do not start, or never.
    hugepages: Hugepages = Hugepages::Auto, words_of::<Hugepages>();
    /// Packet buffers: of 2 KiB; of 4 KiB where a port may be one by AF_XDP; larger where AF_PACKET has larger frames.
    mbufs: Option<u32> = None, unit("buffers"), range(MBUFS), or("what ports and workers need", 16_383);
    /// IPv4 flows that a worker can remember, 16 bytes each.
    exceptions: u32 = DEFAULT_EXCEPTIONS, unit("flows"), range(EXCEPTIONS);
    /// IPv6 flows that a worker can remember, 43 bytes each.
    exceptions_ipv6: Option<u32> = None, unit("flows"), range(EXCEPTIONS),
        or(format!("`exceptions` / {EXCEPTIONS_V4_TO_V6}"), DEFAULT_EXCEPTIONS / EXCEPTIONS_V4_TO_V6);
    /// The command that is run for each event, one after the other in their order, with the event as a line of JSON on standard input.
    /// It has 10 s, and runs as `script_user`.
    notify: Option<String> = None, written("the path of a program, and its arguments"), or("none", "/usr/bin/logger -t shunt");
    /// The least severity of an event for which `notify` is run.
    notify_severity: Severity = Severity::Warn, words_of::<Severity>();
    /// The user that the commands of checks and `notify` run as, with its groups; not root. Where shuntd itself is not root, its own user.
    script_user: Option<String> = None, written("the name of a user"), or("`nobody`", "nobody");
    /// More arguments for DPDK's EAL.
    eal_args: Vec<String> = vec![];
}

/// The `[director]` section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Director {
    /// Cores that forward, one worker each.
    pub workers: Vec<usize>,
    /// The core of the slow path.
    pub slow_path: usize,
    /// Whether the slow path polls without a pause.
    pub slow_path_poll: bool,
    /// Pings a second that are answered, over all workers; 0: none.
    pub echo_rate: u32,
    /// Keys the flow hash and the Maglev tables.
    pub hash_key: HashKey,
    /// Slots of a Maglev table.
    pub maglev_table_size: u32,
    /// The control socket.
    pub socket: PathBuf,
    /// The group that may open the socket.
    pub socket_group: Option<String>,
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// Whether packet memory is to be in hugepages.
    pub hugepages: Hugepages,
    /// Packet buffers; `None`: as many as ports and workers need.
    pub mbufs: Option<u32>,
    /// How many flows a worker can remember.
    pub room: Room,
    /// The command that is run for events; and the least severity of these.
    pub notify: Option<(Vec<String>, Severity)>,
    /// The account that commands run as; `None`: that of this process. An error: this process cannot become that user, which the start
    /// refuses. Whoever only checks the file may be anybody.
    pub account: Result<Option<Account>, AccountError>,
    /// More arguments for DPDK's EAL.
    pub eal_args: Vec<String>,
}

/// Whether packet memory is to be in hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// Where enough of them are free.
    #[default]
    Auto,
    /// Or do not start.
    On,
    /// Never.
    Off,
}

typed! { Text: Hugepages, Severity; }

/// Turns the section into checked values.
pub(super) fn check(section: DirectorSection, source: &mut Source) -> Director {
    let (workers, slow_path) = cores(section.workers, section.slow_path, source);
    if !maglev::is_table_size(section.maglev_table_size) {
        let message = format!(
            "{} is not a prime from {MIN_TABLE_SIZE} to {MAX_TABLE_SIZE}: leave it out, or use {DEFAULT_TABLE_SIZE}",
            section.maglev_table_size
        );
        source.problem("director.maglev_table_size", message);
    }
    Director {
        workers,
        slow_path,
        slow_path_poll: section.slow_path_poll,
        echo_rate: section.echo_rate,
        hash_key: hash_key(section.hash_key, source),
        maglev_table_size: section.maglev_table_size,
        socket: section.socket,
        socket_group: section.socket_group,
        metrics: section.metrics.and_then(|text| source.good("director.metrics", metrics(&text))),
        hugepages: section.hugepages,
        mbufs: section.mbufs,
        room: room(section.exceptions, section.exceptions_ipv6),
        notify: section.notify.and_then(|text| {
            let command = command(&text).and_then(|command| file::runnable(&command).map(|()| command));
            Some((source.good("director.notify", command)?, section.notify_severity))
        }),
        account: account(Account::find(section.script_user.as_deref()), source),
        eal_args: section.eal_args,
    }
}

fn account(found: Result<Option<Account>, AccountError>, source: &mut Source) -> Result<Option<Account>, AccountError> {
    if let Err(error @ (AccountError::NoSuchUser(_) | AccountError::Root(_))) = &found {
        source.problem("director.script_user", error.to_string());
    }
    found
}

/// Defaults: core 0 for the slow path, core 1 for one worker; where there is but one core, both share it.
fn cores(workers: Option<Vec<usize>>, slow_path: usize, source: &mut Source) -> (Vec<usize>, usize) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = workers.unwrap_or_else(|| vec![if cores > 1 && slow_path != 1 { 1 } else { 0 }]);
    if workers.is_empty() {
        source.problem("director.workers", "At least one core must forward");
    }
    let distinct: HashSet<&usize> = workers.iter().collect();
    if distinct.len() < workers.len() {
        source.problem("director.workers", "A core is named twice: each worker needs one of its own");
    }
    if workers.contains(&slow_path) {
        let message =
            "is the slow path's and a worker's, which never gives it away: ARP, ping and control will be slow";
        source.warning(format!("Core {slow_path} {message}"));
    }
    (workers, slow_path)
}

/// Without one, the fixed one; whoever prints the configuration's warnings says what to do about that.
fn hash_key(text: Option<String>, source: &mut Source) -> HashKey {
    let Some(text) = text else { return HashKey::DEFAULT };
    let key = HashKey::read(&text).ok_or("Not 32 hexadecimal digits: make them with `openssl rand -hex 16`".to_owned());
    source.good("director.hash_key", key).unwrap_or(HashKey::DEFAULT)
}

fn metrics(text: &str) -> Result<SocketAddr, String> {
    let is_plain = |_: &SocketAddr| text.rsplit(':').next().and_then(ctl::parse_number::<u16>).is_some();
    text.parse().ok().filter(is_plain).ok_or_else(|| {
        format!("\"{text}\" is no address with a port: use one of the management network's, or \"127.0.0.1:9747\"")
    })
}

fn room(v4: u32, v6: Option<u32>) -> Room {
    let flows = |flows: u32| usize::try_from(flows).expect("a usize has 32 bits or more");
    Room { v4: flows(v4), v6: flows(v6.unwrap_or(v4 / EXCEPTIONS_V4_TO_V6)) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::environment;
    use crate::config::file::{File, sections};
    use crate::config::rows::{Kind, Row};

    /// The section as file and environment have it.
    fn read(file: &str, variables: &[(&str, &str)]) -> DirectorSection {
        let mut source = Source::from_text("f", file, variables, &sections()).unwrap();
        let file: File = source.sections();
        assert_eq!(source.finish().map_err(|error| error.to_string()), Ok(vec![]));
        file.director
    }

    /// A value of the key's kind that is not its default, and as the environment has it.
    fn another(row: &Row) -> (Value, String) {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
        let value = row.another();
        let text = match &value {
            Value::Array(elements) => elements.iter().map(plain).collect::<Vec<_>>().join(","),
            value => plain(value),
        };
        (value, text)
    }

    #[test]
    fn every_key_can_be_set_from_the_environment() {
        let section = DirectorSection::section();
        let mut kinds = Vec::new();
        for row in &section.rows {
            let (value, text) = another(row);
            let variable = environment::variable(&section, row.key);
            let set = serde_json::to_value(read("", &[(&variable, &text)])).unwrap();
            assert_eq!(set[row.key], value, "{variable}={text}");
            assert_ne!(set, serde_json::to_value(DirectorSection::default()).unwrap(), "{variable}={text}");
            // Over the file, and the same as in the file.
            let file = |value: &Value| format!("[director]\n{} = {value}\n", row.key);
            assert_eq!(set, serde_json::to_value(read(&file(&value), &[])).unwrap(), "{}", row.key);
            let sample = row.sample().expect("a key of [director] has a value to show");
            assert_eq!(set, serde_json::to_value(read(&file(sample), &[(&variable, &text)])).unwrap(), "{}", row.key);
            kinds.push(row.kind);
        }
        for kind in [Kind::Number, Kind::Boolean, Kind::Text, Kind::List(&Kind::Number), Kind::List(&Kind::Text)] {
            assert!(kinds.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn who_only_checks_a_file_may_be_anybody() {
        let name = || "daemon".to_string();
        for (error, is_good) in [
            (AccountError::NotRoot(name()), true),
            (AccountError::NoSuchUser(name()), false),
            (AccountError::Root(name()), false),
        ] {
            let mut source = Source::from_text("f", "", &[], &sections()).unwrap();
            let _: File = source.sections();
            assert_eq!(account(Err(error.clone()), &mut source), Err(error.clone()), "the start refuses it");
            assert_eq!(source.finish().is_ok(), is_good, "{error}");
        }
    }

    #[test]
    fn room_for_ipv6_follows_that_for_ipv4() {
        assert_eq!(room(4_096, None), Room { v4: 4_096, v6: 1_024 });
        assert_eq!(room(4_096, Some(2_048)), Room { v4: 4_096, v6: 2_048 });
    }
}
