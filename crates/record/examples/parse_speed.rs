//! Measures how fast records are parsed and checked in one thread:
//! `parse_speed FILE.ndjson.zst...` or `parse_speed --bundle FILE...`.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use chartmesh_record::{PostedBundle, Resource};

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn timed(name: &str, bytes: usize, work: impl Fn() -> usize) {
    let mut best = f64::INFINITY;
    let mut count = 0;
    for _ in 0..3 {
        let start = Instant::now();
        count = black_box(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!(
        "{name}: {count} resources, {:.1} MB, {:.0} resources/s, {:.0} MB/s",
        bytes as f64 / 1e6,
        count as f64 / best,
        bytes as f64 / 1e6 / best,
    );
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let bundles = arguments.first().is_some_and(|first| first == "--bundle");
    if bundles {
        arguments.remove(0);
    }
    for argument in &arguments {
        let path = Path::new(argument);
        let bytes = std::fs::read(path).expect("the file can be read");
        let compressed = path.extension().is_some_and(|ending| ending == "zst");
        let text = if compressed {
            zstd::decode_all(bytes.as_slice()).expect("the file is zstd")
        } else {
            bytes
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if bundles {
            timed(&name, text.len(), || match PostedBundle::parse(&text) {
                Ok(PostedBundle::Transaction(operations)) => operations.len(),
                Ok(PostedBundle::Batch(entries)) => entries.len(),
                Err(invalid) => panic!("{invalid}"),
            });
        } else {
            let lines: Vec<&[u8]> =
                text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
            timed(&name, text.len(), || {
                let parsed = lines.iter().map(|line| Resource::parse(line).expect("it is valid"));
                parsed.map(|resource| black_box(resource.content().len().min(1))).sum()
            });
        }
    }
}
