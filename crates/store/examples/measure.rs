//! Measures a store with real records: `measure DIR FILE.ndjson.zst...`
//!
//! Writes them as change sets of a hundred, of one and of many, with the Raft log beside, reads them
//! back at random, and tells speed, bytes on disk and memory. `measure --read DIR` reads what an
//! earlier run left, in a process that has done nothing else.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use chartmesh_record::{
    ChangeSet, Cursor, Effect, EntryOutcome, Generation, Origin, Place, RequestDigest, RequestId,
    Resource, ResourceKey, Timestamp, Version, VersionId,
};
use chartmesh_search::{Entries, Registry, postings};
use chartmesh_store::{Apply, LogId, Memory, Options, RaftLog, Run, Store, Syncer};
use chartmesh_wire::Canonical;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().context("measure DIR FILE.ndjson.zst...")?;
    if first == "--read" {
        return read(Path::new(&arguments.next().context("measure --read DIR")?));
    }
    let dir = PathBuf::from(first);
    let resources = load(arguments)?;
    let bytes: usize = resources.iter().map(|it| it.content().len()).sum();
    println!(
        "{} resources, {:.0} bytes each",
        resources.len(),
        bytes as f64 / resources.len() as f64
    );
    index(&resources)?;
    for (size, batch, most) in
        [(100, 1, usize::MAX), (1, 32, usize::MAX), (1, 1, 20_000), (25_000, 1, 25_000)]
    {
        let dir = dir.join(format!("sets-of-{size}-by-{batch}"));
        write(&dir, &resources[..most.min(resources.len())], size, batch)?;
    }
    syncs(&dir.join("syncs"))?;
    let whole = dir.join("sets-of-100-by-1");
    Command::new(std::env::current_exe()?).arg("--read").arg(&whole).status()?;
    Ok(())
}

/// All records, in an order that has nothing to do with their types and patients.
fn load(files: impl Iterator<Item = String>) -> Result<Vec<Resource>> {
    let mut resources = Vec::new();
    for file in files {
        let text = zstd::decode_all(fs::File::open(&file).context(file)?)?;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            resources.push(Resource::parse(line)?);
        }
    }
    resources.sort_by_cached_key(|it| it.id().map(|id| scatter(id.as_str().as_bytes())));
    Ok(resources)
}

/// FNV-1a.
fn scatter(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn memory() -> Memory {
    Memory::new(64 << 20, 48 << 20)
}

/// The change set of these resources that follows on a place.
fn change_set(resources: &[Resource], at: &Cursor) -> Canonical {
    let instant = Timestamp(1_700_000_000_000 + at.seq.0 as i64);
    let version = VersionId { generation: Generation(1), origin: at.origin.clone() };
    let drawn = scatter(&at.seq.0.to_be_bytes());
    let drawn = u128::from(drawn) << 64 | u128::from(scatter(&drawn.to_be_bytes()));
    let versions: Vec<Version> = resources
        .iter()
        .map(|resource| {
            let id = resource.id().expect("bulk data has ids").clone();
            let key = ResourceKey { kind: resource.kind(), id };
            let content = Some(resource.render(&key, &version, instant));
            let ancestry = Default::default();
            Version { key, generation: version.generation, ancestry, criteria: None, content }
        })
        .collect();
    let outcome = |it: &Version| EntryOutcome {
        effect: Effect::Created,
        key: Some(it.key.clone()),
        version: Some(version.clone()),
    };
    Canonical::encode(ChangeSet {
        origin: at.origin.clone(),
        seq: at.seq.next(),
        at: instant,
        request: RequestId(drawn.to_be_bytes()),
        digest: RequestDigest([7; 32]),
        client: None,
        place: Place {
            node: "pac-1".parse().expect("a name"),
            site: "yokota".parse().expect("a name"),
        },
        entries: versions.iter().map(outcome).collect(),
        versions,
    })
}

/// Makes what searches go through of all resources, in this thread.
fn index(resources: &[Resource]) -> Result<()> {
    let registry = Registry::of_r4(0);
    let (mut rows, mut keys, mut key_bytes) = (0, 0, 0);
    let version = VersionId { generation: Generation(1), origin: Origin::new(&"pac".parse()?, 1) };
    let mut took = Duration::ZERO;
    for resource in resources {
        let id = resource.id().context("bulk data has ids")?;
        let key = ResourceKey { kind: resource.kind(), id: id.clone() };
        let stored = resource.render(&key, &version, Timestamp(1_700_000_000_000));
        let start = Instant::now();
        let entries = Entries::make(&registry, resource.kind(), &stored);
        let entries = entries.context("it was parsed before")?;
        let postings = postings(resource.kind(), Entries::read(&entries), id);
        rows += entries.len();
        keys += postings.len();
        key_bytes += postings.iter().map(Vec::len).sum::<usize>();
        took += start.elapsed();
    }
    let each = |all: usize| all as f64 / resources.len() as f64;
    println!(
        "entries and postings: {:.1} us per resource; {:.0} bytes of entries, {:.1} postings of {:.0} bytes",
        took.as_secs_f64() * 1e6 / resources.len() as f64,
        each(rows),
        each(keys),
        key_bytes as f64 / keys as f64,
    );
    Ok(())
}

/// Writes change sets of `size`, `batch` of them in each apply and each entry of the log.
fn write(dir: &Path, resources: &[Resource], size: usize, batch: usize) -> Result<()> {
    let memory = memory();
    let store = Store::open(dir, Options::new(memory.clone()))?;
    let log = RaftLog::open(dir, Syncer::Thread, &memory)?;
    let mut at = Cursor::start(Origin::new(&"pac".parse()?, 1));
    let runs: Vec<Run> = resources
        .chunks(size * batch)
        .map(|several| {
            let extends = at.clone();
            let changes = several.chunks(size).map(|these| {
                let change = change_set(these, &at);
                at = at.extend(change.bytes());
                change
            });
            Run { changes: changes.collect(), extends }
        })
        .collect();
    for (index, run) in (0..).zip(&runs) {
        let entry: Vec<u8> = run.changes.iter().flat_map(|it| it.bytes().to_vec()).collect();
        let id = LogId { term: 1, leader: 1, index };
        log.append(vec![(id, entry.into())], Box::new(|result| result.expect("it is written")));
    }
    let start = Instant::now();
    for run in runs {
        let applied = Some(Bytes::from_static(b"a log id"));
        store.apply(Apply { runs: vec![run], applied, ..Apply::default() })?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "change sets of {size}, {batch} per apply: {:.0} resources/s, {:.0} applies/s",
        resources.len() as f64 / seconds,
        (resources.len() / size / batch) as f64 / seconds,
    );
    store.flush()?;
    let tables = store.table_bytes()?;
    drop((store, log));
    // What was in memory goes into files as the databases are opened and used.
    drop(RaftLog::open(dir, Syncer::Thread, &memory)?);
    for part in ["state", "log"] {
        let (tables, rest) = sizes(&dir.join(part))?;
        let each = |bytes: u64| bytes as f64 / resources.len() as f64;
        println!("  {part}: {:.0} bytes per resource, and {:.0} of logs", each(tables), each(rest));
    }
    for (table, bytes) in tables {
        println!("    {table}: {:.0} bytes per resource", bytes as f64 / resources.len() as f64);
    }
    Ok(())
}

/// The bytes of a database's tables, and of everything else.
fn sizes(dir: &Path) -> Result<(u64, u64)> {
    let (mut tables, mut rest) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let length = entry.metadata()?.len();
        let is_table = entry.path().extension().is_some_and(|it| it == "sst");
        *(if is_table { &mut tables } else { &mut rest }) += length;
    }
    Ok((tables, rest))
}

