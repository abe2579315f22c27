//! This module holds what an operator can set at one node: `node.toml`, every key of it optional.

use std::path::Path;
use std::time::Duration;

use chartmesh_region::IsolationWrites;
use chartmesh_rest::Origins;

use crate::keys::{ConfigError, Entry, ReadError, Text};
use crate::limits;
use crate::topology::Address;

/// The settings of one node. [`Settings::default`] is what an empty file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[disk] reserve`: below so many free bytes writes are refused (507) and reads go on.
    pub disk_reserve_bytes: u64,
    /// `[isolation] after`: for how long a node goes without word of a quorum before it is isolated.
    pub isolation_after: Duration,
    /// `[isolation] writes`: whether an isolated node takes writes into its journal.
    pub isolation_writes: IsolationWrites,
    /// `[clock] max_offset`: how far the clock may be from those of other nodes.
    pub clock_max_offset: Duration,
    /// `[log] format`: how log lines are written.
    pub log_format: LogFormat,
    /// `[log] level`: which log lines are written, such as `info` or `info,chartmesh_region=debug`.
    pub log_level: String,
    /// `[listen] mesh`: where to listen for other nodes, if not at the topology's address.
    pub listen_mesh: Option<Address>,
    /// `[listen] fhir`: where to listen for clients, if not at the topology's address.
    pub listen_fhir: Option<Address>,
    /// `[limits] mesh_connections`: connections of other nodes at one time.
    pub mesh_connections: usize,
    /// `[limits] fhir_connections`: connections of clients at one time.
    pub fhir_connections: usize,
    /// `[limits] fhir_connections_of_one`: of these, connections of one address.
    pub fhir_connections_of_one: usize,
    /// `[cors] origins`: the origins of web pages that may ask, separated by commas.
    pub cors_origins: Origins,
    /// `[shutdown] finish`: for how long a node that stops goes on with what is in flight.
    pub finish_within: Duration,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What openraft warns of, an unreachable voter above all, the region and the guard say once.
const LOG_LEVEL: &str = "info,openraft=error";

const ISOLATION_WRITES: &[(&str, IsolationWrites)] =
    &[("journal", IsolationWrites::Journal), ("refuse", IsolationWrites::Refuse)];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

impl Default for Settings {
    fn default() -> Self {
        Self {
            disk_reserve_bytes: chartmesh_rest::Limits::default().disk_reserve_bytes,
            isolation_after: chartmesh_region::Limits::default().isolation_after,
            isolation_writes: chartmesh_region::Limits::default().isolation_writes,
            clock_max_offset: chartmesh_mirror::Limits::default().clock_max_offset,
            log_format: LogFormat::Text,
            log_level: LOG_LEVEL.to_owned(),
            listen_mesh: None,
            listen_fhir: None,
            mesh_connections: limits::MESH_CONNECTIONS,
            fhir_connections: limits::FHIR_CONNECTIONS,
            fhir_connections_of_one: limits::FHIR_CONNECTIONS_OF_ONE,
            cors_origins: Origins::default(),
            finish_within: limits::FINISH_WITHIN,
        }
    }
}

