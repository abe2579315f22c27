//! This module makes certificates: `chartmesh certs`.
//!
//! One authority signs a certificate for each node of a topology, and one for whoever operates the
//! mesh. What is there stays as it is, unless it is told by name: nothing here can lock out a mesh
//! by accident.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use chartmesh_node::{Facts, OPERATOR, SystemClock, Topology};
use chartmesh_record::{Clock as _, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use crate::terminal::{self, WrongUsage};

/// How long the authority lasts: longer than any certificate that it will sign.
const AUTHORITY_LASTS: Duration = Duration::days(3_650);

/// How long a certificate lasts. A node raises an alarm thirty days before its own ends.
const CERTIFICATE_LASTS: Duration = Duration::days(397);

/// Clocks of other nodes may be behind.
const BEGINS_BEFORE: Duration = Duration::hours(1);

/// Make the certificates of a mesh: an authority, one certificate for each node, one for the
/// operator. Those that exist stay as they are.
///
/// Each node needs `ca.pem` and its own `NODE.pem` and `NODE.key`. Keep `ca.key` away from the nodes:
/// whoever has it can join the mesh.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh certs --topology mesh.toml --out tls
  chartmesh certs --topology mesh.toml --out tls --renew pac-1     (a running node takes it by itself)")]
pub(crate) struct Arguments {
    /// The file that names the nodes.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// The directory for the certificates.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Make a new certificate and key for this node (or for `operator`), although there is one.
    #[arg(long, value_name = "NODE")]
    renew: Vec<String>,
    /// Make a new authority and new certificates for all, although there is one: until each node has
    /// its new files, those that have and those that have not refuse each other.
    #[arg(long)]
    replace_ca: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// What was done about one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Made {
    /// Whose.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What was done.
    pub(crate) done: Done,
    /// When it ends.
    pub(crate) ends: String,
}

/// What was done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Done {
    /// There was none.
    Made,
    /// There is a new one.
    Renewed,
    /// It stays.
    Kept,
}

/// Runs the command.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let topology = Topology::read(&arguments.topology)?;
    let authority =
        if arguments.replace_ca { AuthorityPolicy::Replace } else { AuthorityPolicy::Keep };
    let made = make(&topology, &arguments.out, &arguments.renew, authority)?;
    if arguments.json {
        terminal::print_json(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = terminal::table(["CERTIFICATE", "", "ENDS", "FILE"]);
    for made in &made {
        let done = match made.done {
            Done::Made => "made",
            Done::Renewed => "renewed",
            Done::Kept => "kept",
        };
        let day = made.ends.split('T').next().unwrap_or_default();
        table.add_row([made.name.as_str(), done, day, &made.file.display().to_string()]);
    }
    terminal::print(table);
    Ok(ExitCode::SUCCESS)
}

/// Whether an authority that is there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityPolicy {
    /// It stays.
    Keep,
    /// There will be a new one.
    Replace,
}

/// Makes what is missing in `out`, and what is to be renewed.
pub(crate) fn make(
    topology: &Topology,
    out: &Path,
    renew: &[String],
    authority: AuthorityPolicy,
) -> anyhow::Result<Vec<Made>> {
    let names: Vec<&str> =
        topology.nodes.iter().map(|node| node.name.as_str()).chain([OPERATOR]).collect();
    if let Some(unknown) = renew.iter().find(|name| !names.contains(&name.as_str())) {
        let known = names.join(", ");
        let reason =
            format!("--renew {unknown}: the topology names no such node (it names {known})");
        return Err(WrongUsage(reason).into());
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let now = OffsetDateTime::from_unix_timestamp(SystemClock::start().wall().0 / 1_000)
        .context("the clock of this machine is far off")?;
    let (issuer, made) = open_authority(topology, out, now, authority)?;
    let all_new = made.done != Done::Kept;
    let mut all = vec![made];
    for name in names {
        let file = out.join(format!("{name}.pem"));
        let done = match file.exists() {
            false => Done::Made,
            true if all_new || renew.iter().any(|renewed| renewed == name) => Done::Renewed,
            true => Done::Kept,
        };
        if done != Done::Kept {
            issue(name, out, now, &issuer)?;
        }
        all.push(describe(name, file, done)?);
    }
    Ok(all)
}

type Authority = Issuer<'static, KeyPair>;

fn open_authority(
    topology: &Topology,
    out: &Path,
    now: OffsetDateTime,
    policy: AuthorityPolicy,
) -> anyhow::Result<(Authority, Made)> {
    let (file, key_file) = (out.join("ca.pem"), out.join("ca.key"));
    let exists = file.exists();
    if exists && policy == AuthorityPolicy::Keep {
        let key = fs::read_to_string(&key_file).with_context(|| {
            format!(
                "{} is there but its key cannot be read from {}: bring the key, or make a new \
                 authority for the whole mesh with --replace-ca",
                file.display(),
                key_file.display()
            )
        })?;
        let unusable = || format!("the authority in {} cannot be used", out.display());
        let key = KeyPair::from_pem(&key).with_context(unusable)?;
        let pem = fs::read_to_string(&file).with_context(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).with_context(unusable)?;
        return Ok((issuer, describe("ca", file, Done::Kept)?));
    }
    let key = KeyPair::generate()?;
    let mut params = params(&format!("chartmesh authority of {}", topology.mesh), now);
    params.not_after = now + AUTHORITY_LASTS;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write(&key_file, &key.serialize_pem(), 0o600)?;
    write(&file, &certificate.pem(), 0o644)?;
    let done = if exists { Done::Renewed } else { Done::Made };
    Ok((Issuer::new(params, key), describe("ca", file, done)?))
}

fn issue(name: &str, out: &Path, now: OffsetDateTime, issuer: &Authority) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = params(name, now);
    params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into()?)];
    params.not_after = now + CERTIFICATE_LASTS;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?;
    write(&out.join(format!("{name}.key")), &key.serialize_pem(), 0o600)?;
    write(&out.join(format!("{name}.pem")), &certificate.pem(), 0o644)
}

