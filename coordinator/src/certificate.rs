//! EDGE: the key and certificate of the HTTP interface: its own, made at the first start and kept in the data folder, or those
//! that were given, read again when their files change.
//!
//! People pin the key ([`crate::pin`]): its own certificate is renewed from the same key, and a key that is lost is told and
//! not replaced, as every other.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use lull_engine::files;
use lull_shared::time::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    keys::{self, KeyError},
    pin::Pin,
};

/// The key of the HTTP interface.
pub const KEY_FILE: &str = "https.key";
/// Its certificate, for whoever wants his browsers to know it.
pub const CERTIFICATE_FILE: &str = "https.crt";
/// What the file begins with, before the certificate itself.
const HEADING: &str = "lull https certificate 1";
/// How long a certificate is valid: what browsers take.
const LIFE: Duration = Duration::from_secs(397 * DAY);
/// It is renewed when it is valid for less than this: whoever is on holiday does not miss it.
const LEFT_MIN: Duration = Duration::from_secs(130 * DAY);
/// It is valid from before it was made: clocks of others are late.
const BEFORE: Duration = Duration::from_secs(2 * DAY);
const DAY: u64 = 24 * 60 * 60;
/// How often it is looked whether files have changed, or a certificate ends.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A chain of certificates is some kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "{path} is missing, and the certificate that was made of it is there\nhint: restore it from a backup; if there is none, \
         delete {CERTIFICATE_FILE} to begin with a new key: everybody who pinned the old one must then be told the new pin"
    )]
    Lost { path: PathBuf },
    #[error("{path} does not hold the key of the HTTP interface\nhint: restore it from a backup")]
    Damaged { path: PathBuf },
    #[error("cannot read {path}\nhint: look at the name, and whether the user that runs the server may read it")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds no {what} in PEM\nhint: it begins with `-----BEGIN`; certificates stand in one file, the server's own first"
    )]
    NotPem { path: PathBuf, what: &'static str },
    #[error(
        "the key in {key} does not fit the certificate in {certificate}\nhint: give the key that the certificate was asked for with"
    )]
    Unfit { key: PathBuf, certificate: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// Where key and certificate come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Its own, for these names.
    Own { data: PathBuf, names: Vec<String> },
    /// Somebody's, from files.
    Given { certificate: PathBuf, key: PathBuf },
}

/// The certificate that is shown at the moment.
#[derive(Debug)]
pub struct Certificate {
    origin: Origin,
    shown: RwLock<Shown>,
}

#[derive(Debug, Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    pin: Pin,
    /// What it was made of: whether something else is there now.
    made_of: [Vec<u8>; 2],
}

impl Certificate {
    /// Reads or makes it.
    pub fn open(origin: Origin, now: Timestamp) -> Result<Self, CertificateError> {
        let shown = origin.load(now)?;
        Ok(Self { origin, shown: RwLock::new(shown) })
    }

    /// The pin of its key.
    pub fn pin(&self) -> Pin {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).pin
    }

    /// Whether somebody gave it, whom browsers may believe.
    pub fn is_given(&self) -> bool {
        matches!(self.origin, Origin::Given { .. })
    }

    /// Takes what the files hold now; one that is broken leaves the old one in use.
    pub fn renew(&self, now: Timestamp) -> Result<bool, CertificateError> {
        let fresh = self.origin.load(now)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let news = shown.made_of != fresh.made_of;
        if news {
            *shown = fresh;
        }
        Ok(news)
    }

    /// Goes on looking whether there is another one.
    pub async fn keep(self: Arc<Self>) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificate = self.clone();
            let renewed = tokio::task::spawn_blocking(move || certificate.renew(crate::clock::now())).await;
            match renewed {
                Ok(Ok(news)) => {
                    said.clear();
                    if news {
                        tracing::info!(pin = %self.pin(), "the HTTP interface has another certificate from now on");
                    }
                }
                Ok(Err(error)) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "the certificate of the HTTP interface cannot be renewed; the old one stays in use"
                        );
                        said = words;
                    }
                }
                Err(_) => return,
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

impl Origin {
    fn load(&self, now: Timestamp) -> Result<Shown, CertificateError> {
        match self {
            Self::Given { certificate, key } => given(certificate, key),
            Self::Own { data, names } => own(data, names, now),
        }
    }
}

fn given(certificate: &Path, key: &Path) -> Result<Shown, CertificateError> {
    let (chain, secret) = (read(certificate)?, read(key)?);
    shown(chain, secret, certificate, key)
}

fn shown(chain: Vec<u8>, secret: Vec<u8>, certificate: &Path, key: &Path) -> Result<Shown, CertificateError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain).filter_map(Result::ok).collect();
    let pin = certificates.first().and_then(Pin::of_certificate);
    let pin = pin.ok_or_else(|| CertificateError::NotPem { path: certificate.to_owned(), what: "certificate" })?;
    let private = PrivateKeyDer::from_pem_slice(&secret);
    let private = private.map_err(|_| CertificateError::NotPem { path: key.to_owned(), what: "private key" })?;
    let unfit = || CertificateError::Unfit { key: key.to_owned(), certificate: certificate.to_owned() };
    let made = CertifiedKey::from_der(certificates, private, &ring::default_provider()).map_err(|_| unfit())?;
    Ok(Shown { key: Arc::new(made), pin, made_of: [chain, secret] })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("it is larger than any certificate")));
    }
    fs::read(path).map_err(failed)
}

