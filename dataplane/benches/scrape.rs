//! What a page of metrics costs: 1,000 services of 100 backends each, all of them neighbors, got over HTTP as Prometheus does.
//!
//! Prints for each format the size of the page, how long it takes from the request to its last byte, and how much memory the daemon's
//! process takes at most while it puts the page together and hands it out, above what it had before.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench says by panicking what is wrong")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::CheckType;
use ctl::request::{BackendSpec, CheckSpec, ServiceAdd};
use dataplane::base::limits::DEFAULT_TABLE_SIZE;
use dataplane::control::director::Director;
use dataplane::control::model::Model;
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::metrics::serve_metrics;
use dataplane::testing::facts::facts;
use dataplane::testing::model::{PORT, network};

/// As in `shuntd`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVICES: u32 = 1_000;
const BACKENDS: u32 = 100;
/// Scrapes of each format; the first one is shown by itself.
const SCRAPES: usize = 6;
const FORMATS: [&str; 2] = ["application/openmetrics-text;version=1.0.0", "text/plain;version=0.0.4"];

fn director() -> Director {
    let counters = vec![Arc::new(WorkerCounters::new(1))];
    let ids = Leases::new(counters.clone());
    let mut model = Model::new([1; 16], DEFAULT_TABLE_SIZE, vec![network("lan0", 0, "", &["10.0.0.2/8"])]);
    let address = |service, number| -> IpAddr { Ipv4Addr::from_bits(0x0a80_0000 + service * BACKENDS + number).into() };
    let wanted = |service: u32| {
        let spec = |number| BackendSpec::new(address(service, number));
        let vip = format!("{}:80", Ipv4Addr::from_bits(0x0a00_1000 + service)).parse().unwrap();
        // By TCP, each second, there would be more probes than a director makes.
        let checks = Some(vec![CheckSpec::new(CheckType::Arp)]);
        ServiceAdd { checks, ..ServiceAdd::new(vip, (0..BACKENDS).map(spec).collect()) }
    };
    let wanted: Vec<ServiceAdd> = (0..SERVICES).map(wanted).collect();
    model.add_services(&wanted, &ids, std::thread::available_parallelism().unwrap().get()).unwrap();
    Director::new(model, ids, counters, vec![PORT])
}

/// A line of `/proc/self/status`, in MB.
fn memory(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1_024.0 / 1e6
}

/// The bytes of a page and how long it took, without keeping it: the client's memory is not the daemon's.
fn scrape(address: SocketAddr, accept: &str) -> (usize, Duration) {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return (bytes, begin.elapsed()),
            count => bytes += count,
        }
    }
}

fn main() {
    let director = Arc::new(director());
    let facts = facts(director.clone());
    facts.neighbors.lock().unwrap().sync(&director.current(), Instant::now());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve_metrics(address, Arc::new(facts)).unwrap();
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{SERVICES} services of {BACKENDS} backends");
    for accept in FORMATS {
        for number in 1..=SCRAPES {
            // The page before is too old, and its memory is given back.
            std::thread::sleep(Duration::from_secs(2));
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = memory("VmRSS:");
            let (bytes, took) = scrape(address, accept);
            let (most, after) = (memory("VmHWM:"), memory("VmRSS:"));
            println!(
                "{accept}, scrape {number}: {:.1} MB in {took:.2?}; memory {before:.0} MB before, {:+.0} at most, {:+.0} after",
                bytes as f64 / 1e6,
                most - before,
                after - before
            );
        }
    }
}