fn params(common_name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - BEGINS_BEFORE;
    params
}

fn describe(name: &str, file: PathBuf, done: Done) -> anyhow::Result<Made> {
    let Facts { ends: Timestamp(ends), .. } = Facts::read(&file)?;
    Ok(Made { name: name.to_owned(), file, done, ends: Timestamp(ends).to_string() })
}

/// Replaces a file at once, so that a node that looks at it sees the old one or the new one. A key is
/// never readable by others, not even for a moment.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().map_err(|error| anyhow!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn topology(nodes: usize) -> Topology {
        let mut text = "[mesh]\nname = \"demo\"\n[[region]]\nname = \"pac\"\n".to_owned();
        for n in 1..=nodes {
            text += &format!(
                "[[node]]\nname = \"pac-{n}\"\nregion = \"pac\"\nsite = \"yokota\"\n\
                 mesh = \"h:{n}\"\nfhir = \"g:{n}\"\n"
            );
        }
        Topology::parse(&text).unwrap()
    }

    fn done(made: &[Made]) -> Vec<(&str, Done)> {
        made.iter().map(|made| (made.name.as_str(), made.done)).collect()
    }

    fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        fs::read_dir(dir).unwrap().map(entry).collect()
    }

    #[test]
    fn makes_an_authority_and_a_certificate_that_names_each_node_and_no_other() {
        let dir = tempfile::tempdir().unwrap();

        let made = make(&topology(2), dir.path(), &[], AuthorityPolicy::Keep).unwrap();

        let all = ["ca", "pac-1", "pac-2", "operator"].map(|name| (name, Done::Made));
        assert_eq!(done(&made), all);
        for name in ["pac-1", "pac-2", "operator"] {
            let facts = Facts::read(&dir.path().join(format!("{name}.pem"))).unwrap();
            assert_eq!(facts.names.0, [name]);
            chartmesh_node::check_certificate(dir.path(), &name.parse().unwrap()).unwrap();
        }
        for (file, _) in contents(dir.path()) {
            let mode = fs::metadata(dir.path().join(&file)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if file.ends_with(".key") { 0o600 } else { 0o644 }, "{file}");
        }
    }

    #[test]
    fn what_is_there_stays_and_what_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        make(&topology(1), dir.path(), &[], AuthorityPolicy::Keep).unwrap();
        let before = contents(dir.path());

        let made = make(&topology(2), dir.path(), &[], AuthorityPolicy::Keep).unwrap();

        use Done::{Kept, Made};
        assert_eq!(
            done(&made),
            [("ca", Kept), ("pac-1", Kept), ("pac-2", Made), ("operator", Kept)]
        );
        let after = contents(dir.path());
        assert!(before.iter().all(|(file, bytes)| after[file] == *bytes));
        chartmesh_node::check_certificate(dir.path(), &"pac-2".parse().unwrap()).unwrap();
    }

    #[test]
    fn renews_the_named_one_only() {
        let dir = tempfile::tempdir().unwrap();
        make(&topology(2), dir.path(), &[], AuthorityPolicy::Keep).unwrap();
        let before = contents(dir.path());

        let renew = ["pac-1".to_owned()];
        make(&topology(2), dir.path(), &renew, AuthorityPolicy::Keep).unwrap();

        let after = contents(dir.path());
        let changed: Vec<&String> =
            after.iter().filter(|(file, bytes)| before[*file] != **bytes).map(|(f, _)| f).collect();
        assert_eq!(changed, ["pac-1.key", "pac-1.pem"]);
        chartmesh_node::check_certificate(dir.path(), &"pac-1".parse().unwrap()).unwrap();
        let unknown = make(&topology(2), dir.path(), &["pac-9".to_owned()], AuthorityPolicy::Keep);
        assert!(unknown.unwrap_err().to_string().contains("the topology names no such node"));
    }

    #[test]
    fn an_authority_without_its_key_is_not_replaced_unless_told() {
        let dir = tempfile::tempdir().unwrap();
        make(&topology(1), dir.path(), &[], AuthorityPolicy::Keep).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let before = contents(dir.path());

        let refused = make(&topology(2), dir.path(), &[], AuthorityPolicy::Keep).unwrap_err();

        assert!(refused.to_string().contains("--replace-ca"), "{refused:#}");
        assert_eq!(contents(dir.path()), before);
        let made = make(&topology(1), dir.path(), &[], AuthorityPolicy::Replace).unwrap();
        assert!(made.iter().all(|made| made.done == Done::Renewed));
        chartmesh_node::check_certificate(dir.path(), &"pac-1".parse().unwrap()).unwrap();
    }
}
