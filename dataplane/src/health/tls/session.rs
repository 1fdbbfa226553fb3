//! One TLS client: bytes in, bytes out, and what the server's answer says. It opens no socket and reads no clock.
//!
//! Each probe makes a whole handshake: a resumed session would not show the certificate. What a server can have kept is bounded:
//! rustls keeps a handshake's messages of up to 64 KiB, of the answer the head or 64 KiB of the body are kept, and after 512 KiB
//! in all a probe is over. The finding does not depend on how the bytes are split.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::control::model::health::Https;
use crate::control::model::tls::PROVIDER;
use crate::health::finding::{Failure, Finding, Trouble, wrong};
use crate::health::http::{self, HttpAnswer};
use crate::health::tls::certificate::{Report, judge};
use crate::health::tls::desk::Phase;

/// The port that needs no mention in `Host` (RFC 9110 §4.2.2).
const HTTPS_PORT: u16 = 443;
/// The most bytes that a server may send. An answer that is judged by its body has a fifth of it.
const MAX_RECEIVED: usize = 512 << 10;
/// The longest words of an error of the library.
const WORDS: usize = 160;

/// A TLS client of a probe.
#[derive(Debug)]
pub struct Session {
    tls: ClientConnection,
    check: Arc<Https>,
    witness: Arc<Witness>,
    answer: HttpAnswer,
    received: usize,
    over: bool,
}

/// Looks at the server's certificate.
#[derive(Debug)]
struct Witness {
    check: Arc<Https>,
    now: UnixTime,
    report: Mutex<Option<Report>>,
    /// Why the certificate is refused.
    refused: Mutex<Option<String>>,
}

impl Session {
    /// Begins one. Its first bytes are there to be [taken](Self::take_bytes).
    pub fn begin(check: &Arc<Https>, (address, port): (IpAddr, u16), now: UnixTime) -> Result<Session, Failure> {
        let failed = |error: Error| Failure::new(Trouble::Wrong, in_words(&error));
        let witness = Witness { check: check.clone(), now, report: Mutex::default(), refused: Mutex::default() };
        let witness = Arc::new(witness);
        let config = ClientConfig::builder_with_provider(PROVIDER.clone()).with_safe_default_protocol_versions();
        let config = config.map_err(failed)?.dangerous().with_custom_certificate_verifier(witness.clone());
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        // An address is not sent as a name.
        let name = check.tls.name.clone().unwrap_or_else(|| ServerName::from(address));
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
        let request = http::request_where(&check.http, address, port, HTTPS_PORT);
        // It is kept until the handshake is over.
        let kept = tls.writer().write_all(&request);
        kept.map_err(|_| Failure::new(Trouble::Wrong, "the request is too long"))?;
        Ok(Session { tls, check: check.clone(), witness, answer: HttpAnswer::default(), received: 0, over: false })
    }

    /// Takes what has come from the server, and whether nothing follows. The finding comes once.
    pub fn hear(&mut self, data: &[u8], end: bool) -> Option<Finding> {
        if self.over {
            return None;
        }
        let finding = self.read(data, end)?;
        self.over = true;
        self.tls.send_close_notify();
        Some(finding)
    }

    fn read(&mut self, data: &[u8], end: bool) -> Option<Finding> {
        // A record begins with its type (RFC 8446 §5.1).
        if self.received == 0 && data.first().is_some_and(|first| !(20..=23).contains(first)) {
            return Some(wrong("does not speak TLS"));
        }
        let mut rest = &data[..data.len().min(MAX_RECEIVED - self.received)];
        self.received += rest.len();
        // Bound: each round takes a byte, or is the last one.
        while !rest.is_empty() {
            match self.tls.read_tls(&mut rest) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let state = self.tls.process_new_packets();
            let mut plain = Vec::new();
            // Bound: what is there was decrypted from a piece of a few KiB. That nothing follows is no error.
            let _ = self.tls.reader().read_to_end(&mut plain);
            let closes = state.as_ref().is_ok_and(|state| state.peer_has_closed());
            if (closes || !plain.is_empty())
                && let Some(finding) = self.answer.hear(&self.check.http, &plain, closes)
            {
                return Some(finding);
            }
            if let Err(error) = state {
                return Some(self.failed(&error));
            }
        }
        if self.received == MAX_RECEIVED {
            return Some(wrong("has sent 512 KiB, and no whole answer"));
        }
        match end {
            false => None,
            true if self.received == 0 => Some(wrong("the connection was closed before the TLS handshake")),
            true if self.tls.is_handshaking() => Some(wrong("the connection was closed in the TLS handshake")),
            true => self.answer.hear(&self.check.http, &[], true),
        }
    }

    fn failed(&self, error: &Error) -> Finding {
        let refused = self.witness.refused.lock().expect("no thread panics while it holds these words").take();
        match refused {
            Some(words) => Err(Failure::new(Trouble::Certificate, words)),
            None => wrong(in_words(error)),
        }
    }

    /// What is to be sent to the server.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Bound: what the library has kept, which has a limit of its own.
        while self.tls.wants_write() && self.tls.write_tls(&mut bytes).is_ok_and(|written| written > 0) {}
        bytes
    }

    /// What the certificate is like; once.
    pub fn take_report(&mut self) -> Option<Report> {
        self.witness.report.lock().expect("no thread panics while it holds the report").take()
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match () {
            () if self.received == 0 => Phase::Silent,
            () if self.answer.has_begun() => Phase::Answer,
            () if self.tls.is_handshaking() => Phase::Handshake,
            () => Phase::Asked,
        }
    }
}

impl Witness {
    /// Judges a signature. Where nobody is trusted, nobody looks at it.
    fn signature(
        &self,
        verify: impl FnOnce(&WebPkiServerVerifier) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let trust = self.check.tls.trust.as_ref();
        trust.map_or_else(|| Ok(HandshakeSignatureValid::assertion()), |trust| verify(&trust.verifier))
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let report = judge(shown, others, &self.check.tls, self.now);
        let refused =
            report.complaint.as_ref().and_then(|complaint| Some((complaint.error.clone()?, &complaint.words)));
        let refused = refused.map(|(error, words)| {
            *self.refused.lock().expect("no thread panics while it holds these words") = Some(words.clone());
            error
        });
        *self.report.lock().expect("no thread panics while it holds the report") = Some(report);
        refused.map_or_else(|| Ok(ServerCertVerified::assertion()), |error| Err(Error::InvalidCertificate(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(|verifier| verifier.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(|verifier| verifier.verify_tls13_signature(message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = PROVIDER.signature_verification_algorithms.supported_schemes();
        if self.check.tls.trust.is_none() {
            // Nobody looks at the signature.
            schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        }
        schemes
    }
}

/// An error of TLS in words.
fn in_words(error: &Error) -> String {
    let words = match error {
        Error::AlertReceived(alert) => format!("TLS alert: {}", alert_in_words(*alert)),
        Error::PeerIncompatible(_) => format!("speaks neither TLS 1.2 nor TLS 1.3 as the director does: {error}"),
        _ => format!("TLS: {error}"),
    };
    words.chars().take(WORDS).collect()
}

/// An alert as RFC 8446 §6 names it: `handshake failure`.
fn alert_in_words(alert: AlertDescription) -> String {
    let mut words = String::new();
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && words.ends_with(|before: char| before.is_ascii_lowercase()) {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests;