fn syncs(dir: &Path) -> Result<()> {
    let log = RaftLog::open(dir, Syncer::Thread, &memory())?;
    let start = Instant::now();
    for index in 0..1000 {
        let (tell, told) = sync_channel(1);
        let entry = (LogId { term: 1, leader: 1, index }, Bytes::from(vec![7; 1000]));
        log.append(vec![entry], Box::new(move |result| tell.send(result).expect("it is awaited")));
        told.recv()??;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.0} syncs/s, one entry of 1,000 bytes after the other", 1000.0 / seconds);
    Ok(())
}

/// How long this thread has run, whatever else the machine does.
fn nanoseconds_on_cpu() -> u64 {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default()
}

fn read(dir: &Path) -> Result<()> {
    let memory = memory();
    let start = Instant::now();
    let store = Store::open(dir, Options::new(memory.clone()))?;
    let log = RaftLog::open(dir, Syncer::Thread, &memory)?;
    println!("opened in {:.0} ms", start.elapsed().as_secs_f64() * 1000.0);
    let origin = store.horizon().into_keys().next().context("an empty store")?;
    let mut at = Cursor::start(origin);
    let mut keys = Vec::new();
    loop {
        let given = store.feed(&at, 1 << 20)?;
        let Some((change, hash)) = given.last() else { break };
        at = Cursor { seq: change.change_set().seq, hash: *hash, ..at };
        let changes = given.iter().flat_map(|(change, _)| &change.change_set().versions);
        keys.extend(changes.map(|version| version.key.clone()));
    }
    for (threads, hot) in [(1, keys.len()), (2, keys.len()), (1, 8460), (2, 8460)] {
        let count = 400_000_u64;
        let start = Instant::now();
        let busy = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (store, keys, busy) = (&store, &keys, &busy);
                scope.spawn(move || {
                    for step in 0..count {
                        let place = scatter(&(step * 2 + thread).to_be_bytes());
                        let key = &keys[place as usize % hot];
                        black_box(store.read(key).expect("it reads").expect("it is there"));
                    }
                    busy.fetch_add(nanoseconds_on_cpu(), Ordering::Relaxed);
                });
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{threads} threads, {hot} resources: {:.0} reads/s, {:.2} us of a core each",
            (threads * count) as f64 / seconds,
            busy.into_inner() as f64 / 1000.0 / (threads * count) as f64,
        );
    }
    let start = Instant::now();
    let report = store.deep_verify(|_| {})?;
    println!("deep_verify: {:.1} s, {:?}", start.elapsed().as_secs_f64(), report.difference);
    let status = fs::read_to_string("/proc/self/status")?;
    status.lines().filter(|it| it.starts_with("VmRSS")).for_each(|line| println!("{line}"));
    drop(log);
    Ok(())
}