impl Settings {
    /// Reads a `node.toml`.
    ///
    /// # Errors
    /// The file cannot be read, or holds a key or a value that means nothing.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        ReadError::read(path, Self::parse)
    }

    /// Understands the text of a `node.toml`.
    ///
    /// # Errors
    /// It holds a key or a value that means nothing; the error names the line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        let mut file = Text::table(text)?;
        let mut disk = file.table("disk")?;
        disk.set("reserve", &mut settings.disk_reserve_bytes, Entry::bytes)?;
        disk.finish()?;
        let mut isolation = file.table("isolation")?;
        isolation.set("after", &mut settings.isolation_after, Entry::duration)?;
        isolation
            .set("writes", &mut settings.isolation_writes, |entry| entry.word(ISOLATION_WRITES))?;
        isolation.finish()?;
        let mut clock = file.table("clock")?;
        clock.set("max_offset", &mut settings.clock_max_offset, Entry::duration)?;
        clock.finish()?;
        let mut log = file.table("log")?;
        log.set("format", &mut settings.log_format, |entry| entry.word(LOG_FORMATS))?;
        log.set("level", &mut settings.log_level, Entry::parse)?;
        log.finish()?;
        let mut listen = file.table("listen")?;
        listen.set("mesh", &mut settings.listen_mesh, |entry| entry.parse().map(Some))?;
        listen.set("fhir", &mut settings.listen_fhir, |entry| entry.parse().map(Some))?;
        listen.finish()?;
        let mut limits = file.table("limits")?;
        limits.set("mesh_connections", &mut settings.mesh_connections, Entry::count)?;
        limits.set("fhir_connections", &mut settings.fhir_connections, Entry::count)?;
        let of_one = &mut settings.fhir_connections_of_one;
        limits.set("fhir_connections_of_one", of_one, Entry::count)?;
        limits.finish()?;
        let mut cors = file.table("cors")?;
        cors.set("origins", &mut settings.cors_origins, Entry::parse)?;
        cors.finish()?;
        let mut shutdown = file.table("shutdown")?;
        shutdown.set("finish", &mut settings.finish_within, Entry::duration)?;
        shutdown.finish()?;
        file.finish()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
    }

    #[test]
    fn the_file_for_operators_says_what_the_defaults_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/node.toml");

        let settings = Settings::read(&path).unwrap();

        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn every_key_is_understood() {
        let text = r#"
            disk.reserve = "2GiB"
            isolation.after = "8s"
            isolation.writes = "refuse"
            clock.max_offset = "250ms"
            [log]
            format = "json"
            level = "info,chartmesh_region=debug"
            [listen]
            mesh = "0.0.0.0:9101"
            fhir = "[::]:8081"
            [limits]
            mesh_connections = 7
            fhir_connections = 1_000
            fhir_connections_of_one = 100
            [cors]
            origins = "https://app.example.org, http://localhost:3000"
            [shutdown]
            finish = "1500 ms"
        "#;

        let settings = Settings::parse(text).unwrap();

        let expected = Settings {
            disk_reserve_bytes: 2 << 30,
            isolation_after: Duration::from_secs(8),
            isolation_writes: IsolationWrites::Refuse,
            clock_max_offset: Duration::from_millis(250),
            log_format: LogFormat::Json,
            log_level: "info,chartmesh_region=debug".to_owned(),
            listen_mesh: Some("0.0.0.0:9101".parse().unwrap()),
            listen_fhir: Some("[::]:8081".parse().unwrap()),
            mesh_connections: 7,
            fhir_connections: 1_000,
            fhir_connections_of_one: 100,
            cors_origins: "https://app.example.org,http://localhost:3000".parse().unwrap(),
            finish_within: Duration::from_millis(1_500),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn every_refusal_names_the_line_and_what_to_write_instead() {
        let refused = |text: &str| Settings::parse(text).unwrap_err().to_string();
        let found = [
            refused("\n[dsk]\nreserve = \"1GiB\""),
            refused("[disk]\nreserv = \"1GiB\""),
            refused("[disk]\nreserve = 5"),
            refused("[disk]\nreserve = \"5 GB\""),
            refused("[isolation]\n\nafter = \"0s\""),
            refused("isolation.after = \"5\""),
            refused("isolation.writes = \"queue\""),
            refused("clock.max_ofset = \"1s\""),
            refused("isolation = 5"),
            refused("[limits]\nmesh_connections = 0"),
            refused("[limits]\nfhir_connections = \"many\""),
            refused("[log]\nformat = \"xml\""),
            refused("[listen]\nfhir = \"8080\""),
            refused("[cors]\norigins = \"app.example.org\""),
        ];
        insta::assert_snapshot!(found.join("\n"));
    }
}
