//! Metrics over HTTP, for Prometheus.
//!
//! One thread answers `GET /metrics`: putting the page together takes as long as all services and backends take, and must not keep
//! more than one of the control cores busy. A client has a bounded time to ask and to read; how many may be
//! connected is bounded, too, in all and of one address. A slow reader loses its place, and its page, when others want one.
//!
//! A director forwards whether or not its metrics can be served. Where the address cannot be had (yet), that is said, and tried again.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::api::Facts;
use crate::base::crowd::{Admitted, ClientNo, Crowd, Places};
use crate::metrics::exporter::Exporter;
use crate::metrics::format::Format;

/// Clients at one time.
const PLACES: Places = Places { all: 64, of_one: 16 };
/// For this long after it has asked, a client has its place and its page for certain: Prometheus gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);
/// A request's headers must be whole after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection ends after this time, whether the client has read everything or not.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long until an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Serves metrics at an address, in a thread of its own until the process ends.
pub fn serve_metrics(address: SocketAddr, facts: Arc<Facts>) -> io::Result<()> {
    serve_patiently(address, facts, PATIENCE)
}

fn serve_patiently(address: SocketAddr, facts: Arc<Facts>, patience: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let body = move || {
        runtime.block_on(async {
            let listener = listen(address).await;
            let clients = Mutex::new(Crowd::new(PLACES));
            accept(listener, Arc::new(Server { exporter: Exporter::new(facts), clients, patience })).await;
        });
    };
    std::thread::Builder::new().name("shunt-metrics".into()).spawn(body)?;
    Ok(())
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("metrics are at http://{address}/metrics");
                return listener;
            }
            Err(error) if !said => {
                tracing::error!(
                    "metrics cannot be served at {address} (director.metrics), which is tried again: {error}"
                );
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What connections have in common.
struct Server {
    exporter: Exporter,
    clients: Mutex<Crowd<IpAddr, AbortHandle>>,
    patience: Duration,
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => server.admit(stream, peer.ip()),
            Err(error) => {
                tracing::warn!("a client of the metrics could not be served: {error}");
                // Out of file descriptors or memory: do not spin on it.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Server {
    /// Serves a client if there is a place, or if somebody has to go for it.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: IpAddr) {
        let (say, hear) = oneshot::channel();
        let server = self.clone();
        let task = tokio::spawn(async move {
            match hear.await {
                Ok(Some(no)) => serve(stream, Place { server, no }).await,
                // Not a word if it cannot be said at once.
                _ => {
                    _ = stream.try_write(
                        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    )
                }
            }
        });
        let admitted = self.crowd(|clients| clients.admit(from, task.abort_handle(), Instant::now()));
        let no = match admitted {
            Admitted::In(no, gone) => {
                gone.iter().for_each(AbortHandle::abort);
                Some(no)
            }
            Admitted::Refused(_) => None,
        };
        let _ = say.send(no);
    }

    fn crowd<T>(&self, with: impl FnOnce(&mut Crowd<IpAddr, AbortHandle>) -> T) -> T {
        with(&mut self.clients.lock().expect("no holder of this lock panics"))
    }
}

/// The place of a client, until its connection ends.
struct Place {
    server: Arc<Server>,
    no: ClientNo,
}

impl Place {
    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (server, now) = (&self.server, Instant::now());
        server.crowd(|clients| clients.keep(self.no, now, server.patience));
        let (response, crowded) = respond(request, &server.exporter);
        if crowded {
            let slow = server.crowd(|clients| clients.shed(now));
            slow.iter().for_each(AbortHandle::abort);
        }
        response
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.crowd(|clients| clients.leave(self.no));
    }
}

