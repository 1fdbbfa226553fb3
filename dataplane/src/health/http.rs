//! HTTP: the request of a check, and what its answer says (RFC 9112).
//!
//! An answer is judged as soon as it can be: by its head, if the check asks for nothing in the body, else by the first 64 KiB of
//! the body. No more than that is kept of it, and the finding does not depend on how its bytes are split. A body that ends with
//! the connection is good as soon as it matches: some servers never close what they were asked to close.

use std::net::{IpAddr, Ipv6Addr};

use httparse::Status;

use crate::control::model::health::Http;
use crate::health::finding::{Finding, wrong};

/// The port that needs no mention in `Host` (RFC 9110 §4.2.1).
const HTTP_PORT: u16 = 80;
/// The most bytes of an answer's head, with those of interim answers before it.
const MAX_HEAD: usize = 16 << 10;
/// The most header fields.
const MAX_FIELDS: usize = 256;
/// The most bytes of the body that are kept.
const MAX_BODY: usize = 64 << 10;
/// A body that ends with the connection is looked at whenever something has come, until so many bytes were looked at in all. After
/// that, it is looked at whenever it has doubled.
const MAX_LOOKED: usize = 1 << 20;
/// The longest line with the size of a chunk, and its extensions.
const MAX_CHUNK_LINE: usize = 1 << 10;

/// The request that a check sends to this address, over plain TCP.
pub fn request(check: &Http, address: IpAddr, port: u16) -> Vec<u8> {
    request_where(check, address, port, HTTP_PORT)
}

/// The same, where this port is the usual one.
pub(crate) fn request_where(check: &Http, address: IpAddr, port: u16, usual: u16) -> Vec<u8> {
    let Http { method, path, host, .. } = check;
    let host = authority(host.as_deref(), address);
    let port = if port == usual || has_port(&host) { String::new() } else { format!(":{port}") };
    format!(
        "{method} {path} HTTP/1.1\r\n\
         Host: {host}{port}\r\n\
         User-Agent: shunt\r\n\
         Accept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// The host as `Host` names it: an IPv6 address in brackets (RFC 3986 §3.2.2).
fn authority(host: Option<&str>, address: IpAddr) -> String {
    match (host, address) {
        (Some(host), _) if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]"),
        (Some(host), _) => host.into(),
        (None, IpAddr::V4(address)) => address.to_string(),
        (None, IpAddr::V6(address)) => format!("[{address}]"),
    }
}

/// Whether the operator has named a port with the host.
fn has_port(host: &str) -> bool {
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    behind.contains(':')
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub struct HttpAnswer {
    stage: Stage,
    /// The bytes of the current head; later, those of the line with a chunk's size.
    line: Vec<u8>,
    /// Bytes of heads so far.
    head: usize,
    /// The head is looked at when it has as many bytes.
    look_at: usize,
    status: u16,
    body: Vec<u8>,
    /// Bytes of the body that were looked at, each as often as it was.
    looked: usize,
}

/// Which part of an answer comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    Body(Framing),
    /// It is judged.
    Over,
}

/// How the end of a body is told (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left of it.
    Length(u64),
    /// It ends with the connection.
    Connection,
    /// The size of the next chunk is next.
    ChunkSize,
    /// So many bytes are left of the chunk.
    Chunk(u64),
    /// The end of the line behind a chunk is next.
    ChunkEnd,
}

/// Why an answer is judged before its end.
type Verdict<T> = Result<T, Finding>;

impl HttpAnswer {
    /// Whether anything of it has come.
    pub fn has_begun(&self) -> bool {
        self.head > 0
    }

    /// Takes the next bytes, and whether the connection ends with them. The finding comes once, as soon as nothing that follows
    /// could change it.
    pub fn hear(&mut self, check: &Http, data: &[u8], end: bool) -> Option<Finding> {
        let finding = self.read(check, data, end).err()?;
        *self = HttpAnswer { stage: Stage::Over, head: self.head, ..HttpAnswer::default() };
        Some(finding)
    }

