//! Loads a configuration: from a file and the environment to a checked [`Config`].

use std::path::Path;
use std::sync::Arc;

use ctl::request::ServiceAdd;

use crate::base::limits::MIN_TABLE_SIZE;
use crate::commands::file;
use crate::config::director::{self, Director};
use crate::config::file::{File, sections};
use crate::config::ports::{self, Port};
use crate::config::problem::ConfigError;
use crate::config::services::{self, key_of};
use crate::config::source::Source;
use crate::control::model::{Model, ModelError};
use crate::count::lease::Leases;

/// What `shuntd` is to do, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The `[director]` section.
    pub director: Director,
    /// The ports, in the order of the file.
    pub ports: Vec<Port>,
    /// The services.
    pub services: Vec<ServiceAdd>,
    /// What is legal, but probably not meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks a file, with the environment on top.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Self::from_source(Source::read(path, &sections())?)
    }

    /// Checks a file's text, with these environment variables on top. `name` is the file's, for messages.
    pub fn from_text(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Self::from_source(Source::from_text(name, text, variables, &sections())?)
    }

    fn from_source(mut source: Source) -> Result<Config, ConfigError> {
        let file: File = source.sections();
        let director = director::check(file.director, &mut source);
        let ports = ports::check(file.ports, &mut source);
        let services = services::check(file.services, &mut source);
        let mut config = Config { director, ports, services: Vec::new(), warnings: Vec::new() };
        // Against a model with the smallest of tables: what is checked does not depend on the size.
        let mut model = config.model(MIN_TABLE_SIZE);
        let leases = Leases::new(Vec::new());
        for (key, service) in services {
            let errors = model.add_service(&service, &leases).err().into_iter().flatten();
            for error in errors.chain(file::problems(service.checks.as_deref(), &service.service)) {
                source.problem(&key_of(&key, &error), error.to_string());
            }
            config.services.push(service);
        }
        config.warnings = source.finish()?;
        Ok(config)
    }

    /// What an operator should look at: the warnings and, where the hash key is a public one, a fresh one to paste.
    pub fn advice(&self) -> impl Iterator<Item = String> {
        self.director.hash_key.advice().into_iter().chain(self.warnings.iter().cloned())
    }

    /// The model of this configuration with its services.
    pub fn full_model(&self, leases: &Arc<Leases>) -> Result<Model, Vec<ModelError>> {
        let mut model = self.model(self.director.maglev_table_size);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        model.add_services(&self.services, leases, threads)?;
        Ok(model)
    }

    fn model(&self, table_size: u32) -> Model {
        let networks = self.ports.iter().enumerate().flat_map(|(number, port)| port.networks(number));
        Model::new(self.director.hash_key.0, table_size, networks.collect())
    }
}

#[cfg(test)]
mod tests {
    use ctl::Mac;

    use super::*;
    use crate::config::problem::Problem;
    use crate::dpdk::Device;