async fn serve(stream: TcpStream, place: Place) {
    let service = service_fn(|request| {
        let response = place.respond(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    // Some clients say that they are done when they have asked.
    http.half_close(true).keep_alive(false);
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    // What a client does wrong is its own concern.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

/// The response, and whether slow readers are in the way of newer pages.
fn respond(request: &Request<Incoming>, exporter: &Exporter) -> (Response<Full<Bytes>>, bool) {
    let plain = "text/plain; charset=utf-8";
    let mut crowded = false;
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let format = Format::accepted(&accept_header(request.headers()));
            let page = exporter.page(format);
            crowded = page.crowded;
            (StatusCode::OK, format.content_type(), page.text)
        }
        (&Method::GET | &Method::HEAD, "/") => {
            (StatusCode::OK, plain, Bytes::from("Shunt's metrics are at /metrics\n"))
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, plain, Bytes::from("Not found: Shunt's metrics are at /metrics\n"))
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, plain, Bytes::from("Metrics can be read only: use GET\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    (response, crowded)
}

/// The lines of the header as one (RFC 9110 §5.3); empty without any.
fn accept_header(headers: &HeaderMap) -> String {
    let lines: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::testing::facts::{director, facts};
    use crate::testing::model::service;

    /// An address without a listener.
    fn free() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn server() -> SocketAddr {
        let address = free();
        serve_metrics(address, Arc::new(facts(Arc::new(director(&[]))))).unwrap();
        until_served(address);
        address
    }

    fn until_served(address: SocketAddr) {
        let begin = Instant::now();
        // A connection alone is no proof: without a listener, a socket may by chance get that very port, and meet itself.
        while !try_to_ask(address, "GET / HTTP/1.0\r\n\r\n").is_ok_and(|answer| answer.starts_with("HTTP/")) {
            assert!(begin.elapsed() < 4 * RETRY, "no answer at {address}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_to_ask(address: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        try_to_ask(address, request).unwrap()
    }

    #[test]
    fn metrics_are_got_and_nothing_else_is() {
        let address = server();
        let open = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;q=0.1\r\n\
                    Accept: application/openmetrics-text;version=1.0.0\r\n\r\n";
        for (request, status, says) in [
            (open, "200", "\n# EOF\n"),
            (open, "200", "content-type: application/openmetrics-text; version=1.0.0"),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", "200", "content-type: text/plain; version=0.0.4"),
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
                "200",
                "# TYPE shunt_worker_turns_total counter",
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200", "are at /metrics"),
            ("GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "404", "are at /metrics"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405", "allow: GET, HEAD"),
            ("this is no HTTP\r\n\r\n", "400", ""),
        ] {
            let answer = ask(address, request);
            let first = answer.lines().next().unwrap_or_default();
            assert!(first.split(' ').nth(1) == Some(status) && answer.contains(says), "{request}: {answer}");
        }
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn who_says_nothing_keeps_nobody_waiting() {
        let address = server();
        let silent: Vec<TcpStream> = (0..2 * PLACES.all).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(silent);
    }

    /// A connection from an address of the loopback network.
    fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
        };
        let SocketAddr::V4(to) = to else { panic!("{to}") };
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        // A reader that takes little.
        setsockopt(&socket, sockopt::RcvBuf, &4_096).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, last, 0)).unwrap();
        connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
        TcpStream::from(socket)
    }

    /// Many slow readers from several addresses take all places. Who comes then gets a whole page all the same, soon.
    #[test]
    fn slow_readers_lose_their_places_to_others() {
        let backends: Vec<String> = (0..600).map(|number| format!("fd00::1:{number:x}")).collect();
        let backends: Vec<(&str, u32)> = backends.iter().map(|address| (address.as_str(), 1)).collect();
        let services: Vec<_> = (1..=20).map(|port| service(&format!("[fd00::101]:{port}"), &backends)).collect();
        let address = free();
        let patience = Duration::from_millis(500);
        serve_patiently(address, Arc::new(facts(Arc::new(director(&services)))), patience).unwrap();
        until_served(address);
        let page = ask(address, "GET /metrics HTTP/1.0\r\n\r\n").len();
        assert!(page > 6 << 20, "more than the sockets hold: {page}");

        let slow: Vec<TcpStream> = (0..PLACES.all)
            .map(|number| {
                let mut stream = connect_from(u8::try_from(number % 8).unwrap() + 10, address);
                stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let begin = Instant::now();
        let whole = |answer: io::Result<String>| answer.is_ok_and(|answer| answer.len() > page / 2);
        while !whole(try_to_ask(address, "GET /metrics HTTP/1.0\r\n\r\n")) {
            assert!(begin.elapsed() < Duration::from_secs(20), "all places are taken");
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(slow);
    }

    #[test]
    fn an_address_that_is_taken_is_served_when_it_is_free() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        serve_metrics(address, Arc::new(facts(Arc::new(director(&[]))))).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(other);
        until_served(address);
        assert!(ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    }
}
