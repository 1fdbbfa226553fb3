//! A short outage: a backend's interface goes down and comes back, with long connections through it; or it gets another MAC
//! address.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ctl::answer::{Answer, BackendState, Service};
use ctl::request::Request;

use crate::handover::Connection;
use crate::lab::{Lab, Topology, VIP, VIP6, service_id, wait_for};

/// The backend that fails, by IPv4 and IPv6.
const FAILS: [&str; 2] = ["192.168.0.3", "fd00::3"];
const VIPS: [&str; 2] = [VIP, VIP6];

fn address(vip: &str) -> SocketAddr {
    SocketAddr::new(vip.parse().unwrap(), 80)
}

/// Opens connections from the client, half of them to each VIP.
fn open(lab: &Lab, count: usize) -> Vec<Connection> {
    let vip = |number: usize| address(VIPS[number % 2]);
    let open = move || (0..count).map(|number| Connection::open(vip(number)).unwrap()).collect();
    lab.inside("client", open).join().unwrap()
}

/// Its shares of the new flows of both services.
fn shares(lab: &Lab) -> [f64; 2] {
    [0, 1].map(|family: usize| {
        let Answer::Service(Service { backends, .. }) = lab.ask(Request::ServiceShow(service_id(VIPS[family]))) else {
            panic!("no service")
        };
        let its_own: IpAddr = FAILS[family].parse().unwrap();
        backends.iter().find(|backend| backend.address == its_own).unwrap().share
    })
}

/// Of the connections through the backend, those that are silent go on when it is back. So do all that begin meanwhile.
#[test]
fn a_short_outage_of_a_backend_breaks_none_of_its_silent_connections_and_none_that_begins() {
    const MANY: usize = 200;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    // A link that is down takes IPv6 addresses away, but for this.
    lab.on("rs1", &["sysctl", "-qw", "net.ipv6.conf.lan0.keep_addr_on_down=1"]);
    let (mut its_own, mut others): (Vec<_>, Vec<_>) =
        open(&lab, MANY).into_iter().partition(|connection| connection.server == "rs1");
    assert!(its_own.len() > MANY / 4 && others.len() > MANY / 4, "{} and {}", its_own.len(), others.len());

    let begin = Instant::now();
    lab.on("rs1", &["ip", "link", "set", "lan0", "down"]);
    wait_for("its checks say that it is down", || {
        [0, 1].iter().all(|&family| lab.backend(VIPS[family], FAILS[family]).state == BackendState::Down)
    });
    wait_for("the tables follow", || shares(&lab) == [0.0, 0.0]);

    // Half of them send something. Another backend gets that, and resets them.
    let silent = its_own.split_off(its_own.len() / 2);
    for connection in &mut its_own {
        assert!(connection.ask().is_err(), "nothing can answer it");
    }
    for connection in others.iter_mut().step_by(2) {
        assert_eq!(connection.ask().unwrap(), "rs2");
    }
    let begun = open(&lab, MANY / 2);
    assert!(begun.iter().all(|connection| connection.server == "rs2"));
    std::thread::sleep(Duration::from_secs(5).saturating_sub(begin.elapsed()));

    lab.on("rs1", &["ip", "link", "set", "lan0", "up"]);
    wait_for("it is back", || shares(&lab).iter().all(|share| *share > 0.4));
    for mut connection in silent.into_iter().chain(others).chain(begun) {
        let server = connection.server.clone();
        match connection.ask() {
            Ok(answered) => assert_eq!(answered, server),
            Err(error) => panic!("a connection of {server}: {error}"),
        }
    }
    assert!(open(&lab, 40).iter().any(|connection| connection.server == "rs1"), "it has new ones, too");
}

/// Asks for a file that comes slowly. Returns its first letter, by which the server is known, and how much of it came.
fn download(vip: SocketAddr) -> std::io::Result<(char, usize)> {
    let mut stream = TcpStream::connect_timeout(&vip, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /slow/big HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let body = &answer[head + 4..];
    Ok((body.first().map_or('-', |&letter| char::from(letter)), body.len()))
}

#[test]
fn a_download_goes_on_when_its_backend_has_another_mac_address() {
    const SIZE: usize = 8 << 20;
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    for (host, letter) in [("rs1", b'1'), ("rs2", b'2')] {
        fs::write(lab.folder().join(host).join("files/big"), vec![letter; SIZE]).unwrap();
    }
    let downloads: Vec<_> =
        (0..12).map(|number| lab.inside("client", move || download(address(VIPS[number % 2])))).collect();
    std::thread::sleep(Duration::from_secs(2));
    lab.on("rs1", &["ip", "link", "set", "lan0", "address", "02:00:00:00:99:01"]);
    let begin = Instant::now();
    let downloaded: Vec<_> = downloads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(begin.elapsed() > Duration::from_secs(3), "they took longer than that");
    let done = |letter: char| downloaded.iter().filter(|done| matches!(done, Ok(it) if *it == (letter, SIZE))).count();
    assert!(done('1') > 0 && done('1') + done('2') == 12, "{downloaded:?}");
    for (vip, backend) in VIPS.into_iter().zip(FAILS) {
        let backend = lab.backend(vip, backend);
        assert_eq!((backend.state, backend.mac), (BackendState::Up, "02:00:00:00:99:01".parse().ok()), "{backend:?}");
    }
    assert_eq!(lab.events("backend-down"), []);
}
