//! Five hundred backends, each checked each second, while the worker gets more than it can forward: none is taken for dead
//! that is not, and one that is dead is found.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::{Answer, Backend, BackendState, Drop as Reason};
use ctl::request::Request;
use dataplane::dpdk::Driver;
use dataplane::testing::frame::eth;

use crate::lab::{DIRECTOR, DIRECTOR6, Lab, Topology, VIP, VIP6, service_id, wait_for};
use crate::wire::open;

/// How long it lasts with each driver; `CHECKED_SECONDS` says otherwise.
fn length() -> Duration {
    let given = std::env::var("CHECKED_SECONDS").ok().map(|text| text.parse().expect("CHECKED_SECONDS is a number"));
    Duration::from_secs(given.unwrap_or(15))
}

/// The addresses of a real server: every other one of the network. With those of the other one, they are 500.
fn addresses(parity: u8) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let v4 = (3..=254).filter(|last| ![10, 101].contains(last)).map(|last| Ipv4Addr::new(192, 168, 0, last));
    let v6 = (0..250).map(|number| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number));
    let half = usize::from(parity);
    (v4.skip(half).step_by(2).collect(), v6.skip(half).step_by(2).collect())
}

fn configure(lab: &Lab, driver: &str) {
    let backends = |all: Vec<String>| {
        let lines: Vec<String> = all.iter().map(|address| format!("  {{ address = \"{address}\" }},\n")).collect();
        lines.concat()
    };
    let both = [addresses(0), addresses(1)];
    let v4 = backends(both.iter().flat_map(|(v4, _)| v4.iter().map(ToString::to_string)).collect());
    let v6 = backends(both.iter().flat_map(|(_, v6)| v6.iter().map(ToString::to_string)).collect());
    let text = format!(
        "[director]\nsocket = \"{}\"\nhugepages = \"off\"\n\
         [[ports]]\nname = \"lan0\"\ndevice = \"iface:lan0\"\ndriver = \"{driver}\"\n\
         addresses = [\"{DIRECTOR}/24\", \"{DIRECTOR6}/64\"]\n\
         [[services]]\nvip = \"{VIP}\"\nport = 80\nbackends = [\n{v4}]\n\
         [[services]]\nvip = \"{VIP6}\"\nport = 80\nbackends = [\n{v6}]\n\
         [[services]]\nvip = \"{VIP}\"\nport = 9\nprotocol = \"udp\"\ncheck = \"none\"\ntracking = \"none\"\n\
         backends = [{{ address = \"192.168.0.3\" }}]\n",
        lab.socket().display(),
    );
    fs::write(lab.config(), text).unwrap();
}

/// Adds the addresses to a real server.
fn populate(lab: &Lab, host: &str, parity: u8) {
    let (v4, v6) = addresses(parity);
    let v4 = v4.iter().filter(|address| ![3, 4].contains(&address.octets()[3]));
    let lines: Vec<String> = v4
        .map(|address| format!("address add {address}/24 dev lan0\n"))
        .chain(v6.iter().map(|address| format!("address add {address}/64 dev lan0 nodad\n")))
        .collect();
    let batch = lab.folder().join(format!("{host}.batch"));
    fs::write(&batch, lines.concat()).unwrap();
    lab.on(host, &["ip", "-batch", batch.to_str().unwrap()]);
    // What is flooded ends there.
    lab.on(host, &["ip", "route", "add", "blackhole", "10.9.0.0/16"]);
}

