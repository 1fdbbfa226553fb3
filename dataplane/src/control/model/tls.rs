//! What a check over TLS is to know before it begins: the name that it asks for, and whose certificates it trusts.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

/// The largest file with CA certificates. Those of a whole system have a quarter of it.
const MAX_FILE: u64 = 1 << 20;

/// The cryptography of all connections.
pub static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// How a check speaks TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The name that it asks for, and that the certificate is to have. `None`: there is none.
    pub name: Option<ServerName<'static>>,
    /// Whose certificates are good. `None`: all are.
    pub trust: Option<Arc<Trust>>,
}

/// Certificates that are trusted to sign others.
#[derive(Debug)]
pub struct Trust {
    /// What tells whether a certificate is signed by one of them.
    pub verifier: Arc<WebPkiServerVerifier>,
    /// Those of a file. A server may have one of them itself: a certificate that it has signed by itself.
    pub listed: Vec<CertificateDer<'static>>,
    /// The file. Empty: the certificates of the system.
    text: Vec<u8>,
}

/// What is in use. Services with the same file, or with the system's certificates, share them.
static IN_USE: Mutex<Vec<Weak<Trust>>> = Mutex::new(Vec::new());

/// What is wrong: the field, and the reason.
pub(super) type Wrong = (&'static str, String);

/// Checks the fields of a check.
pub(super) fn tls(sni: Option<&str>, host: Option<&str>, verify: Option<&str>) -> Result<Tls, Wrong> {
    let name = match (sni, host) {
        (Some(sni), _) => {
            Some(server_name(sni).ok_or_else(|| ("sni", format!("\"{sni}\" is not the name of a host")))?)
        }
        (None, Some(host)) => {
            let why = || ("host", format!("\"{host}\" is not a name that a certificate can have: name one by sni"));
            Some(server_name(without_port(host)).ok_or_else(why)?)
        }
        (None, None) => None,
    };
    let trust = match verify {
        None | Some("off") => None,
        Some("system") => Some(system()?),
        Some(path) if path.starts_with('/') => Some(file(Path::new(path))?),
        Some(other) => {
            let advice = "use off, system, or the absolute path of a file with CA certificates";
            return Err(("verify", format!("\"{other}\" is no way to verify a certificate: {advice}")));
        }
    };
    if trust.is_some() && name.is_none() {
        return Err(("verify", "A certificate is verified for a name: give the check a host, or an sni".into()));
    }
    Ok(Tls { name, trust })
}

/// A name of DNS, or an address, which is compared with the certificate and not sent (RFC 6066 §3).
fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.trim_end_matches('.')).ok().map(|name| name.to_owned())
}

/// The host of `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        _ if host.parse::<IpAddr>().is_ok() => host,
        Some(inside) => inside.split(']').next().unwrap_or(inside),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn system() -> Result<Arc<Trust>, Wrong> {
    shared(Vec::new(), || {
        let found = rustls_native_certs::load_native_certs();
        let (mut roots, none) = (RootCertStore::empty(), "The system has no CA certificates");
        // A system may have some that cannot be read. It does without them, too.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!("{none}{why}: install ca-certificates, or name a file"));
        }
        trust(roots, Vec::new(), Vec::new())
    })
}

fn file(path: &Path) -> Result<Arc<Trust>, Wrong> {
    let about = |why: String| ("verify", format!("The CA file {} {why}", path.display()));
    let text = read(path).map_err(about)?;
    // The system's certificates have no text: an empty file would be taken for them.
    if text.is_empty() {
        return Err(about("is empty".into()));
    }
    shared(text.clone(), || {
        let listed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let listed = listed.map_err(|cause| format!("is damaged: {cause}"))?;
        if listed.is_empty() {
            return Err("has no certificate in it (BEGIN CERTIFICATE)".into());
        }
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(&listed) {
            let added = roots.add(certificate.clone());
            added.map_err(|cause| format!("has a damaged certificate, number {number}: {cause}"))?;
        }
        trust(roots, listed, text)
    })
    .map_err(|(_, why)| about(why))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |cause: std::io::Error| format!("cannot be read: {cause}");
    // A pipe would keep whoever opens it waiting.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is not a file".into());
    }
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)).map_err(failed)?;
    if text.len() as u64 > MAX_FILE { Err("is larger than 1 MiB".into()) } else { Ok(text) }
}

