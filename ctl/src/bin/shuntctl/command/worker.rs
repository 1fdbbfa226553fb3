//! `shuntctl worker`.

use clap::Subcommand;
use ctl::answer::{LatencySamples, Percentiles, Worker};
use ctl::verb;

use crate::question::Question;
use crate::table::{duration, finish, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All workers: core, load, packets, and how long frames were with them.
    List,
}

impl Command {
    pub(super) fn question(self) -> Question {
        match self {
            Command::List => Question::new::<verb::WorkerList>((), |workers| listing(&workers)),
        }
    }
}

fn listing(workers: &[Worker]) -> String {
    let mut table = table(&[
        "WORKER",
        ">CORE",
        ">LOAD",
        ">RECEIVED",
        ">FORWARDED",
        ">DROPPED",
        ">TO SLOW PATH",
        ">FLOWS REMEMBERED",
        ">NO ROOM",
        ">TURNS",
        ">BUSY TURNS",
        ">SNAPSHOT",
    ]);
    for worker in workers {
        table.add_row([
            worker.id.to_string(),
            worker.lcore.to_string(),
            format!("{:.1} %", worker.load * 100.0),
            worker.rx_packets.to_string(),
            worker.forwarded_packets.to_string(),
            worker.dropped_packets.to_string(),
            worker.punted_packets.to_string(),
            format!("{} of {}", worker.remembered_flows, worker.room_for_flows),
            worker.unremembered_packets.to_string(),
            worker.turns.to_string(),
            worker.busy_turns.to_string(),
            worker.generation.to_string(),
        ]);
    }
    finish(&table) + &latencies(workers)
}

/// How long frames were with the workers.
fn latencies(workers: &[Worker]) -> String {
    if workers.iter().all(|worker| worker.latency.is_none()) {
        return String::new();
    }
    let mut table = table(&["LATENCY (µs)", "OVER", ">FRAMES SAMPLED", ">HALF (p50)", ">99 %", ">99.9 %", ">LONGEST"]);
    for worker in workers {
        let Some(latency) = &worker.latency else { continue };
        let id = format!("worker {}", worker.id);
        table.add_row(latency_row(id.clone(), format!("the last {} s", latency.recent.seconds), &latency.recent));
        let since_start = &latency.since_start;
        table.add_row(latency_row(id, format!("{} since the start", duration(since_start.seconds)), since_start));
    }
    format!("\n{}", finish(&table))
}

fn latency_row(worker: String, over: String, of: &LatencySamples) -> [String; 7] {
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1_000.0);
    let cells = |p: Percentiles| [p.p50_ns, p.p99_ns, p.p999_ns, p.max_ns].map(us);
    let [half, p99, p999, longest] = of.percentiles.map_or_else(|| [(); 4].map(|()| "-".into()), cells);
    [worker, over, of.samples.to_string(), half, p99, p999, longest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[("worker list", r#""worker-list""#)]);
    }

    #[test]
    fn latencies_are_in_microseconds_and_may_be_missing() {
        let worker = |id: usize, rest: &str| -> Worker {
            let text = format!(
                r#"{{"id":{id},"lcore":1,"turns":9,"busy_turns":3,"load":0.5,"rx_packets":3,"forwarded_packets":3,
                "dropped_packets":0,"punted_packets":0,"remembered_flows":0,"room_for_flows":16,"unremembered_packets":0,
                "generation":1{rest}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let old = worker(0, "");
        assert_eq!(listing(std::slice::from_ref(&old)).lines().count(), 2, "of a daemon that does not tell");
        let new = worker(
            1,
            r#","latency":{"recent":{"seconds":64,"samples":0,"sum_ns":0,"percentiles":null,"buckets":[]},
            "since_start":{"seconds":90061,"samples":1200,"sum_ns":1500000,"buckets":[{"up_to_ns":255,"samples":0}],
            "percentiles":{"p50_ns":1279,"p99_ns":2047,"p999_ns":50175,"max_ns":1048575}}}"#,
        );
        let text = listing(&[old, new]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[5], ["worker", "1", "the", "last", "64", "s", "0", "-", "-", "-", "-"]);
        let since_start = ["worker", "1", "1d", "1h", "since", "the", "start", "1200", "1.3", "2.0", "50.2", "1048.6"];
        assert_eq!(words[6], since_start);
    }
}
