//! The backends' MAC addresses.

use std::time::Instant;

use ctl::answer::{self, Refusal};
use ctl::verb::{self, Answers};

use crate::api::facts::Facts;

impl Answers<verb::NeighborList> for Facts {
    fn answer(&self, (): ()) -> Result<Vec<answer::Neighbor>, Refusal> {
        Ok(list(self))
    }
}

pub(super) fn list(facts: &Facts) -> Vec<answer::Neighbor> {
    let now = Instant::now();
    let model = facts.director.current().model.clone();
    let uses = model.backend_addresses();
    let neighbors = facts.neighbors();
    neighbors
        .iter()
        .map(|(&address, neighbor)| answer::Neighbor {
            address,
            port: model.network(neighbor.network).name(),
            mac: neighbor.mac,
            state: neighbor.state,
            confirmed_s: neighbor.confirmed.map(|then| now.saturating_duration_since(then).as_secs()),
            probes: neighbor.probes,
            changes: neighbor.changes,
            services: uses.get(&address).copied().unwrap_or(0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use crate::api::answer::tests::{ask, example};

    #[test]
    fn a_neighbor_is_listed_with_its_state_and_its_services() {
        let facts = example();
        facts.neighbors.lock().unwrap().sync(&facts.director.current(), Instant::now());
        let listed = &ask(&facts, "neighbor-list", Value::Null)["ok"]["neighbors"];
        let said = |index: usize| ["address", "port", "state", "services"].map(|field| listed[index][field].clone());
        assert_eq!(said(0), [json!("192.168.0.3"), json!("lan0"), json!("permanent"), json!(1)]);
        assert_eq!(said(1), [json!("192.168.0.4"), json!("lan0"), json!("incomplete"), json!(1)]);
    }
}
