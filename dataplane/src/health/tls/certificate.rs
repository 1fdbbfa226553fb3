//! What is to be said of a server's certificate: until when it is valid, and what is wrong with it.

use std::net::IpAddr;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::control::model::tls::{Tls, Trust};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// A certificate that ends within this time is to be renewed.
const SOON: i64 = 14 * DAY;
/// The most names of a certificate that are said, and the most characters of each.
const NAMES: usize = 3;
const NAME_CHARS: usize = 80;

/// What there is to say of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Until when it is valid, in seconds since 1970. `None`: it cannot be read.
    pub until: Option<i64>,
    /// What is wrong with it.
    pub complaint: Option<Complaint>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Complaint {
    /// In words: `certificate expired 3 days ago`.
    pub words: String,
    /// What mends it.
    pub fix: String,
    /// Why a check that verifies certificates fails. `None`: it does not.
    pub error: Option<CertificateError>,
}

/// Judges the certificate that a server has shown, with those that it has shown besides.
pub fn judge(shown: &CertificateDer<'_>, others: &[CertificateDer<'_>], tls: &Tls, now: UnixTime) -> Report {
    let complain = |words: String, fix: &str, error: CertificateError| {
        let error = tls.trust.is_some().then_some(error);
        Some(Complaint { words, fix: fix.into(), error })
    };
    let Ok((_, certificate)) = X509Certificate::from_der(shown) else {
        let fix = "give the service there a certificate that clients can read";
        let complaint = complain("certificate cannot be read".into(), fix, CertificateError::BadEncoding);
        return Report { until: None, complaint };
    };
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let renew = "renew the certificate there, and have the service read it";
    let complaint = if seconds > end {
        let words = format!("certificate expired {} ago", time(seconds - end));
        complain(words, renew, CertificateError::Expired)
    } else if seconds < begin {
        let words = format!("certificate is not valid yet, and will be in {}", time(begin - seconds));
        complain(
            words,
            "are the clocks right, there and on the director? `date -u` says",
            CertificateError::NotValidYet,
        )
    } else if let Some(name) = tls.name.as_ref().filter(|name| !is_for(shown, name)) {
        let (wanted, names) = (name.to_str(), names(&certificate));
        let fix = format!("give the service there a certificate for {wanted}, or name another one by the check's sni");
        complain(format!("certificate is for {names}, not {wanted}"), &fix, CertificateError::NotValidForName)
    } else if let Some((words, error)) =
        tls.trust.as_ref().zip(tls.name.as_ref()).and_then(|(trust, name)| distrust(trust, shown, others, name, now))
    {
        let words = match (words, certificate.subject() == certificate.issuer()) {
            (None, true) => "certificate is signed by itself, and by nobody that is trusted".into(),
            (None, false) => "certificate is signed by nobody that is trusted".into(),
            (Some(words), _) => words,
        };
        let fix = "have the service there show its whole chain; if it does, name its CA by the check's verify";
        complain(words, fix, error)
    } else if end - seconds <= SOON {
        let words = format!("certificate ends in {}", time(end - seconds));
        Some(Complaint { words, fix: renew.into(), error: None })
    } else {
        None
    };
    Report { until: Some(end), complaint }
}

/// Whether a certificate has this name. Only its alternative names count, as for clients (RFC 9525 §2).
fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Why a certificate is not trusted, in words where it is not that nobody has signed it. `None`: it is.
fn distrust(
    trust: &Trust,
    shown: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
) -> Option<(Option<String>, CertificateError)> {
    if trust.listed.iter().any(|listed| listed == shown) {
        return None;
    }
    match trust.verifier.verify_server_cert(shown, others, name, &[], now).err()? {
        // A CA of this name is trusted, but it has another key.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some((None, CertificateError::UnknownIssuer))
        }
        Error::InvalidCertificate(error @ (CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            Some((Some("a certificate that has signed the server's has expired".into()), error))
        }
        Error::InvalidCertificate(error) => {
            let words: String = error.to_string().chars().take(200).collect();
            Some((Some(format!("certificate is not valid: {words}")), error))
        }
        other => Some((Some(format!("certificate is not valid: {other}")), CertificateError::BadEncoding)),
    }
}

/// The names that a certificate has, some of them.
fn names(certificate: &X509Certificate<'_>) -> String {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            Some(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?.to_string())
        }
        _ => None,
    };
    let names: Vec<String> = alternatives.iter().filter_map(name).collect();
    match names.len() {
        0 => "no name".into(),
        count if count > NAMES => format!("{} and {} more names", names[..NAMES].join(", "), count - NAMES),
        _ => names.join(", "),
    }
}

