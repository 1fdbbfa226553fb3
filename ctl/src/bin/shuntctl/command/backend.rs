//! `shuntctl backend`.

use std::net::IpAddr;

use clap::Subcommand;
use ctl::request::{BackendAdd, BackendDrain, BackendEdit, BackendName, BackendSpec, MacChange};
use ctl::{Mac, ServiceId, parse_backend, parse_seconds, verb};

use crate::question::Question;
use crate::value::{SERVICE, number};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a backend to a service.
    ///
    /// Example: shuntctl backend add 192.0.2.1:80 192.0.2.10 --weight 3
    Add {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address, on one of the director's networks.
        #[arg(value_name = "ADDRESS", value_parser = parse_backend)]
        backend: (IpAddr, Option<u16>),
        /// Its share of the flows in relation to the other backends', 0 to 65535; 0: none.
        #[arg(short, long, default_value_t = 1, value_parser = number::<u32>)]
        weight: u32,
        /// Its MAC address, if that is not to be resolved.
        #[arg(short, long)]
        mac: Option<Mac>,
        /// Have it get nothing until it is enabled.
        #[arg(long)]
        disabled: bool,
    },
    /// Change a backend's weight or MAC address.
    ///
    /// Example: shuntctl backend edit 192.0.2.1:80 192.0.2.10 --weight 3
    Edit {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
        /// Its new weight, 0 to 65535.
        #[arg(short, long, required_unless_present = "mac", value_parser = number::<u32>)]
        weight: Option<u32>,
        /// Its MAC address from now on, or "resolve" to have it resolved.
        #[arg(short, long, value_name = "MAC|resolve")]
        mac: Option<MacChange>,
    },
    /// Have a backend take no new flows; its old ones stay until they end, or for so long.
    ///
    /// Example: shuntctl backend drain 192.0.2.1:80 192.0.2.10 --deadline 10m
    Drain {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
        /// When what is left of its flows goes to other backends: 90s, 15m, 2h; 0s: at once. Without it, never.
        #[arg(short, long, value_name = "TIME", value_parser = parse_seconds)]
        deadline: Option<u32>,
    },
    /// Have a backend get nothing, neither new flows nor old ones, whatever its checks say.
    ///
    /// It is probed all the same. Connections that are silent until it is enabled go on, as after an outage. Example: shuntctl
    /// backend disable 192.0.2.1:80 192.0.2.10
    Disable {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
    },
    /// Have a backend that was drained or disabled take new flows again, as soon as its checks say that it is up.
    Enable {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
    },
    /// Remove a backend from a service. Its flows break; drain it first.
    Remove {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
    },
}

impl Command {
    pub(super) fn question(self) -> Question {
        match self {
            Command::Add { service, backend: (address, port), weight, mac, disabled } => {
                let backend = BackendSpec { address, port, weight, mac, disabled };
                Question::change::<verb::BackendAdd>(BackendAdd { service, backend })
            }
            Command::Edit { service, address, weight, mac } => {
                Question::change::<verb::BackendEdit>(BackendEdit { service, address, weight, mac })
            }
            Command::Drain { service, address, deadline } => {
                Question::change::<verb::BackendDrain>(BackendDrain { service, address, deadline_s: deadline })
            }
            Command::Disable { service, address } => {
                Question::change::<verb::BackendDisable>(BackendName { service, address })
            }
            Command::Enable { service, address } => {
                Question::change::<verb::BackendEnable>(BackendName { service, address })
            }
            Command::Remove { service, address } => {
                Question::change::<verb::BackendRemove>(BackendName { service, address })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[
            (
                "backend add 192.0.2.1:80 192.0.2.9:80 -w 7",
                r#""backend-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"backend":{"address":"192.0.2.9","port":80,"weight":7}}"#,
            ),
            (
                "backend add 192.0.2.1:80 192.0.2.9 -m 2:0:0:0:0:9",
                r#""backend-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"backend":{"address":"192.0.2.9","weight":1,"mac":"02:00:00:00:00:09"}}"#,
            ),
            (
                "backend edit 192.0.2.1:80 192.0.2.9 -w 3",
                r#""backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9","weight":3}"#,
            ),
            (
                "backend edit 192.0.2.1:80 192.0.2.9 -m resolve",
                r#""backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9","mac":"resolve"}"#,
            ),
            (
                "backend edit 192.0.2.1:80 192.0.2.9 -m 02:00:00:00:00:09 -w 4",
                r#""backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9","weight":4,"mac":"02:00:00:00:00:09"}"#,
            ),
            (
                "backend drain 192.0.2.1:80 192.0.2.9",
                r#""backend-drain","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9"}"#,
            ),
            (
                "backend drain 192.0.2.1:80 192.0.2.9 -d 10m",
                r#""backend-drain","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9","deadline_s":600}"#,
            ),
            (
                "backend add 192.0.2.1:80 192.0.2.9 --disabled",
                r#""backend-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"backend":{"address":"192.0.2.9","weight":1,"disabled":true}}"#,
            ),
            (
                "backend disable [fd00::1]:80 fd00::9",
                r#""backend-disable","arguments":{"service":{"vip":"fd00::1","port":80,"protocol":"tcp"},"address":"fd00::9"}"#,
            ),
            (
                "backend enable 192.0.2.1:80 192.0.2.9",
                r#""backend-enable","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9"}"#,
            ),
            (
                "backend remove 192.0.2.1:80 192.0.2.9",
                r#""backend-remove","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"address":"192.0.2.9"}"#,
            ),
        ]);
    }
}
