//! This module makes certificates for tests: good ones, and all kinds of bad ones.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use time::{Duration, OffsetDateTime};

/// An authority that signs whatever it is asked to.
pub(crate) struct PaperMill(CertifiedIssuer<'static, KeyPair>);

impl PaperMill {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Fills a directory for `node` with a certificate of a day.
    pub(crate) fn equip(&self, dir: &Path, node: &str) -> PathBuf {
        self.issue(dir, node, &[node], Duration::days(1))
    }

    /// Fills a directory for `node` with a certificate for these names that ends after this time.
    pub(crate) fn issue(&self, dir: &Path, node: &str, names: &[&str], lasts: Duration) -> PathBuf {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::now_utc() - Duration::days(10);
        params.not_after = OffsetDateTime::now_utc() + lasts;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
        fs::write(dir.join(format!("{node}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{node}.key")), key.serialize_pem()).unwrap();
        dir.to_owned()
    }
}