fn trust(roots: RootCertStore, listed: Vec<CertificateDer<'static>>, text: Vec<u8>) -> Result<Trust, String> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone()).build();
    built.map(|verifier| Trust { verifier, listed, text }).map_err(|cause| format!("cannot be used: {cause}"))
}

/// What is in use of the same text, or what is made of it.
fn shared(text: Vec<u8>, make: impl FnOnce() -> Result<Trust, String>) -> Result<Arc<Trust>, Wrong> {
    let mut in_use = IN_USE.lock().expect("no thread panics while it holds the certificates");
    in_use.retain(|trust| trust.strong_count() > 0);
    if let Some(same) = in_use.iter().filter_map(Weak::upgrade).find(|trust| trust.text == text) {
        return Ok(same);
    }
    let made = Arc::new(make().map_err(|why| ("verify", why))?);
    in_use.push(Arc::downgrade(&made));
    Ok(made)
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn the_name_is_that_of_sni_or_of_the_host() {
        for (sni, host, expected) in [
            (None, None, None),
            (None, Some("b.example"), Some("b.example")),
            (None, Some("b.example:8443"), Some("b.example")),
            (None, Some("192.0.2.1"), Some("192.0.2.1")),
            (None, Some("2001:db8::1"), Some("2001:db8::1")),
            (None, Some("[2001:db8::1]:443"), Some("2001:db8::1")),
            (Some("a.example."), Some("b.example"), Some("a.example")),
        ] {
            let name = tls(sni, host, None).unwrap().name;
            assert_eq!(name.as_ref().map(|name| name.to_str().into_owned()).as_deref(), expected, "{sni:?} {host:?}");
        }
    }

    #[test]
    fn what_cannot_be_verified_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty"), "nothing\n").unwrap();
        std::fs::write(path("cut"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
        std::fs::write(path("damaged"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").unwrap();
        std::fs::write(path("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
        nix::unistd::mkfifo(folder.path().join("pipe").as_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (sni, host, verify, field, says) in [
            (Some("a b"), None, None, "sni", "not the name of a host"),
            (None, Some("a%b"), None, "host", "name one by sni"),
            (None, Some("a.example"), Some("on"), "verify", "use off, system"),
            (None, Some("a.example"), Some("ca.pem"), "verify", "absolute path"),
            (None, None, Some("system"), "verify", "give the check a host"),
            (None, Some("a.example"), Some(&*path("gone")), "verify", "gone cannot be read: No such file"),
            (None, Some("a.example"), Some(&*path("")), "verify", "is not a file"),
            (None, Some("a.example"), Some(&*path("pipe")), "verify", "is not a file"),
            (None, Some("a.example"), Some(&*path("empty")), "verify", "has no certificate"),
            (None, Some("a.example"), Some(&*path("cut")), "verify", "is damaged"),
            (None, Some("a.example"), Some(&*path("damaged")), "verify", "damaged certificate, number 1"),
            (None, Some("a.example"), Some(&*path("large")), "verify", "larger than 1 MiB"),
        ] {
            // A system without certificates says so.
            let wrong = tls(sni, host, verify).expect_err(says);
            let no_roots = verify == Some("system") && wrong.1.contains("install ca-certificates");
            assert!(wrong.0 == field && (wrong.1.contains(says) || no_roots), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_is_shared_while_it_is_the_same_and_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let text = || generate_simple_self_signed(["ca.example".to_string()]).unwrap().cert.pem();
        let trust = || tls(Some("a.example"), None, path.to_str()).unwrap().trust.unwrap();
        std::fs::write(&path, text() + &text()).unwrap();
        let one = trust();
        assert!(one.listed.len() == 2 && Arc::ptr_eq(&one, &trust()));
        std::fs::write(&path, text()).unwrap();
        let other = trust();
        assert!(other.listed.len() == 1 && !Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn an_empty_file_is_not_taken_for_the_certificates_of_the_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "").unwrap();
        // Where a system has none, this one stands for them.
        let _system = system().or_else(|_| {
            shared(Vec::new(), || {
                let mut roots = RootCertStore::empty();
                let own = generate_simple_self_signed(["ca.example".to_string()]).unwrap();
                roots.add(own.cert.der().clone()).unwrap();
                trust(roots, Vec::new(), Vec::new())
            })
        });
        let wrong = tls(Some("a.example"), None, path.to_str()).expect_err("it has no certificate");
        assert!(wrong.0 == "verify" && wrong.1.ends_with("ca.pem is empty"), "{wrong:?}");
    }
}