    fn read(&mut self, check: &Http, mut data: &[u8], end: bool) -> Verdict<()> {
        // Bound: each round but the last leads from one stage to the next: to another head, of which there are 16 KiB in all, or
        // from a head to its body.
        loop {
            match self.stage {
                Stage::Over => return Ok(()),
                Stage::Head => match self.read_head(check, data, end)? {
                    Some(rest) => data = rest,
                    None if end => return Err(self.ended()),
                    None => return Ok(()),
                },
                Stage::Body(framing) => {
                    self.read_body(check, framing, data)?;
                    return if end { Err(self.ended_in_body(check)) } else { Ok(()) };
                }
            }
        }
    }

    /// Reads a head. Returns what stands behind it, once it is complete.
    fn read_head<'d>(&mut self, check: &Http, data: &'d [u8], end: bool) -> Verdict<Option<&'d [u8]>> {
        let before = self.line.len();
        let (taken, _) = data.split_at(data.len().min(MAX_HEAD - self.head));
        self.line.extend_from_slice(taken);
        let is_full = self.head + taken.len() == MAX_HEAD;
        // Each look begins at the first byte. It is worth one where the head may be complete, and where much has come since the last,
        // so that what is no HTTP is found before its end.
        let may_be_complete = has_blank_line(&self.line[before.saturating_sub(2)..]);
        if !(may_be_complete || self.line.len() >= self.look_at || is_full || end) {
            self.head += taken.len();
            return Ok(None);
        }
        self.look_at = 2 * self.line.len();
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let len = match answer.parse(&self.line) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) if is_full => return Err(wrong("the head is larger than 16 KiB")),
            Ok(Status::Partial) => {
                self.head += taken.len();
                return Ok(None);
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(wrong(format!("the head has more than {MAX_FIELDS} fields")));
            }
            // A record of TLS, an alert most likely (RFC 8446 §5.1).
            Err(_) if matches!(self.line[0], 20..=23) => return Err(wrong("not an answer of HTTP, but of TLS")),
            Err(_) => return Err(wrong("not an answer of HTTP")),
        };
        let status = answer.code.unwrap_or_default();
        // An interim answer; another one follows (RFC 9110 §15.2). Nobody has asked to switch protocols.
        let is_interim = (100..200).contains(&status) && status != 101;
        let framing = if is_interim { None } else { Some(judge_head(check, status, answer.headers)?) };
        let used = len - before;
        self.head += used;
        self.line = Vec::new();
        self.look_at = 0;
        if let Some(framing) = framing {
            self.status = status;
            self.stage = Stage::Body(framing);
        }
        Ok(Some(&data[used..]))
    }

    /// Reads the body as far as it is kept.
    fn read_body(&mut self, check: &Http, mut framing: Framing, mut data: &[u8]) -> Verdict<()> {
        // Bound: each round takes a byte, or comes to a judgement, or is the last one.
        loop {
            framing = match framing {
                Framing::Length(0) => return Err(self.judge_body(check)),
                Framing::Connection if data.is_empty() && self.matches_already(check) => {
                    return Err(self.judge_body(check));
                }
                _ if self.body.len() == MAX_BODY => return Err(self.judge_body(check)),
                _ if data.is_empty() => break,
                Framing::Length(left) => Framing::Length(left - self.keep(&mut data, left)),
                Framing::Connection => {
                    self.keep(&mut data, u64::MAX);
                    framing
                }
                Framing::Chunk(left) => match left - self.keep(&mut data, left) {
                    0 => Framing::ChunkEnd,
                    left => Framing::Chunk(left),
                },
                Framing::ChunkSize | Framing::ChunkEnd => match self.read_line(&mut data)? {
                    None => framing,
                    Some(line) => match (framing, chunk_size(&line)) {
                        (Framing::ChunkEnd, _) if matches!(line[..], [b'\n'] | [b'\r', b'\n']) => Framing::ChunkSize,
                        // Fields may follow, which nobody reads.
                        (Framing::ChunkSize, Some(0)) => return Err(self.judge_body(check)),
                        (Framing::ChunkSize, Some(size)) => Framing::Chunk(size),
                        _ => return Err(self.damaged()),
                    },
                },
            };
        }
        self.stage = Stage::Body(framing);
        Ok(())
    }

    /// Keeps what belongs to the body, at most so much. Returns how much it was.
    fn keep(&mut self, data: &mut &[u8], most: u64) -> u64 {
        let room = data.len().min(MAX_BODY - self.body.len());
        let len = usize::try_from(most).map_or(room, |most| room.min(most));
        let (kept, rest) = data.split_at(len);
        self.body.extend_from_slice(kept);
        *data = rest;
        len as u64
    }

    /// Reads a line, once it is complete.
    fn read_line(&mut self, data: &mut &[u8]) -> Verdict<Option<Vec<u8>>> {
        let room = MAX_CHUNK_LINE - self.line.len();
        let seen = &data[..data.len().min(room)];
        let (len, complete) = seen.iter().position(|&c| c == b'\n').map_or((seen.len(), false), |at| (at + 1, true));
        let (taken, rest) = data.split_at(len);
        self.line.extend_from_slice(taken);
        *data = rest;
        if complete {
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        if self.line.len() == MAX_CHUNK_LINE { Err(self.damaged()) } else { Ok(None) }
    }

    /// Whether the body matches, and nothing that follows can change that.
    fn matches_already(&mut self, check: &Http) -> bool {
        let Some(wanted) = check.body.as_ref().filter(|_| check.match_lasts) else { return false };
        if self.looked > MAX_LOOKED && self.body.len() < self.look_at {
            return false;
        }
        self.looked += self.body.len();
        self.look_at = 2 * self.body.len();
        wanted.is_match(&self.body)
    }

    fn judge_body(&self, check: &Http) -> Finding {
        let words = format!("HTTP {}", self.status);
        match &check.body {
            Some(wanted) if !wanted.is_match(&self.body) => wrong(format!("{words}, but the body does not match")),
            _ => Ok(words),
        }
    }

    fn damaged(&self) -> Finding {
        wrong(format!("HTTP {}, but its chunks are damaged", self.status))
    }

    /// What it means that the connection ends in the head.
    fn ended(&self) -> Finding {
        let words = if self.has_begun() {
            "the connection was closed in the middle of the answer's head"
        } else {
            "the connection was closed before the answer"
        };
        wrong(words)
    }

    /// The same, in the body.
    fn ended_in_body(&self, check: &Http) -> Finding {
        match self.stage {
            Stage::Body(Framing::Connection) => self.judge_body(check),
            _ => wrong(format!("HTTP {}, but the body is cut off", self.status)),
        }
    }
}

