//! `shuntctl neighbor`.

use clap::Subcommand;
use ctl::answer::{Neighbor, NeighborState};
use ctl::verb;

use crate::question::Question;
use crate::table::{duration, finish, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All backends' addresses, their MAC addresses, and how fresh these are.
    List,
}

impl Command {
    pub(super) fn question(self) -> Question {
        match self {
            Command::List => Question::new::<verb::NeighborList>((), |neighbors| listing(&neighbors)),
        }
    }
}

fn listing(neighbors: &[Neighbor]) -> String {
    if neighbors.is_empty() {
        return "No backends, so no neighbors\n".into();
    }
    let mut table = table(&["ADDRESS", "PORT", "MAC", "STATE", ">CONFIRMED", ">PROBES", ">CHANGES", ">SERVICES"]);
    for neighbor in neighbors {
        table.add_row([
            neighbor.address.to_string(),
            neighbor.port.clone(),
            neighbor.mac.map_or("-".into(), |mac| mac.to_string()),
            neighbor_state(neighbor.state).into(),
            neighbor.confirmed_s.map_or("-".into(), |seconds| format!("{} ago", duration(seconds))),
            neighbor.probes.to_string(),
            neighbor.changes.to_string(),
            neighbor.services.to_string(),
        ]);
    }
    finish(&table)
}

fn neighbor_state(state: NeighborState) -> &'static str {
    match state {
        NeighborState::Permanent => "permanent",
        NeighborState::Incomplete => "incomplete",
        NeighborState::Reachable => "reachable",
        NeighborState::Probe => "probe",
        NeighborState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[("neighbor list", r#""neighbor-list""#)]);
    }
}
