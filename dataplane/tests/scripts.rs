//! What `scripts/` and the daemon must agree on.

#![allow(clippy::print_stderr, reason = "a test says that it is skipped")]

use std::process::Command;

use dataplane::control::model::check_unicast;
use proptest::prelude::*;

const REAL_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/real-server");

/// Whether `real-server` takes an address for a VIP. `status` changes nothing: it ends with 2 where the address cannot be one, and says
/// that it is not on lo otherwise.
fn is_taken(address: &str) -> bool {
    let done = Command::new(REAL_SERVER).args(["status", "--interface", "lo", address]).output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr);
    match done.status.code() {
        Some(0 | 1) => true,
        Some(2) => {
            assert!(said.contains("cannot be a VIP"), "{address}: {said}");
            false
        }
        other => panic!("{address}: {other:?} {said}"),
    }
}

fn assert_agreed(address: &str) {
    let daemon = check_unicast(address.parse().unwrap_or_else(|_| panic!("{address}"))).is_ok();
    assert_eq!(is_taken(address), daemon, "{address}");
}

/// A machine without iproute2 cannot be a real server, either.
fn has_ip() -> bool {
    let has = Command::new("ip").arg("-V").output().is_ok();
    if !has {
        eprintln!("skipped: there is no `ip` command");
    }
    has
}

#[test]
fn real_server_and_daemon_take_the_same_vips() {
    if !has_ip() {
        return;
    }
    for address in ["0.1.2.3", "1.0.0.0", "126.1.1.1", "127.0.0.2", "128.1.1.1", "223.1.1.1", "224.0.0.1", "240.0.0.1"]
    {
        assert_agreed(address);
    }
    for address in
        ["255.255.255.255", "::", "::1", "0:0:0:0:0:0:0:1", "::2", "::1.2.3.4", "ff02::1", "ff::1", "FD00::1"]
    {
        assert_agreed(address);
    }
    for address in ["::ffff:10.1.0.101", "0:0:0:0:0:FFFF:a01:65", "::ffff:0:0", "::fffe:1.2.3.4", "64:ff9b::1.2.3.4"] {
        assert_agreed(address);
    }
    for address in ["fe80::1", "fe7f::1", "febf::1:1", "fec0::1", "fd00::", "1:2:3:4:5:6:7:8", "::3:4:5:6:7:8"] {
        assert_agreed(address);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_on_addresses_of_which_parts_are_zero(groups in prop::array::uniform8(prop_oneof![Just(0), Just(0xffff), any::<u16>()])) {
        if has_ip() {
            assert_agreed(&std::net::Ipv6Addr::from(groups).to_string());
        }
    }
}
