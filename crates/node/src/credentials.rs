//! This module keeps the certificates of one node as they are on disk now: whatever is replaced there
//! serves the connections made from then on. A broken replacement changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use chartmesh_record::{Alarm, Clock, NodeName, Timestamp};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificate::{CertificateError, Facts, Names, Papers};
use crate::limits;
use crate::network::Stream;

/// The certificates of one node.
#[derive(Debug)]
pub(crate) struct Credentials {
    dir: PathBuf,
    node: NodeName,
    clock: Arc<dyn Clock>,
    papers: ArcSwap<Papers>,
    files: Mutex<Files>,
}

/// The files as they were when they were last looked at.
#[derive(Debug, Default)]
struct Files {
    stamp: Vec<Stamp>,
    /// Why they cannot be used, and since when.
    broken: Option<(String, Timestamp)>,
}

/// What changes about a file when it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

/// What looking at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are as they were.
    Same,
    /// They are in use from now on.
    Replaced,
    /// They cannot be used; what was in use still is.
    Broken(String),
}

impl Credentials {
    /// Reads the files for the first time.
    pub(crate) fn read(
        dir: PathBuf,
        node: NodeName,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CertificateError> {
        let stamp = stamps(&dir, &node);
        let papers = Papers::read(&dir, &node, clock.wall())?;
        let files = Mutex::new(Files { stamp, broken: None });
        Ok(Self { dir, node, clock, papers: ArcSwap::from_pointee(papers), files })
    }

    /// Looks at the files, and uses them if they have changed and can be used. While they cannot,
    /// every look tries again: of three files, one may not have been replaced yet.
    pub(crate) fn look(&self) -> Look {
        let mut files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let stamp = stamps(&self.dir, &self.node);
        if stamp == files.stamp && files.broken.is_none() {
            return Look::Same;
        }
        files.stamp = stamp;
        let now = self.clock.wall();
        let refusal = match Papers::read(&self.dir, &self.node, now) {
            Err(error) => error.to_string(),
            Ok(papers) if papers.ends <= now && papers.ends < self.ends() => {
                format!("the certificate of {} in {} has ended", self.node, self.dir.display())
            }
            Ok(papers) => {
                self.papers.store(Arc::new(papers));
                files.broken = None;
                return Look::Replaced;
            }
        };
        let since = files.broken.take().map_or(now, |(_, since)| since);
        files.broken = Some((refusal.clone(), since));
        Look::Broken(refusal)
    }

    /// When the certificate in use ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.papers.load().ends
    }

    /// What an operator should know: a replacement that cannot be used, an end that is near.
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((reason, since)) = &files.broken {
            let text = format!("a replaced certificate is not in use: {reason}");
            alarms.push(alarm("certificate-broken", text, *since));
        }
        let (now, ends) = (self.clock.wall(), self.ends());
        let soon = Timestamp(ends.0.saturating_sub(limits::CERTIFICATE_ENDS_SOON_MS));
        if now >= soon {
            let verb = if now < ends { "ends" } else { "ended" };
            let renew = format!("make a new one with `chartmesh certs --renew {}`", self.node);
            let text = format!("the certificate of {} {verb} on {ends}: {renew}", self.node);
            alarms.push(alarm("certificate-ends", text, soon));
        }
        alarms
    }

    /// Shows who this node is to one that has connected, and learns who that is.
    pub(crate) async fn accept(
        &self,
        stream: Box<dyn Stream>,
    ) -> io::Result<(Box<dyn Stream>, Names)> {
        let server = Arc::clone(&self.papers.load().server);
        let tls = TlsAcceptor::from(server).accept(stream).await?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let names = leaf.and_then(|leaf| Facts::of(leaf)).map(|facts| facts.names);
        Ok((Box::new(tls), names.unwrap_or_default()))
    }

    /// Shows who this node is to `peer`, and refuses any other at that end.
    pub(crate) async fn connect(
        &self,
        stream: Box<dyn Stream>,
        peer: &NodeName,
    ) -> io::Result<Box<dyn Stream>> {
        let client = Arc::clone(&self.papers.load().client);
        let name = ServerName::try_from(peer.to_string()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(client).connect(name, stream).await?;
        Ok(Box::new(tls))
    }
}

