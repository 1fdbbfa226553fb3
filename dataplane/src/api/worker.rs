//! Workers, and how long frames are with them.

use std::time::{Duration, Instant};

use ctl::answer::{self, Latency, LatencyBucket, LatencySamples, Percentiles, Refusal};
use ctl::verb::{self, Answers};

use crate::api::facts::Facts;
use crate::count::counters::PortCounters;
use crate::count::histogram::Histogram;

impl Answers<verb::WorkerList> for Facts {
    fn answer(&self, (): ()) -> Result<Vec<answer::Worker>, Refusal> {
        Ok(list(self))
    }
}

fn list(facts: &Facts) -> Vec<answer::Worker> {
    let (recently, recent) = facts.recent_latency.histograms(Instant::now());
    let workers = facts.director.workers().iter().zip(&facts.lcores).zip(recent).enumerate();
    workers
        .map(|(id, ((worker, &lcore), recent))| answer::Worker {
            id,
            lcore,
            turns: worker.turns.read(),
            busy_turns: worker.busy_turns.read(),
            load: worker.busy_cycles.read() as f64 / worker.cycles.read().max(1) as f64,
            rx_packets: worker.over_ports(|port| port.rx_packets.read()),
            forwarded_packets: worker.over_ports(|port| port.forwarded.read()),
            dropped_packets: worker.over_ports(PortCounters::dropped),
            punted_packets: worker.over_ports(PortCounters::punted),
            remembered_flows: worker.exceptions.read(),
            room_for_flows: facts.room_for_flows as u64,
            unremembered_packets: worker.exceptions_full.read(),
            generation: worker.generation.read(),
            latency: Some(Latency {
                recent: latency(recently, &recent),
                since_start: latency(facts.started.elapsed(), &Histogram::of(&worker.latency)),
            }),
        })
        .collect()
}

fn latency(over: Duration, of: &Histogram) -> LatencySamples {
    let percentiles = || {
        let [p50_ns, p99_ns, p999_ns, max_ns] = [500, 990, 999, 1_000].map(|share| of.per_mille(share));
        Some(Percentiles { p50_ns: p50_ns?, p99_ns: p99_ns?, p999_ns: p999_ns?, max_ns: max_ns? })
    };
    LatencySamples {
        seconds: over.as_secs(),
        samples: of.samples(),
        sum_ns: of.sum_ns(),
        percentiles: percentiles(),
        buckets: of.cumulative().map(|(up_to_ns, samples)| LatencyBucket { up_to_ns, samples }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::answer::tests::{ask, example};

    #[test]
    fn a_worker_has_its_core_its_load_and_its_latency() {
        let facts = example();
        let worker = &facts.director.workers()[0];
        worker.cycles.add(200);
        worker.busy_cycles.add(50);
        worker.ports[0].forwarded.add(5);
        let workers = &ask(&facts, "worker-list", Value::Null)["ok"]["workers"];
        let said = ["id", "lcore", "load", "forwarded_packets"].map(|field| workers[0][field].clone());
        assert_eq!(said, [json!(0), json!(1), json!(0.25), json!(5)]);
        assert_eq!(workers[0]["latency"]["since_start"]["percentiles"], Value::Null, "no frame was sampled");
    }
}
