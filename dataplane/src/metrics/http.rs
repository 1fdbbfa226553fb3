//! Metrics over HTTP, for Prometheus.
//!
//! One thread answers `GET /metrics`: putting the page together takes as long as all services and backends take, and must not keep
//! more than one of the control cores busy. A client has a bounded time to ask and to read; how many may be
//! connected is bounded, too.
//!
//! A director forwards whether or not its metrics can be served. Where the address cannot be had (yet), that is said, and tried again.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::api::Facts;
use crate::metrics::exporter::Exporter;
use crate::metrics::format::Format;

/// Clients at one time.
const MAX_CLIENTS: usize = 64;
/// A request's headers must be whole after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection ends after this time, whether the client has read everything or not.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long until an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Serves metrics at an address, in a thread of its own until the process ends.
pub fn serve_metrics(address: SocketAddr, facts: Arc<Facts>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let body = move || {
        runtime.block_on(async {
            let listener = listen(address).await;
            accept(listener, Arc::new(Exporter::new(facts))).await;
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

async fn accept(listener: TcpListener, exporter: Arc<Exporter>) {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        // A client that comes when all slots are taken waits in the socket's queue.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let exporter = exporter.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let response = respond(&request, &exporter);
                        async { Ok::<_, Infallible>(response) }
                    });
                    let mut http = http1::Builder::new();
                    // Some clients say that they are done when they have asked.
                    http.half_close(true).keep_alive(false);
                    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    // What a client does wrong is its own concern.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("a client of the metrics could not be served: {error}");
                // Out of file descriptors or memory: do not spin on it.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn respond(request: &Request<Incoming>, exporter: &Exporter) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let format = Format::accepted(&accept_header(request.headers()));
            (StatusCode::OK, format.content_type(), exporter.page(format))
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
    response
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
    use std::time::Instant;

    use super::*;
    use crate::testing::facts::{director, facts};

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
    fn who_says_nothing_keeps_nobody_waiting_for_long() {
        let address = server();
        let silent: Vec<TcpStream> = (0..MAX_CLIENTS + 4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(silent);
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