fn alarm(code: &'static str, text: String, since: Timestamp) -> Alarm {
    Alarm { code, text, since }
}

fn stamps(dir: &Path, node: &NodeName) -> Vec<Stamp> {
    let names = ["ca.pem".to_owned(), format!("{node}.pem"), format!("{node}.key")];
    let stamp = |name: String| {
        let meta = fs::metadata(dir.join(name)).ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Stamp { inode: meta.ino(), len: meta.len(), modified })
    };
    names.into_iter().filter_map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::paper_mill::PaperMill;

    fn read(dir: &Path) -> Result<Credentials, CertificateError> {
        let node = "pac-1".parse().unwrap();
        Credentials::read(dir.to_owned(), node, Arc::new(SystemClock::start()))
    }

    #[test]
    fn a_replaced_certificate_is_used_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(100));
        let credentials = read(dir.path()).unwrap();
        let first = credentials.ends();
        assert_eq!(credentials.look(), Look::Same);
        assert_eq!(credentials.alarms(), []);

        std::fs::write(dir.path().join("pac-1.pem"), "gone").unwrap();

        assert!(
            matches!(credentials.look(), Look::Broken(reason) if reason.contains("no certificate"))
        );
        assert_eq!(credentials.ends(), first);
        assert_eq!(credentials.alarms()[0].code, "certificate-broken");

        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(200));

        assert_eq!(credentials.look(), Look::Replaced);
        assert!(credentials.ends() > first);
        assert_eq!(credentials.alarms(), []);
    }

    #[test]
    fn a_certificate_whose_key_has_not_been_replaced_yet_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(100));
        let credentials = read(dir.path()).unwrap();
        let old_key = std::fs::read(dir.path().join("pac-1.key")).unwrap();
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(200));
        let new_key = std::fs::read(dir.path().join("pac-1.key")).unwrap();
        std::fs::write(dir.path().join("pac-1.key"), old_key).unwrap();

        assert!(matches!(credentials.look(), Look::Broken(_)));
        assert!(matches!(credentials.look(), Look::Broken(_)));
        std::fs::write(dir.path().join("pac-1.key"), new_key).unwrap();

        assert_eq!(credentials.look(), Look::Replaced);
    }

    #[test]
    fn a_certificate_that_has_ended_starts_with_an_alarm_and_never_replaces_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(-1));
        let ended = read(dir.path()).unwrap();
        assert_eq!(ended.alarms()[0].code, "certificate-ends");

        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(100));
        assert_eq!(ended.look(), Look::Replaced);
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(-1));

        assert!(matches!(ended.look(), Look::Broken(reason) if reason.contains("has ended")));
    }

    #[test]
    fn files_that_do_not_fit_together_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.issue(dir.path(), "pac-1", &["pac-2"], Duration::days(1));
        let wrong_name = read(dir.path()).unwrap_err().to_string();
        mill.issue(dir.path(), "pac-1", &["pac-1", "pac-2"], Duration::days(1));
        let two_names = read(dir.path()).unwrap_err().to_string();
        mill.equip(dir.path(), "pac-1");
        PaperMill::new().equip(&dir.path().join("other"), "pac-1");
        std::fs::copy(dir.path().join("other/ca.pem"), dir.path().join("ca.pem")).unwrap();
        let wrong_ca = read(dir.path()).unwrap_err().to_string();
        std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
        let no_ca = read(dir.path()).unwrap_err().to_string();

        assert!(wrong_name.ends_with("pac-1.pem names pac-2, not pac-1"), "{wrong_name}");
        assert!(two_names.ends_with("pac-1.pem names pac-1, pac-2, not pac-1"), "{two_names}");
        assert!(wrong_ca.contains("pac-1.pem is not accepted under"), "{wrong_ca}");
        assert!(no_ca.starts_with("cannot read") && no_ca.contains("ca.pem"), "{no_ca}");
    }
}
