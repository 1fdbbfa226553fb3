//! `shuntctl port`.

use clap::Subcommand;
use ctl::answer::Port;
use ctl::verb;

use crate::question::Question;
use crate::table::{finish, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All ports: device, driver, link, addresses, counters.
    List,
}

impl Command {
    pub(super) fn question(self) -> Question {
        match self {
            Command::List => Question::new::<verb::PortList>((), |ports| listing(&ports)),
        }
    }
}

fn listing(ports: &[Port]) -> String {
    let mut table = table(&[
        "PORT",
        "DEVICE",
        "DRIVER",
        "LINK",
        "MAC",
        "ADDRESSES",
        ">MTU",
        ">QUEUES",
        ">RX",
        ">TX",
        ">MISSED",
        ">ERRORS",
        ">NO MBUF",
    ]);
    for port in ports {
        let speed = port.speed_mbps.map_or(String::new(), |mbps| format!(" {mbps} Mbit/s"));
        table.add_row([
            port.name.clone(),
            port.device.clone(),
            port.driver.clone(),
            if port.link_up { format!("up{speed}") } else { "down".into() },
            port.mac.to_string(),
            addresses(port),
            port.mtu.to_string(),
            port.queues.to_string(),
            port.rx_packets.to_string(),
            port.tx_packets.to_string(),
            port.rx_missed.to_string(),
            port.rx_errors.to_string(),
            port.rx_no_mbuf.to_string(),
        ]);
    }
    finish(&table)
}

/// One a line, those of a VLAN behind its name.
fn addresses(port: &Port) -> String {
    let tagged = port
        .vlans
        .iter()
        .flat_map(|vlan| vlan.addresses.iter().map(move |address| format!("{}.{} {address}", port.name, vlan.id)));
    port.addresses.iter().cloned().chain(tagged).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[("port list", r#""port-list""#)]);
    }
}