/// Whether there is the end of a head in this.
fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// Judges an answer by its head. Returns how the end of its body is told, if the body has a say.
fn judge_head(check: &Http, status: u16, fields: &[httparse::Header<'_>]) -> Verdict<Framing> {
    let words = format!("HTTP {status}");
    if !check.status.iter().any(|good| good.contains(&status)) {
        return Err(wrong(words));
    }
    if check.body.is_none() {
        return Err(Ok(words));
    }
    let values = |name: &'static str| {
        let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.flat_map(|field| field.value.split(|&c| c == b',')).map(<[u8]>::trim_ascii)
    };
    // RFC 9112 §6.3: neither of these has a body, whatever the head says.
    if check.method == "HEAD" || matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = values("Transfer-Encoding").next_back() {
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { Framing::ChunkSize } else { Framing::Connection });
    }
    let mut lengths = values("Content-Length").map(length);
    match lengths.next() {
        None => Ok(Framing::Connection),
        Some(Some(length)) if lengths.all(|other| other == Some(length)) => Ok(Framing::Length(length)),
        Some(_) => Err(wrong(format!("{words}, but Content-Length is not a number"))),
    }
}

fn length(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The size of a chunk, from its line.
fn chunk_size(line: &[u8]) -> Option<u64> {
    // Lone line feeds are taken for line ends (RFC 9112 §2.2), which the parser wants to be complete.
    let text = line.strip_suffix(b"\n")?;
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if !text.first()?.is_ascii_hexdigit() {
        return None;
    }
    match httparse::parse_chunk_size(&[text, b"\r\n"].concat()) {
        Ok(Status::Complete((_, size))) => Some(size),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::bytes::Regex;

    use super::*;
    use crate::control::model::health::match_lasts;
    use crate::health::finding::Trouble;

    fn check(body: Option<&str>) -> Http {
        Http {
            method: "GET".into(),
            path: "/health".into(),
            host: None,
            status: vec![200..=399],
            body: body.map(|text| Regex::new(text).unwrap()),
            match_lasts: body.is_some_and(match_lasts),
        }
    }

    fn said(finding: Finding) -> String {
        match finding {
            Ok(words) => words,
            Err(failure) => {
                assert_eq!(failure.trouble, Trouble::Wrong);
                format!("bad: {failure}")
            }
        }
    }

    /// What the check says of an answer in one piece, behind which the connection ends.
    fn finding(check: &Http, answer: &[u8]) -> String {
        said(HttpAnswer::default().hear(check, answer, true).expect("the connection has ended"))
    }

    /// The same, of an answer in pieces.
    fn finding_of(check: &Http, pieces: &[&[u8]]) -> String {
        let mut answer = HttpAnswer::default();
        for piece in pieces {
            if let Some(finding) = answer.hear(check, piece, false) {
                assert_eq!(answer.hear(check, piece, true), None, "it is judged once");
                return said(finding);
            }
        }
        said(answer.hear(check, b"", true).expect("the connection has ended"))
    }

    #[test]
    fn a_request_names_the_host_as_a_client_does() {
        let text = |host: Option<&str>, address: &str, port| {
            let check = Http { host: host.map(String::from), ..check(None) };
            String::from_utf8(request(&check, address.parse().unwrap(), port)).unwrap()
        };
        assert_eq!(
            text(None, "192.0.2.1", 80),
            "GET /health HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: shunt\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        for (host, address, port, line) in [
            (None, "192.0.2.1", 8080, "Host: 192.0.2.1:8080\r\n"),
            (None, "2001:db8::1", 80, "Host: [2001:db8::1]\r\n"),
            (None, "2001:db8::1", 8080, "Host: [2001:db8::1]:8080\r\n"),
            (Some("example.org"), "192.0.2.1", 80, "Host: example.org\r\n"),
            (Some("example.org"), "192.0.2.1", 443, "Host: example.org:443\r\n"),
            (Some("example.org:81"), "192.0.2.1", 8080, "Host: example.org:81\r\n"),
            (Some("2001:db8::2"), "2001:db8::1", 8080, "Host: [2001:db8::2]:8080\r\n"),
            (Some("[2001:db8::2]:81"), "2001:db8::1", 8080, "Host: [2001:db8::2]:81\r\n"),
        ] {
            assert!(text(host, address, port).contains(line), "{line}");
        }
        let tls = request_where(&check(None), IpAddr::from([192, 0, 2, 1]), 443, 443);
        assert!(String::from_utf8(tls).unwrap().contains("Host: 192.0.2.1\r\n"));
    }

    #[test]
    fn an_answer_is_judged_by_its_status() {
        for (answer, says) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "HTTP 200"),
            ("HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", "HTTP 302"),
            ("HTTP/1.1 200\n\n", "HTTP 200"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "bad: HTTP 503"),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "bad: HTTP 404"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP 200"),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "bad: HTTP 101"),
            ("", "bad: the connection was closed before the answer"),
            ("HTTP/1.1 200 OK\r\nServer", "bad: the connection was closed in the middle of the answer's head"),
            ("HTTP/1.1 100 Continue\r\n\r\n", "bad: the connection was closed in the middle of the answer's head"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "bad: not an answer of HTTP"),
            ("HTTP/2 200\r\n\r\n", "bad: not an answer of HTTP"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "bad: not an answer of HTTP"),
            ("\x15\x03\x01\x00\x02\x02\x28", "bad: not an answer of HTTP, but of TLS"),
        ] {
            assert_eq!(finding(&check(None), answer.as_bytes()), says, "{answer}");
        }
    }

    #[test]
    fn an_answer_is_judged_by_its_body() {
        let well = check(Some("all (is )?well"));
        for (answer, says) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall well", "HTTP 200"),
            ("HTTP/1.1 200 OK\r\n\r\nit says all is well here", "HTTP 200"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndying", "bad: HTTP 200, but the body does not match"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall well", "bad: HTTP 200, but the body does not match"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall well", "bad: HTTP 200, but the body is cut off"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 8, 8\r\n\r\nall well", "HTTP 200"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Length: 9\r\n\r\nall well",
                "bad: HTTP 200, but Content-Length is not a number",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +8\r\n\r\nall well",
                "bad: HTTP 200, but Content-Length is not a number",
            ),
            ("HTTP/1.1 204 No Content\r\n\r\nall well", "bad: HTTP 204, but the body does not match"),
            ("HTTP/1.1 500 Oops\r\n\r\nall well", "bad: HTTP 500"),
        ] {
            assert_eq!(finding(&well, answer.as_bytes()), says, "{answer}");
        }
    }

    #[test]
    fn chunks_are_put_together() {
        let well = check(Some("^all well$"));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 3\r\n\r\n";
        for (chunks, says) in [
            ("4\r\nall \r\n4;name=value\r\nwell\r\n0\r\nTrailer: x\r\n\r\n", "HTTP 200"),
            ("4\nall \n4\nwell\n0\n", "HTTP 200"),
            ("8\r\nall well\r\n", "bad: HTTP 200, but the body is cut off"),
            ("8\r\nall", "bad: HTTP 200, but the body is cut off"),
            ("3\r\nall\r\n0\r\n", "bad: HTTP 200, but the body does not match"),
            ("all well", "bad: HTTP 200, but the body is cut off"),
            ("\r\n", "bad: HTTP 200, but its chunks are damaged"),
            ("all well\r\n", "bad: HTTP 200, but its chunks are damaged"),
            ("-1\r\n", "bad: HTTP 200, but its chunks are damaged"),
            ("10000000000000000\r\n", "bad: HTTP 200, but its chunks are damaged"),
            ("3\r\nall well\r\n0\r\n", "bad: HTTP 200, but its chunks are damaged"),
        ] {
            assert_eq!(finding(&well, format!("{head}{chunks}").as_bytes()), says, "{chunks}");
        }
        let endless = format!("{head}1;{}", "x".repeat(MAX_CHUNK_LINE));
        assert_eq!(finding(&well, endless.as_bytes()), "bad: HTTP 200, but its chunks are damaged");
    }

    #[test]
    fn an_endless_head_is_not_read_on() {
        let mut answer = HttpAnswer::default();
        let mut sent = 0;
        assert_eq!(answer.hear(&check(None), b"HTTP/1.1 200 OK\r\n", false), None);
        let finding = loop {
            sent += 10;
            if let Some(finding) = answer.hear(&check(None), b"a: bcdef\r\n", false) {
                break finding;
            }
        };
        assert_eq!(said(finding), format!("bad: the head has more than {MAX_FIELDS} fields"));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
        assert_eq!(finding_of(&check(None), &[long.as_bytes()]), "bad: the head is larger than 16 KiB");
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD);
        assert_eq!(finding_of(&check(None), &[interim.as_bytes()]), "bad: the head is larger than 16 KiB");
        assert_eq!(finding_of(&check(None), &vec![&b"\n"[..]; MAX_HEAD]), "bad: the head is larger than 16 KiB");
        assert!(sent < MAX_HEAD);
    }

    #[test]
    fn of_a_huge_body_no_more_is_kept_than_is_judged() {
        for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked", "Server: x"] {
            let mut answer = HttpAnswer::default();
            let check = check(Some("never"));
            let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            assert_eq!(answer.hear(&check, head.as_bytes(), false), None);
            let mut heard = 0;
            let finding = loop {
                if let Some(finding) = answer.hear(&check, b"100\r\n", false) {
                    break finding;
                }
                if let Some(finding) = answer.hear(&check, &[b'x'; 0x100], false) {
                    break finding;
                }
                if let Some(finding) = answer.hear(&check, b"\r\n", false) {
                    break finding;
                }
                heard += 0x100;
                assert!(heard <= MAX_BODY && answer.body.capacity() <= 2 * MAX_BODY);
            };
            assert_eq!(said(finding), "bad: HTTP 200, but the body does not match");
            assert!(answer.body.capacity() == 0 && answer.line.capacity() == 0, "nothing is kept of it");
        }
    }

    #[test]
    fn a_body_that_ends_with_the_connection_is_good_as_soon_as_it_matches() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        let mut answer = HttpAnswer::default();
        let well = check(Some("^all.*well"));
        assert_eq!(answer.hear(&well, head, false), None);
        assert_eq!(answer.hear(&well, b"all is we", false), None);
        assert_eq!(answer.hear(&well, b"ll", false).map(said).as_deref(), Some("HTTP 200"));
        assert_eq!(HttpAnswer::default().hear(&check(Some("x*")), head, false).map(said).as_deref(), Some("HTTP 200"));
        // What follows may change these.
        for text in ["well$", "well\\b", "well\\B"] {
            let mut answer = HttpAnswer::default();
            assert_eq!(answer.hear(&check(Some(text)), &[&head[..], b"all well"].concat(), false), None, "{text}");
        }
        // Whoever sends byte after byte gets no more looks than are cheap.
        let mut answer = HttpAnswer::default();
        answer.hear(&well, head, false);
        for _ in 0..MAX_BODY - 1 {
            assert_eq!(answer.hear(&well, b"x", false), None);
        }
        assert!(answer.looked < 2 * MAX_LOOKED, "{}", answer.looked);
        assert!(answer.hear(&well, b"x", false).is_some());
    }

    #[test]
    fn an_answer_has_begun_with_its_first_byte() {
        let mut answer = HttpAnswer::default();
        assert_eq!((answer.hear(&check(None), b"", false), answer.has_begun()), (None, false));
        assert_eq!((answer.hear(&check(None), b"H", false), answer.has_begun()), (None, true));
        assert!(answer.hear(&check(None), b"TTP/1.1 200 OK\r\n\r\n", false).is_some() && answer.has_begun());
    }

    /// Parts of answers, right and wrong, and where they are split.
    fn answers() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let part = prop_oneof![
            4 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
            1 => Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            1 => Just(b"HTTP/1.1 503 Oops\r\n".to_vec()),
            2 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            2 => (0..200_000_u32).prop_map(|length| format!("Content-Length: {length}\r\n").into_bytes()),
            4 => Just(b"\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            2 => (0..40_000_usize).prop_map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(size)).into_bytes()),
            1 => Just(b"0\r\n".to_vec()),
            1 => Just(b"well".to_vec()),
            1 => (0..30_000_usize).prop_map(|size| vec![b'a'; size]),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        proptest::collection::vec(part, 0..10)
    }

    proptest! {
        #[test]
        fn the_finding_does_not_depend_on_how_an_answer_is_split(
            parts in answers(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
            body in prop::sample::select(vec![None, Some("well|^$"), Some("a*well"), Some("^wel*")]),
            tiny in any::<bool>(),
        ) {
            let check = check(body);
            let answer = parts.concat();
            let whole = finding(&check, &answer);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
            cuts.extend([0, answer.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
            prop_assert_eq!(&finding_of(&check, &pieces), &whole);
            if tiny && answer.len() < 2_000 {
                let bytes: Vec<&[u8]> = answer.chunks(1).collect();
                prop_assert_eq!(&finding_of(&check, &bytes), &whole);
            }
        }

        #[test]
        fn no_bytes_panic(answer in proptest::collection::vec(any::<u8>(), 0..300), begin in any::<bool>()) {
            let begin: &[u8] = if begin { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"" };
            finding(&check(Some("x")), &[begin, &answer].concat());
        }
    }
}