fn own(data: &Path, names: &[String], now: Timestamp) -> Result<Shown, CertificateError> {
    let (key_path, path) = (data.join(KEY_FILE), data.join(CERTIFICATE_FILE));
    let failed = |source| CertificateError::Read { path: path.clone(), source };
    let known = files::read_there(&path).map_err(failed)?;
    let secret = match (keys::read(&key_path)?, &known) {
        (Some(secret), _) => secret,
        (None, Some(_)) => return Err(CertificateError::Lost { path: key_path }),
        (None, None) => {
            let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem().into_bytes();
            keys::write_private(&key_path, &made)?;
            made
        }
    };
    let damaged = || CertificateError::Damaged { path: key_path.clone() };
    let pair = std::str::from_utf8(&secret).ok().and_then(|text| KeyPair::from_pem(text).ok()).ok_or_else(damaged)?;
    if let Some(known) = known.filter(|known| serves(known, names, now))
        && let Ok(shown) = shown(known, secret.clone(), &path, &key_path)
    {
        return Ok(shown);
    }
    let chain = certify(&pair, names, now)?.into_bytes();
    keys::write_private(&path, &chain)?;
    shown(chain, secret, &path, &key_path)
}

/// Whether a certificate that was made before still does: it is for these names, and for long enough.
fn serves(file: &[u8], names: &[String], now: Timestamp) -> bool {
    let text = String::from_utf8_lossy(file);
    let mut lines = text.lines();
    let until = |line: &str| line.strip_prefix("until ")?.parse::<jiff::Timestamp>().ok();
    lines.next() == Some(HEADING)
        && lines.next() == Some(&*names_line(names))
        && lines
            .next()
            .and_then(until)
            .is_some_and(|until| (now + LEFT_MIN).to_jiff() < until && until < (now + 2 * LIFE).to_jiff())
}

fn names_line(names: &[String]) -> String {
    format!("names {}", names.join(" "))
}

/// A new certificate of this key, as its file holds it.
fn certify(pair: &KeyPair, names: &[String], now: Timestamp) -> Result<String, CertificateError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().filter_map(|name| alternative(name)).collect();
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, "Lull coordinator");
    params.distinguished_name = called;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let date = |at: Timestamp| {
        let day = at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(day.year().into(), part(day.month()), part(day.day()))
    };
    let until = now + LIFE;
    // Browsers take no two certificates of one number.
    params.serial_number = Some((rand::random::<u64>() >> 1).into());
    (params.not_before, params.not_after) = (date(now - BEFORE), date(until));
    let made = params.self_signed(pair)?;
    Ok(format!("{HEADING}\n{}\nuntil {}\n{}", names_line(names), until.to_jiff(), made.pem()))
}

/// A name as a certificate holds it; none if it cannot hold it.
fn alternative(name: &str) -> Option<SanType> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Some(SanType::IpAddress(ip)),
        Err(_) => name.try_into().ok().map(SanType::DnsName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn own(data: &Path, names: &[&str], now: Timestamp) -> Result<Certificate, CertificateError> {
        let names = names.iter().map(ToString::to_string).collect();
        Certificate::open(Origin::Own { data: data.to_owned(), names }, now)
    }

    #[test]
    fn the_key_is_made_once_and_its_certificate_renewed_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = || fs::read(folder.path().join(CERTIFICATE_FILE)).expect("it is there");
        let pin = own(folder.path(), &["lull", "10.0.0.1"], NOW).expect("made").pin();
        let first = file();
        let again = |names: &[&str], now| own(folder.path(), names, now).expect("made").pin();
        assert_eq!((again(&["lull", "10.0.0.1"], NOW), file() == first), (pin, true), "it is the same for its time");
        let late = NOW + (LIFE - LEFT_MIN);
        assert_eq!((again(&["lull", "10.0.0.1"], late), file() == first), (pin, false));
        let second = file();
        assert_eq!((again(&["lull", "north"], late), file() == second), (pin, false), "another name");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(folder.path().join(KEY_FILE)).expect("there").permissions(),
            );
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_lost_or_damaged_key_is_told_and_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join(KEY_FILE);
        own(folder.path(), &["lull"], NOW).expect("made");
        fs::write(&key, "garbage").expect("written");
        assert!(matches!(own(folder.path(), &["lull"], NOW), Err(CertificateError::Damaged { .. })));
        fs::remove_file(&key).expect("removed");
        let words = own(folder.path(), &["lull"], NOW).expect_err("it is lost").to_string();
        assert!(words.contains("https.key is missing") && words.contains("hint: "), "{words}");
        assert!(!key.exists());
        fs::remove_file(folder.path().join(CERTIFICATE_FILE)).expect("removed");
        own(folder.path(), &["lull"], NOW).expect("begun anew");
    }

    #[test]
    fn given_files_are_taken_when_they_change_and_broken_ones_leave_the_old_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let data = folder.path().join(name);
            fs::create_dir(&data).expect("made");
            let pin = own(&data, &[name], NOW).expect("made").pin();
            (data.join(CERTIFICATE_FILE), data.join(KEY_FILE), pin)
        };
        let ((certificate, key, pin), other) = (make("first"), make("second"));
        let given = Certificate::open(Origin::Given { certificate: certificate.clone(), key: key.clone() }, NOW).expect("read");
        assert!(given.pin() == pin && given.is_given() && !given.renew(NOW).expect("the same"));
        fs::copy(&other.1, &key).expect("copied");
        assert!(matches!(given.renew(NOW), Err(CertificateError::Unfit { .. })), "half of a change");
        assert_eq!(given.pin(), pin);
        fs::copy(&other.0, &certificate).expect("copied");
        assert!(given.renew(NOW).expect("whole now") && given.pin() == other.2);
        fs::write(&certificate, "-----BEGIN").expect("written");
        assert!(matches!(given.renew(NOW), Err(CertificateError::NotPem { .. })));
        fs::remove_file(&key).expect("removed");
        assert!(given.renew(NOW).is_err() && given.pin() == other.2);
    }
}
