//! VLANs: the director's only port is a trunk. Clients and backends are on access ports of different VLANs.

use ctl::answer::Answer;
use ctl::request::Request;
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6, by_server, wait_for};
use crate::wire::Capture;

/// Writes a configuration with the real servers' other networks, and with `port` instead of the port's usual addresses.
fn configure(lab: &Lab, driver: Driver, port: &str) {
    lab.configure_daemon([1, 1], driver, "");
    let usual = "addresses = [\"192.168.0.2/24\", \"fd00::2/64\"]";
    let text = std::fs::read_to_string(lab.config()).unwrap();
    assert!(text.contains(usual));
    let text = text.replace(usual, port).replace("address = \"192.168.0.", "address = \"10.2.0.");
    std::fs::write(lab.config(), text.replace("address = \"fd00::", "address = \"fd02::")).unwrap();
}

/// Moves the real servers to a network in a VLAN of their own, from which the gateway routes to the client's.
fn move_servers(lab: &mut Lab, vlan: &str) {
    lab.plug("gw", "lan1", &["10.2.0.1/24", "fd02::1/64"]);
    lab.access_port("gw-lan1", vlan, 0);
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        lab.on("gw", &["sysctl", "-qw", &format!("net.{setting}")]);
    }
    for (server, last) in [("rs1", 3), ("rs2", 4)] {
        lab.on(server, &["ip", "address", "flush", "dev", "lan0", "scope", "global"]);
        lab.configure(server, "lan0", &[&format!("10.2.0.{last}/24"), &format!("fd02::{last}/64")]);
        lab.access_port(server, vlan, 0);
        lab.on(server, &["ip", "route", "replace", "default", "via", "10.2.0.1"]);
        lab.on(server, &["ip", "-6", "route", "replace", "default", "via", "fd02::1"]);
    }
}

/// Puts the client, and the gateway's way to it, into a VLAN; its frames have a priority.
fn move_client(lab: &Lab, vlan: &str) {
    for host in ["client", "gw"] {
        lab.access_port(host, vlan, 5);
    }
}

fn requests_are_answered(lab: &Lab) {
    for vip in [VIP, VIP6] {
        assert_eq!(by_server(&lab.requests(vip, 100)).len(), 2, "{vip}");
        lab.on("client", &["ping", "-c", "2", "-i", "0.2", "-w", "5", vip]);
    }
    for reason in ["no_headroom", "loop", "return_via_director", "backend_mac_unknown"] {
        assert_eq!(lab.counted(reason), 0, "{reason}");
    }
}

#[test]
fn a_client_in_one_vlan_reaches_backends_in_another() {
    for driver in [Driver::AfPacket, Driver::AfXdp] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        move_servers(&mut lab, "200");
        move_client(&lab, "100");
        if driver == Driver::AfXdp {
            lab.tags_in_frames();
        }
        let networks = "vlans = [ { id = 100, addresses = [\"192.168.0.2/24\", \"fd00::2/64\"] },\n\
                        { id = \"200\", addresses = [\"10.2.0.2/24\", \"fd02::2/64\"] } ]";
        configure(&lab, driver, networks);
        lab.restart();
        requests_are_answered(&lab);
        let mut ports: Vec<String> = lab.neighbors().into_iter().map(|neighbor| neighbor.port).collect();
        ports.dedup();
        assert_eq!(ports, ["lan0.200"]);
        let Answer::Ports(ports) = lab.ask(Request::PortList) else { panic!("not a list of ports") };
        assert!(ports[0].addresses.is_empty());
        assert_eq!(ports[0].vlans[1].addresses, ["10.2.0.2/24", "fd02::2/64"]);
    }
}

/// With and without VLAN stripping by the driver.
#[test]
fn an_untagged_client_reaches_backends_in_a_vlan() {
    for strip in [false, true] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        move_servers(&mut lab, "200");
        let networks = format!(
            "addresses = [\"192.168.0.2/24\", \"fd00::2/64\"]\nvlan_strip = {strip}\n\
             [[ports.vlans]]\nid = 200\naddresses = [\"10.2.0.2/24\", \"fd02::2/64\"]"
        );
        configure(&lab, Driver::AfPacket, &networks);
        lab.restart();
        requests_are_answered(&lab);
    }
}

/// Two tags (QinQ): the backends answer, and the frames that reach them come from the director.
#[test]
fn vlans_within_vlans() {
    for (driver, strip) in [(Driver::AfXdp, false), (Driver::AfPacket, false), (Driver::AfPacket, true)] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        move_servers(&mut lab, "200.30");
        move_client(&lab, "100");
        if driver == Driver::AfXdp {
            lab.tags_in_frames();
        }
        let networks = format!(
            "vlan_strip = {strip}\nvlans = [ {{ id = 100, addresses = [\"192.168.0.2/24\", \"fd00::2/64\"] }},\n\
             {{ id = \"200.30\", addresses = [\"10.2.0.2/24\", \"fd02::2/64\"] }} ]"
        );
        configure(&lab, driver, &networks);
        lab.restart();
        requests_are_answered(&lab);
        let forwarded = lab.status().forwarded_packets;
        let capture = Capture::start(&lab, "rs1");
        let served = by_server(&lab.requests(VIP, 20))["rs1"];
        let director = lab.mac("director");
        let arrived = capture.finish().into_iter().filter(|f| f[6..12] == director.0 && f[12..14] == [8, 0]).count();
        assert!(served > 0 && arrived >= 4 * served, "{arrived} frames for {served} requests");
        assert!(lab.status().forwarded_packets > forwarded);
    }
}

/// Frames of other VLANs are not for the director, whatever they carry.
#[test]
fn other_vlans_are_dropped_and_counted() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start_with([1, 1], Driver::AfPacket);
    lab.access_port("client", "300", 0);
    let before = lab.counted("unknown_vlan");
    assert_eq!(lab.try_on("client", &["arping", "-c", "2", "-w", "3", "-I", "lan0", VIP]), None);
    wait_for("the frames are counted", || lab.counted("unknown_vlan") >= before + 2);
}