    const EXAMPLE: &str = r#"
[director]
workers = [1]
slow_path = 0
hash_key = "000102030405060708090a0b0c0d0e0f"
[[ports]]
name = "lan0"
device = "0000:03:00.1"
addresses = ["192.168.0.2/24", "fd00::2/64"]
[[services]]
vip = "192.168.0.101"
port = 80
protocol = "tcp"
scheduler = "maglev"
backends = [ { address = "192.168.0.3", weight = 1 }, { address = "192.168.0.4", weight = 3 } ]
[[services]]
vip = "fd00::101"
port = "53"
protocol = "udp"
backends = [ { address = "fd00::3", mac = "02:00:00:00:00:03" } ]
"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_text("shunt.toml", text, &[])
    }

    fn problems(text: &str) -> Vec<String> {
        load(text).unwrap_err().problems.iter().map(Problem::to_string).collect()
    }

    /// The example with one line replaced.
    fn with(line: &str, instead: &str) -> String {
        assert!(EXAMPLE.contains(line), "{line}");
        EXAMPLE.replacen(line, instead, 1)
    }

    #[test]
    fn the_example_is_understood() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(config.director.hash_key.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(config.director.echo_rate, 1_000);
        assert_eq!(config.ports[0].device, Device::Pci("0000:03:00.1".into()));
        assert_eq!(config.services[0].backends[1].weight, 3);
        assert_eq!(config.services[1].service.to_string(), "[fd00::101]:53/udp");
        assert_eq!(config.services[1].backends[0].mac, Some(Mac([2, 0, 0, 0, 0, 3])));
        assert_eq!(config.advice().collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[test]
    fn a_public_hash_key_is_worth_a_fresh_one_to_paste() {
        for public in ["", "hash_key = \"00112233445566778899aabbccddeeff\""] {
            let config = load(&with("hash_key = \"000102030405060708090a0b0c0d0e0f\"", public)).unwrap();
            let advice: Vec<String> = config.advice().collect();
            assert!(advice.len() == 1 && advice[0].contains("hash_key = \""), "{advice:?}");
        }
    }

    #[test]
    fn a_core_with_two_masters_is_worth_a_warning() {
        let config = load(&with("slow_path = 0", "slow_path = 1")).unwrap();
        assert!(config.warnings[0].starts_with("Core 1 is"), "{:?}", config.warnings);
    }

    #[test]
    fn every_mistake_is_said_at_once_with_its_place() {
        let text = EXAMPLE
            .replace("slow_path = 0", "slow_path = 0\nslowpath_poll = true")
            .replace("\"192.168.0.2/24\"", "\"192.168.0.2\"")
            .replace("port = 80", "port = 80000")
            .replace("weight = 3", "weight = \"three\"")
            .replace("protocol = \"udp\"", "protocol = \"icmp\"")
            .replace("name = \"lan0\"\n", "");
        let problems = problems(&text);
        for expected in [
            "shunt.toml:5: director.slowpath_poll: ",
            "shunt.toml:7: ports[0].name: ",
            "shunt.toml:9: ports[0].addresses[0]: ",
            "shunt.toml:12: services[0].port: ",
            "shunt.toml:15: services[0].backends[1].weight: ",
            "shunt.toml:19: services[1].protocol: ",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} in {problems:#?}");
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
        let lines: Vec<u32> = problems.iter().map(|said| said.split(':').nth(1).unwrap().parse().unwrap()).collect();
        assert!(lines.is_sorted(), "{problems:#?}");
    }

    #[test]
    fn mistakes_are_explained() {
        let hint = |line, instead: &str| problems(&with(line, instead)).join("\n");
        for (line, instead, says) in [
            ("workers = [1]", "workers = []", "At least one core"),
            ("workers = [1]", "workers = [1, 1]", "twice"),
            ("workers = [1]", "workers = 1", "director.workers"),
            ("slow_path = 0", "slow_path = -1", "director.slow_path"),
            ("slow_path = 0", "echo_rate = -1", "director.echo_rate"),
            ("hash_key = \"00", "hash_key = \"0g", "32 hexadecimal digits"),
            ("slow_path = 0", "maglev_table_size = 65536", "prime"),
            ("slow_path = 0", "metrics = \":9747\"", "director.metrics: \":9747\" is no address with a port"),
            ("slow_path = 0", "metrics = 9747", "director.metrics"),
            ("device = \"0000:03:00.1\"", "device = \"eth1\"", "iface:NAME"),
            ("device = \"0000:03:00.1\"", "device = \"iface:\"", "iface:eth1"),
            ("\"fd00::2/64\"", "\"192.168.0.0/24\"", "network's own"),
            ("slow_path = 0", "slow_path = 0\nmtu = 9000", "director.mtu"),
            ("device = ", "mtu = 1000\ndevice = ", "Use 1280 to 64000"),
            ("device = ", "mtu = 70000\ndevice = ", "Use 1280 to 64000"),
            ("device = ", "vlan_strip = 1\ndevice = ", "ports[0].vlan_strip"),
            ("device = ", "vlans = [{ id = 4095 }]\ndevice = ", "ports[0].vlans[0].id: \"4095\" is no VLAN"),
            ("device = ", "vlans = [{ id = \"7.0\" }]\ndevice = ", "is no VLAN"),
            ("device = ", "vlans = [{ id = 7.5 }]\ndevice = ", "text such as \"200.30\""),
            (
                "device = ",
                "vlans = [{ id = 7 }, { id = \"7\" }]\ndevice = ",
                "ports[0].vlans[1].id: This port has VLAN 7 already",
            ),
            ("device = ", "vlans = [{ addresses = [] }]\ndevice = ", "ports[0].vlans[0].id: Missing"),
            (
                "device = ",
                "vlans = [{ id = 7, addresses = [\"10.0.0.1\"] }]\ndevice = ",
                "ports[0].vlans[0].addresses[0]",
            ),
            (
                "device = ",
                "vlans = [{ id = 7, addresses = [\"192.168.0.2/24\"] }]\ndevice = ",
                "of another port or VLAN already",
            ),
            ("device = ", "vlans = [{ id = 7, adresses = [] }]\ndevice = ", "did you mean `addresses`?"),
            ("\"192.168.0.2/24\"", "\"192.168.0.2/+24\"", "is not ADDRESS/PREFIX"),
            ("\"192.168.0.2/24\"", "\"192.168.0.2/024\"", "is not ADDRESS/PREFIX"),
            ("\"192.168.0.2/24\"", "\"192.168.000.002/24\"", "is not ADDRESS/PREFIX"),
            ("\"192.168.0.2/24\"", "\"192.168.0.2/33\"", "is not ADDRESS/PREFIX"),
            ("\"192.168.0.2/24\"", "\"192.168.0.2/0\"", "the whole Internet"),
            ("\"192.168.0.2/24\"", "\"250.1.2.3/24\"", "single host"),
            ("\"fd00::2/64\"", "\"::ffff:10.1.0.2/120\"", "written as IPv6"),
            ("device = ", "vlans = [{ id = \"007\" }]\ndevice = ", "\"007\" is no VLAN"),
            ("device = ", "vlans = [{ id = \"+7\" }]\ndevice = ", "\"+7\" is no VLAN"),
            ("\"192.168.0.3\"", "\"192.168.0.3:8080\"", "8080"),
            ("\"192.168.0.3\"", "\"192.168.0.3:080\"", "is not the IP address of a backend"),
            ("\"192.168.0.3\"", "\"0.168.0.3\"", "single host"),
            ("port = 80", "port = \"+80\"", "\"+80\" is no port"),
            ("port = 80", "port = \"080\"", "is no port"),
            ("port = 80", "port = \" 80\"", "is no port"),
            ("02:00:00:00:00:03", "02-00:00-00:00:03", "is not a MAC address"),
            ("scheduler = \"maglev\"", "hash = \"source/+24\"", "source/PREFIX"),
            ("scheduler = \"maglev\"", "idle_timeout = \"+5m\"", "write 90s, 15m or 2h"),
            ("scheduler = \"maglev\"", "idle_timeout = \"1 5m\"", "write 90s, 15m or 2h"),
            ("scheduler = \"maglev\"", "idle_timeout = \"1500ms\"", "whole seconds"),
            ("slow_path = 0", "metrics = \"127.0.0.1:09747\"", "is no address with a port"),
            ("vip = \"192.168.0.101\"", "vip = \"250.1.2.3\"", "single host"),
            ("vip = \"192.168.0.101\"", "vip = \"::ffff:10.1.0.101\"", "written as IPv6"),
            ("\"192.168.0.3\"", "\"10.0.0.3\"", "192.168.0.0/24 (lan0)"),
            ("weight = 3", "weight = 65536", "65535"),
            ("weight = 3", "weight = -1", "services[0].backends[1].weight"),
            ("port = 80", "port = \"80,http\"", "a range (8000-8100)"),
            ("scheduler = \"maglev\"", "scheduler = \"lblc\"", "use maglev, sh, wrr"),
            ("scheduler = \"maglev\"", "scheduler = \"wlc\"\nhash = \"source\"", "services[0].hash"),
            ("scheduler = \"maglev\"", "scheduler = \"wlc\"\ntracking = \"exceptions\"", "services[0].tracking"),
            ("scheduler = \"maglev\"", "tracking = \"some\"", "use exceptions, all or none"),
            ("scheduler = \"maglev\"", "tracking = \"none\"", "over tcp, each change would break connections"),
            ("scheduler = \"maglev\"", "scheduler = \"rr\"\ntracking = \"none\"", "use all"),
            (
                "protocol = \"tcp\"",
                "protocol = \"udp\"\ntracking = \"none\"\nhandover_time = \"9s\"",
                "services[0].handover_time",
            ),
            ("scheduler = \"maglev\"", "handover_time = \"0s\"", "use 1 to 7200 s"),
            ("scheduler = \"maglev\"", "handover_time = \"3h\"", "services[0].handover_time"),
            ("scheduler = \"maglev\"", "handover_time = \"soon\"", "write 90s, 15m or 2h"),
            ("scheduler = \"maglev\"", "idle_timeout = \"15\"", "write 90s, 15m or 2h"),
            ("scheduler = \"maglev\"", "idle_timeout = \"3h\"", "services[0].idle_timeout"),
            ("scheduler = \"maglev\"", "on_all_down = \"pray\"", "use drop or all"),
            ("slow_path = 0", "exceptions = 7", "1024 to"),
            ("scheduler = \"maglev\"", "scheduler = \"sh\"\nhash = \"5tuple\"", "services[0].hash"),
            ("scheduler = \"maglev\"", "hash = \"source/33\"", "use 1 to 32"),
            ("scheduler = \"maglev\"", "hash = \"client\"", "source/PREFIX"),
            ("scheduler = \"maglev\"", "check = { type = \"ping\" }", "Check type \"ping\" is not known"),
            (
                "scheduler = \"maglev\"",
                "check = { type = \"http\", pth = \"/\" }",
                "services[0].check: unknown field `pth`",
            ),
            ("scheduler = \"maglev\"", "check = \"tcp fall=0\"", "services[0].check.fall: fall = 0: use 1 to 100"),
            ("scheduler = \"maglev\"", "check = [\"tcp\", 7]", "services[0].check[1]: Not a check"),
            (
                "scheduler = \"maglev\"",
                "check = \"script command=/not/there\"",
                "services[0].check.command: There is no file /not/there",
            ),
            ("slow_path = 0", "notify = \"/not/there\"", "director.notify: There is no file /not/there"),
            ("slow_path = 0", "notify = \"logger\"", "begin it with the path"),
            ("slow_path = 0", "notify_severity = \"warning\"", "director.notify_severity"),
            ("slow_path = 0", "script_user = \"who-is-that\"", "director.script_user: There is no user"),
            ("protocol = \"udp\"", "protocol = \"udp\"\ncheck = \"http\"", "cannot ask a port of udp"),
            ("vip = \"192.168.0.101\"", "vip = \"192.168.0.2\"", "own address"),
            ("vip = \"192.168.0.101\"", "vip = \"192.168.0.255\"", "single host"),
            ("name = \"lan0\"", "name = \"\"", "Not a name"),
            ("vip = \"192.168.0.101\"", "VIP = \"192.168.0.101\"", "did you mean `vip`?"),
        ] {
            let said = hint(line, instead);
            assert!(said.contains(says), "{instead}: {said}");
            assert!(said.contains("shunt.toml:"), "{instead}: {said}");
        }
    }

    #[test]
    fn a_port_may_have_networks_with_tags_and_no_other() {
        let vlans = "[[ports.vlans]]\nid = 100\naddresses = [\"192.168.0.2/24\"]\n\
                     [[ports.vlans]]\nid = \"200.30\"\naddresses = [\"fd00::2/64\"]";
        let config = load(&with("addresses = [\"192.168.0.2/24\", \"fd00::2/64\"]", vlans)).unwrap();
        let networks = |config: &Config| -> Vec<String> {
            config
                .model(3)
                .networks
                .iter()
                .map(|network| format!("{} {:?}", network.name(), network.addresses))
                .collect()
        };
        assert_eq!(networks(&config), ["lan0.100 [192.168.0.2/24]", "lan0.200.30 [fd00::2/64]"]);
        let mixed = with("device = ", "vlans = [{ id = 7, addresses = [\"10.7.0.2/24\"] }]\ndevice = ");
        assert_eq!(networks(&load(&mixed).unwrap()), ["lan0 [192.168.0.2/24, fd00::2/64]", "lan0.7 [10.7.0.2/24]"]);
    }

    /// A second port with these addresses.
    fn with_second_port(addresses: &str) -> String {
        let port =
            format!("[[ports]]\nname = \"lan1\"\ndevice = \"0000:03:00.2\"\naddresses = [{addresses}]\n[[services]]");
        with("[[services]]", &port)
    }

    #[test]
    fn two_ports_cannot_be_in_one_network() {
        for (addresses, says) in [
            ("\"192.168.0.9/24\"", "ports[1].addresses: 192.168.0.0/24 is the network of ports[0] already"),
            ("\"10.1.0.2/24\", \"fd00::9/64\"", "ports[1].addresses: fd00::/64 is the network of ports[0] already"),
            ("\"192.168.0.2/24\"", "192.168.0.2 is an address of another port"),
            ("\"192.168.0.2/25\"", "192.168.0.2 is an address of another port"),
        ] {
            let said = problems(&with_second_port(addresses));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains(says) && said[0].starts_with("shunt.toml:13"), "{said:?}");
        }
        let vlan = "vlans = [{ id = 7, addresses = [\"192.168.0.9/24\"] }]\ndevice = ";
        let said = problems(&with("device = ", vlan)).join("\n");
        assert!(
            said.contains("ports[0].vlans[0].addresses: 192.168.0.0/24 is the network of ports[0] already"),
            "{said}"
        );
        // Several addresses in one network, on one port.
        let own = with("\"192.168.0.2/24\"", "\"192.168.0.2/24\", \"192.168.0.9/24\"");
        assert_eq!(load(&own).unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn a_network_may_lie_within_another_but_not_the_others_own_address_in_it() {
        for addresses in ["\"192.168.0.129/25\"", "\"192.168.9.1/16\", \"fd00:0:0:0:1::2/80\"", "\"192.168.1.2/24\""] {
            assert_eq!(load(&with_second_port(addresses)).unwrap().warnings, Vec::<String>::new(), "{addresses}");
        }
        for (addresses, says) in [
            ("\"192.168.0.9/25\"", "ports[0].addresses: 192.168.0.2 lies in 192.168.0.0/25, the network of ports[1]"),
            ("\"192.168.0.9/16\"", "ports[1].addresses: 192.168.0.9 lies in 192.168.0.0/24, the network of ports[0]"),
        ] {
            let warnings = load(&with_second_port(addresses)).unwrap().warnings;
            assert!(warnings.len() == 1 && warnings[0].starts_with(says), "{warnings:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let said = problems("[director\nworkers = 1").join("\n");
        assert!(said.contains("shunt.toml:1"), "{said}");
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let variables = [("SHUNT_DIRECTOR__SLOW_PATH", "2"), ("SHUNT_DIRECTOR__WORKERS", "3,4")];
        let config = Config::from_text("f", EXAMPLE, &variables).unwrap();
        assert_eq!((config.director.slow_path, config.director.workers), (2, vec![3, 4]));

        let digits = "12345678901234567890123456789012";
        let variables = [("SHUNT_DIRECTOR__HASH_KEY", digits), ("SHUNT_DIRECTOR__SOCKET_GROUP", "100")];
        let config = Config::from_text("f", EXAMPLE, &variables).unwrap();
        assert_eq!(config.director.hash_key.0[..2], [0x12, 0x34]);

        let variables = [("SHUNT_DIRECTOR__SLOWPATH", "2"), ("SHUNT_DIRECTOR__SLOW_PATH", "x")];
        let error = Config::from_text("f", EXAMPLE, &variables).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("environment SHUNT_DIRECTOR__SLOWPATH: "), "{said}");
        assert!(said.contains("environment SHUNT_DIRECTOR__SLOW_PATH: "), "{said}");
    }

    #[test]
    fn what_is_wrong_in_the_environment_is_not_blamed_on_the_file() {
        for (variable, value, location) in [
            ("SHUNT_DIRECTOR__WORKERS", "3,x", "environment SHUNT_DIRECTOR__WORKERS: director.workers[1]: "),
            ("SHUNT_DIRECTOR__WORKERS", "3,3", "environment SHUNT_DIRECTOR__WORKERS: director.workers: "),
            ("SHUNT_DIRECTOR__WORKERS", "-1", "environment SHUNT_DIRECTOR__WORKERS: director.workers[0]: "),
            ("SHUNT_DIRECTOR__WORKERS__X", "3", "environment SHUNT_DIRECTOR__WORKERS__X: director.workers"),
            ("SHUNT_PORTS__NAME", "lan1", "environment SHUNT_PORTS__NAME: ports.name: "),
            ("SHUNT_SERVICES__0__VIP", "192.0.2.1", "environment SHUNT_SERVICES__0__VIP: services.0.vip: "),
        ] {
            let error = Config::from_text("shunt.toml", EXAMPLE, &[(variable, value)]).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with(location) && !said.contains("shunt.toml"), "{variable}={value}: {said}");
            assert_eq!(error.problems.len(), 1, "{said}");
        }
    }

    #[test]
    fn an_element_that_is_no_number_is_one_mistake() {
        let text = with("workers = [1]", "workers = [1, \"x\", 2, true]").replace("weight = 3", "weight = 70000");
        let problems = problems(&text);
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].starts_with("shunt.toml:3: director.workers[1]: Invalid type"), "{problems:#?}");
    }

    #[test]
    fn what_others_set_in_the_environment_does_not_matter() {
        // As Kubernetes does for a service with the name shunt.
        let kubernetes = [
            ("SHUNT_PORT", "tcp://10.96.0.17:80"),
            ("SHUNT_PORT_80_TCP", "tcp://10.96.0.17:80"),
            ("SHUNT_PORT_80_TCP_ADDR", "10.96.0.17"),
            ("SHUNT_SERVICE_HOST", "10.96.0.17"),
            ("SHUNT_SERVICE_PORT", "80"),
        ];
        assert_eq!(Config::from_text("f", EXAMPLE, &kubernetes).unwrap(), load(EXAMPLE).unwrap());
        let mistake = [("SHUNT_DIRECTR__SLOW_PATH", "2")];
        let config = Config::from_text("f", EXAMPLE, &mistake).unwrap();
        let expected =
            "Environment variable SHUNT_DIRECTR__SLOW_PATH is ignored: did you mean SHUNT_DIRECTOR__SLOW_PATH?";
        assert_eq!((config.director.slow_path, config.warnings), (0, vec![expected.to_owned()]));
    }
}
