//! This module reads certificates: the files of one node, and what a certificate says of its holder.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{Clock as _, NodeName, Timestamp};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::clock::SystemClock;
use crate::limits;

/// The protocol that nodes speak over TLS.
const HTTP2: &[u8] = b"h2";

/// What one node needs to show who it is, and to see who others are.
#[derive(Debug)]
pub(crate) struct Papers {
    /// For connections that others open.
    pub(crate) server: Arc<ServerConfig>,
    /// For connections to others.
    pub(crate) client: Arc<ClientConfig>,
    /// When the node's certificate ends.
    pub(crate) ends: Timestamp,
}

/// Files of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds nothing of the kind.
    #[error("{} holds no {what} in PEM form", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate that names somebody else.
    #[error("{} names {found}, not {expected}", path.display())]
    WrongName {
        /// Which file.
        path: PathBuf,
        /// Who should be named.
        expected: NodeName,
        /// Who is.
        found: Names,
    },
    /// A certificate that others will not accept.
    #[error("{} is not accepted under {}: {reason}", path.display(), ca.display())]
    Untrusted {
        /// Which file.
        path: PathBuf,
        /// By which authority it was to be signed.
        ca: PathBuf,
        /// Why not.
        reason: rustls::Error,
    },
    /// A key and a certificate that do not belong together, or cannot be used.
    #[error("{} and its key cannot be used: {reason}", path.display())]
    Unusable {
        /// Which certificate.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The DNS names of its subject alternative name.
    pub names: Names,
    /// The common name of its subject.
    pub common_name: String,
    /// When it ends.
    pub ends: Timestamp,
}

/// The DNS names of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl Names {
    /// The node that is named, if it is exactly one.
    #[must_use]
    pub fn node(&self) -> Option<NodeName> {
        let [name] = self.0.as_slice() else { return None };
        name.parse().ok()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("nobody") } else { f.write_str(&self.0.join(", ")) }
    }
}

impl Facts {
    /// What a certificate says of its holder; `None` if it is no certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let names = alternative.map_or(&[][..], |extension| &extension.value.general_names);
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        let common_name = certificate.subject().iter_common_name().next();
        Some(Self {
            names: Names(names.iter().filter_map(dns).collect()),
            common_name: common_name.and_then(|name| name.as_str().ok()).unwrap_or("").to_owned(),
            ends: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1_000)),
        })
    }

    /// What the first certificate of a PEM file says of its holder.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn read(path: &Path) -> Result<Self, CertificateError> {
        let empty = || CertificateError::Empty { path: path.to_owned(), what: "certificate" };
        Self::of(certificates(path)?.first().ok_or_else(empty)?).ok_or_else(empty)
    }
}

impl Papers {
    /// Reads `ca.pem`, `NODE.pem` and `NODE.key`, and checks that others will accept them. One that
    /// has ended is read: whoever holds it must still be able to start.
    pub(crate) fn read(
        dir: &Path,
        node: &NodeName,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let ca = dir.join("ca.pem");
        let path = dir.join(format!("{node}.pem"));
        let roots = roots(&ca)?;
        let chain = certificates(&path)?;
        let key = private_key(&dir.join(format!("{node}.key")))?;
        let facts = Facts::read(&path)?;
        if facts.names.node().as_ref() != Some(node) {
            let (expected, found) = (node.clone(), facts.names);
            return Err(CertificateError::WrongName { path, expected, found });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        accepted(&provider, &roots, &chain, node, now.min(Timestamp(facts.ends.0 - 1_000)))
            .map_err(|reason| CertificateError::Untrusted { path: path.clone(), ca, reason })?;
        let unusable = |reason: String| CertificateError::Unusable { path: path.clone(), reason };
        let server = server_config(&provider, &roots, chain.clone(), key.clone_key());
        let client = client_config(&provider, &roots, chain, key);
        Ok(Self {
            server: Arc::new(server.map_err(|error| unusable(error.to_string()))?),
            client: Arc::new(client.map_err(|error| unusable(error.to_string()))?),
            ends: facts.ends,
        })
    }
}

/// Checks that the files of `node` in `dir` can be used and will be accepted by others.
///
/// # Errors
/// A file is missing, or they do not fit together.
pub fn check_certificate(dir: &Path, node: &NodeName) -> Result<(), CertificateError> {
    Papers::read(dir, node, SystemClock::start().wall()).map(|_| ())
}

/// Asks what every other node will ask.
fn accepted(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    node: &NodeName,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let general = |error: &dyn fmt::Display| rustls::Error::General(error.to_string());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| general(&error))?;
    let name = ServerName::try_from(node.as_str()).map_err(|error| general(&error))?;
    let since = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let (leaf, issuers) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let now = UnixTime::since_unix_epoch(since);
    verifier.verify_server_cert(leaf, issuers, &name, &[], now).map(|_| ())
}

/// Sessions are never resumed: every connection looks at a certificate.
fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| CertificateError::Unusable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(CertificateError::Empty { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(&bytes(path)?)
        .map_err(|_| CertificateError::Empty { path: path.to_owned(), what: "private key" })
}

fn bytes(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limits::CERTIFICATE_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}