/// Sends frames to a service until it is told to stop, as fast as the host can.
fn flood(lab: &Lab, host: &str, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (director, source): (Mac, Mac) = (lab.mac("director"), lab.mac(host));
    let frames: Vec<Vec<u8>> = (0..64)
        .map(|port| eth().from(source).to(director).ipv4("10.9.0.1", VIP).udp(1_024 + port, 9, b"flood"))
        .collect();
    let (stop, sent) = (stop.clone(), AtomicU64::new(0));
    lab.inside(host, move || {
        let (mut sender, _) = open("lan0");
        while !stop.load(Ordering::Relaxed) {
            for frame in &frames {
                if sender.send_to(frame, None).is_some_and(|sent| sent.is_ok()) {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        sent.into_inner()
    })
}

fn backends(lab: &Lab) -> Vec<Backend> {
    let all = [VIP, VIP6].map(|vip| {
        let Answer::Service(service) = lab.ask(Request::ServiceShow(service_id(vip))) else { panic!("no service") };
        service.backends
    });
    all.into_iter().flatten().collect()
}

/// Frames that the ports' rings had no room for.
fn lost(lab: &Lab) -> u64 {
    let Answer::Drops(reasons) = lab.ask(Request::Drops) else { panic!("not a list of reasons") };
    let missed: Vec<&Reason> = reasons.iter().filter(|reason| reason.reason == "rx_missed").collect();
    missed.iter().map(|reason| reason.packets).sum()
}

#[test]
fn no_backend_of_500_is_taken_for_dead_while_the_worker_is_saturated() {
    for (driver, name) in [(Driver::AfXdp, "af_xdp"), (Driver::AfPacket, "af_packet")] {
        let Some(mut lab) = Lab::new(Topology::Segment) else { return };
        populate(&lab, "rs1", 0);
        populate(&lab, "rs2", 1);
        configure(&lab, name);
        lab.restart();
        assert_eq!(backends(&lab).len(), 500, "{driver:?}");
        wait_for("all are up", || backends(&lab).iter().all(|backend| backend.checks[0].up == Some(true)));
        let down = lab.events("backend-down").len() + lab.events("backend-unreachable").len();

        let stop = Arc::new(AtomicBool::new(false));
        let floods = ["client", "gw"].map(|host| flood(&lab, host, &stop));
        let (begin, before) = (Instant::now(), backends(&lab));
        let mut loads = Vec::new();
        while begin.elapsed() < length() {
            std::thread::sleep(Duration::from_secs(1));
            loads.push(lab.workers()[0].load);
        }
        let after = backends(&lab);
        let (took, lost) = (begin.elapsed().as_secs_f64(), lost(&lab));
        let grown = |of: fn(&Backend) -> u64| after.iter().map(of).sum::<u64>() - before.iter().map(of).sum::<u64>();
        let (passed, failed, void) =
            (grown(|b| b.checks[0].passed), grown(|b| b.checks[0].failed), grown(|b| b.checks[0].void));
        loads.sort_by(f64::total_cmp);
        println!(
            "{name}: {took:.0} s, load of the worker {:.2} in the median, {lost} frames lost at the port; probes: {passed} \
             passed, {failed} failed, {void} void",
            loads[loads.len() / 2],
        );
        // Nor does any seem to be silent to ARP or neighbor discovery.
        let events = [lab.events("backend-down"), lab.events("backend-unreachable")].concat();
        assert_eq!(events.len(), down, "{driver:?}: {:?}", events.last());
        assert!(after.iter().all(|backend| backend.state == BackendState::Up), "{driver:?}");
        // Each is asked each second, or that is said. How many probes pass is a matter of what else the machine does.
        let asked = (passed + failed + void) as f64;
        assert!(asked > 0.7 * took * 500.0 && passed > 0, "{driver:?}: {asked} probes in {took} s, {passed} passed");

        // What is dead is found all the same.
        lab.stop_nginx("rs1");
        let dead = Instant::now();
        let is_down = |backend: &Backend| backend.state == BackendState::Down;
        while backends(&lab).iter().filter(|backend| is_down(backend)).count() < 250 {
            assert!(dead.elapsed() < Duration::from_secs(60), "{driver:?}: not all that is dead is down");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{name}: 250 backends down after {:.1} s", dead.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        println!("{name}: {sent} frames sent");
    }
}