/// A name as it can be written anywhere: anybody can make one up.
fn plain(name: &str) -> String {
    name.chars().take(NAME_CHARS).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// A length of time as people say it.
fn time(seconds: i64) -> String {
    let (count, unit) = match seconds {
        DAY.. => (seconds / DAY, "day"),
        HOUR.. => (seconds / HOUR, "hour"),
        MINUTE.. => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;
    use crate::control::model::health::{Ask, checked};

    /// 2030-01-01.
    const NOW: i64 = 1_893_456_000;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
    }

    fn params(names: &[&str]) -> CertificateParams {
        let alternatives: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.first().unwrap_or(&"nobody").to_string());
        (params.not_before, params.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2031, 1, 1));
        params
    }

    fn self_signed(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn tls(check: &str) -> Tls {
        let check = checked(&check.parse().unwrap(), &"192.0.2.1:443".parse().unwrap()).unwrap();
        let Ask::Https(https) = check.ask else { panic!() };
        https.tls.clone()
    }

    fn words(certificate: &CertificateDer<'_>, check: &str, now: i64) -> Option<String> {
        let report = judge(certificate, &[], &tls(check), at(now));
        report.complaint.map(|complaint| {
            assert_eq!((complaint.error, complaint.fix.is_empty()), (None, false), "nothing is verified");
            complaint.words
        })
    }

    #[test]
    fn expiry_and_names_are_said_although_nothing_is_verified() {
        let certificate = self_signed(&params(&["a.example", "*.b.example", "192.0.2.9"]));
        let end = 1_924_992_000;
        for (check, now, says) in [
            ("https", NOW, None),
            ("https host=a.example", NOW, None),
            ("https host=A.example:443", NOW, None),
            ("https host=x.b.example", NOW, None),
            ("https host=192.0.2.9", NOW, None),
            ("https host=c.example sni=a.example", NOW, None),
            ("https host=c.example", NOW, Some("certificate is for a.example, *.b.example, 192.0.2.9, not c.example")),
            (
                "https host=x.y.b.example",
                NOW,
                Some("certificate is for a.example, *.b.example, 192.0.2.9, not x.y.b.example"),
            ),
            ("https host=192.0.2.8", NOW, Some("certificate is for a.example, *.b.example, 192.0.2.9, not 192.0.2.8")),
            ("https", end - 15 * DAY, None),
            ("https", end - 10 * DAY, Some("certificate ends in 10 days")),
            ("https", end - HOUR, Some("certificate ends in 1 hour")),
            ("https", end, Some("certificate ends in 0 seconds")),
            ("https", end + 5, Some("certificate expired 5 seconds ago")),
            ("https host=c.example", end + 3 * DAY + HOUR, Some("certificate expired 3 days ago")),
            ("https", 1_861_920_000 - 2 * MINUTE, Some("certificate is not valid yet, and will be in 2 minutes")),
        ] {
            assert_eq!(words(&certificate, check, now).as_deref(), says, "{check} {now}");
        }
        let report = judge(&certificate, &[], &tls("https"), at(NOW));
        assert_eq!(report, Report { until: Some(end), complaint: None });
        let many: Vec<String> = (0..9).map(|n| format!("{n}.example")).collect();
        let many = self_signed(&params(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        let said = words(&many, "https host=a.example", NOW).unwrap();
        assert_eq!(said, "certificate is for 0.example, 1.example, 2.example and 6 more names, not a.example");
        let none = self_signed(&params(&[]));
        assert_eq!(words(&none, "https sni=a.example", NOW).unwrap(), "certificate is for no name, not a.example");
        assert_eq!(words(&vec![1, 2, 3].into(), "https", NOW).unwrap(), "certificate cannot be read");
    }

    #[test]
    fn who_has_signed_is_looked_at_where_it_is_verified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let mut of_ca = params(&["ca.example"]);
        of_ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate().unwrap()).unwrap();
        let by_ca = params(&["a.example"]).signed_by(&KeyPair::generate().unwrap(), &ca).unwrap().der().clone();
        let own = self_signed(&params(&["a.example"]));
        std::fs::write(&path, ca.pem()).unwrap();
        let tls_of = |name: &str| tls(&format!("https host={name} verify={}", path.display()));
        let judged = |certificate: &CertificateDer<'_>, name: &str, now: i64| {
            let complaint = judge(certificate, &[], &tls_of(name), at(now)).complaint?;
            Some((complaint.words, complaint.error))
        };
        assert_eq!(judged(&by_ca, "a.example", NOW), None);
        let unknown = Some(CertificateError::UnknownIssuer);
        let by_itself = "certificate is signed by itself, and by nobody that is trusted".to_string();
        assert_eq!(judged(&own, "a.example", NOW), Some((by_itself, unknown)));
        let (words, error) = judged(&by_ca, "b.example", NOW).unwrap();
        assert_eq!(
            (&*words, error),
            ("certificate is for a.example, not b.example", Some(CertificateError::NotValidForName))
        );
        let (words, error) = judged(&by_ca, "a.example", NOW + 400 * DAY).unwrap();
        assert_eq!((&*words, error), ("certificate expired 35 days ago", Some(CertificateError::Expired)));
        let (words, error) = judged(&by_ca, "a.example", NOW + 360 * DAY).unwrap();
        assert_eq!((&*words, error), ("certificate ends in 5 days", None), "it is still good");
        // A certificate that a server has signed by itself is trusted where the operator lists it.
        let key = KeyPair::generate().unwrap();
        let mut of_own = params(&["a.example"]);
        of_own.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let own = of_own.self_signed(&key).unwrap();
        std::fs::write(&path, own.pem()).unwrap();
        assert_eq!(judged(own.der(), "a.example", NOW), None);
        let (words, error) = judged(&by_ca, "a.example", NOW).unwrap();
        assert_eq!(
            (&*words, error),
            ("certificate is signed by nobody that is trusted", Some(CertificateError::UnknownIssuer))
        );
    }

    proptest! {
        #[test]
        fn no_certificate_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at_byte in any::<prop::sample::Index>(), with in any::<u8>()) {
            judge(&bytes.into(), &[], &tls("https host=a.example"), at(NOW));
            let mut certificate = self_signed(&params(&["a.example"])).to_vec();
            let index = at_byte.index(certificate.len());
            certificate[index] = with;
            judge(&certificate.into(), &[], &tls("https host=a.example"), at(NOW));
        }
    }
}
