//! A Linux interface has one daemon.

use std::fs;

use nix::sys::signal::Signal;

use crate::lab::{Lab, Topology, VIP, VIP6};

/// What a second daemon, with another socket, says on the director, where it must end by itself.
fn second_daemon(lab: &Lab, device: &str) -> String {
    let text = fs::read_to_string(lab.config()).unwrap();
    let config = lab.folder().join("second.toml");
    let text = text.replace("shuntd.sock", "second.sock").replace("device = \"iface:lan0\"\ndriver = \"auto\"", device);
    assert!(text.contains(device), "{text}");
    fs::write(&config, text).unwrap();
    let command = ["timeout", "10", env!("CARGO_BIN_EXE_shuntd"), "--config", config.to_str().unwrap()];
    lab.attempt("director", &command).expect_err("the interface is taken")
}

#[test]
fn a_second_daemon_on_an_interface_does_not_start() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let first = format!("process {} has lan0", lab.daemon_pid());
    for device in ["device = \"iface:lan0\"\ndriver = \"auto\"", "device = \"net_af_packet7,iface=lan0\""] {
        let said = second_daemon(&lab, device);
        assert!(said.contains(&first) && said.contains("Port lan0 does not open"), "{said}");
    }
    // A driver that fails takes an interface's XDP program away, so none may be tried.
    assert_eq!(lab.requests(VIP, 5).len() + lab.requests(VIP6, 5).len(), 10);
    lab.end_daemon(Signal::SIGKILL);
    lab.restart();
    assert_eq!(lab.requests(VIP, 5).len(), 5);
}
