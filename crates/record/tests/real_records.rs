//! This suite reads real records: what is valid must be taken, what is not refused.
//!
//! The data lie beside the repository (`CHARTMESH_SHARED` says where else); what is absent is named
//! and left out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use chartmesh_record::{BundledWrite, Operation, PostedBundle, Resource, ResourceKey, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

/// Listed as invalid and, with a validator told to ignore contained resources, as valid: the id of
/// one of them has 65 characters.
const INVALID_AFTER_ALL: &str = "validator/contained-resource.json";

/// The file or folder of this name among the data, if it is there.
fn data(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("CHARTMESH_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("left out: {} is not there", path.display());
    None
}

/// The regular files of a `.tar.zst`, by path.
fn archive(path: &PathBuf) -> BTreeMap<String, Vec<u8>> {
    let file = File::open(path).expect("the archive can be opened");
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).expect("it is zstd"));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("it is a tar") {
        let mut entry = entry.expect("it is whole");
        let name = entry.path().expect("it has a path").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("it is whole");
        files.insert(name, bytes);
    }
    files
}

/// Each line of the NDJSON files of a folder, with the name of its file.
fn lines(folder: &PathBuf) -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let is_lines = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".ndjson.zst") && name != "log.ndjson.zst"
    };
    paths.into_iter().filter(is_lines).flat_map(|path| {
        let file = File::open(&path).expect("it can be opened");
        let text = zstd::decode_all(file).expect("it is zstd");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lines: Vec<Vec<u8>> = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.into_iter().filter(|line| !line.is_empty()).map(move |line| (name.clone(), line))
    })
}

/// Parses all and shows the first of those that are refused.
fn check_taken(inputs: impl Iterator<Item = (String, Vec<u8>)>, expected: usize) {
    let (mut taken, mut refused) = (0, Vec::new());
    for (name, bytes) in inputs {
        match Resource::parse(&bytes) {
            Ok(_) => taken += 1,
            Err(invalid) => refused.push(format!("{name}: {invalid}")),
        }
    }
    assert!(refused.is_empty(), "{} refused, such as\n{}", refused.len(), first(&refused));
    assert_eq!(taken, expected);
}

fn first(messages: &[String]) -> String {
    messages[..messages.len().min(40)].join("\n")
}

#[test]
fn takes_all_official_examples_but_the_invalid_one() {
    let Some(path) = data("10-r4-examples/r4-examples-instances.tar.zst") else { return };
    let files = archive(&path).into_iter().filter(|(name, _)| name.ends_with(".json"));
    let (invalid, valid): (Vec<_>, Vec<_>) =
        files.partition(|(name, _)| name.ends_with("Questionnaire-qs1.json"));

    check_taken(valid.into_iter(), 750);

    assert_eq!(invalid.len(), 1);
    let refusal = Resource::parse(&invalid[0].1).expect_err("it lacks linkId");
    assert!(refusal.to_string().contains("linkId"), "{refusal}");
}

#[test]
fn takes_real_and_generated_patients() {
    for (name, count) in [("02-bulk-uscore", 92_114), ("05-bulk-native10", 0)] {
        let Some(folder) = data(name) else { continue };
        let count = if count == 0 { lines(&folder).count() } else { count };
        check_taken(lines(&folder), count);
    }
}

#[test]
fn takes_bundles_as_resources() {
    for name in ["01-synthea-small/synthea-small-tx.tar.zst", "13-ips/ips-2.0.0-examples.tar.zst"] {
        let Some(path) = data(name) else { continue };
        let files = archive(&path).into_iter().filter(|(name, _)| name.ends_with(".json"));
        let files: Vec<_> = files.collect();
        let count = files.len();
        check_taken(files.into_iter(), count);
    }
}

#[test]
fn agrees_with_the_official_validator_cases() {
    let Some(cases) = data("12-validator-cases/r4-cases.tsv") else { return };
    let Some(files) = data("12-validator-cases/fhir-test-cases-validator+r4.tar.zst") else {
        return;
    };
    let files = archive(&files);
    let cases = fs::read_to_string(cases).expect("it is text");
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::new());
    for case in cases.lines().skip(1) {
        let fields: Vec<&str> = case.split('\t').collect();
        let (kind, file) = (fields[0], fields[1]);
        if fields[5] != "0" || fields[6] != "0" || !file.ends_with(".json") {
            continue;
        }
        let bytes = &files[file];
        *counts.entry(kind).or_insert(0) += 1;
        match (kind, Resource::parse(bytes)) {
            ("valid", Err(invalid)) if file != INVALID_AFTER_ALL => {
                wrong.push(format!("refused {file}: {invalid}"))
            }
            ("syntax" | "structure", Ok(_)) => {
                wrong.push(format!("taken {file}: {}", fields.last().unwrap_or(&"")));
            }
            _ => {}
        }
    }

    assert!(wrong.is_empty(), "{}", first(&wrong));
    assert_eq!((counts["syntax"], counts["structure"], counts["valid"]), (12, 31, 97));
}

/// JSON as a value, numbers as strings of their letters.
fn to_the_letter(text: &str) -> Value {
    let (mut quoted, mut in_string, mut escaped, mut in_number) =
        (String::new(), false, false, false);
    for c in text.chars() {
        let digit = c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let numeric = !in_string && digit && (in_number || c.is_ascii_digit() || c == '-');
        if numeric != in_number {
            quoted.push('"');
            in_number = numeric;
        }
        quoted.push(c);
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            in_string = c == '"';
        }
    }
    serde_json::from_str(&quoted).expect("it was JSON before")
}

/// A resource without its id and what the server sets in its meta.
fn without_what_the_server_sets(text: &str) -> Value {
    let mut value = to_the_letter(text);
    let object = value.as_object_mut().expect("a resource is an object");
    object.remove("id");
    if let Some(meta) = object.get_mut("meta").and_then(Value::as_object_mut) {
        meta.remove("versionId");
        meta.remove("lastUpdated");
        if meta.is_empty() {
            object.remove("meta");
        }
    }
    value
}

#[test]
fn what_is_read_back_is_what_was_sent_to_the_letter() {
    let Some(path) = data("10-r4-examples/r4-examples-instances.tar.zst") else { return };
    let version = "3-pac.7h2k4m9qzx".parse().expect("a version id");
    for (name, bytes) in archive(&path) {
        let Ok(resource) = Resource::parse(&bytes) else { continue };
        let key = ResourceKey { kind: resource.kind(), id: "x".parse().expect("an id") };
        let rendered = resource.render(&key, &version, Timestamp(0));
        let [sent, read] = [&bytes[..], &rendered[..]].map(|text| {
            without_what_the_server_sets(std::str::from_utf8(text).expect("JSON is text"))
        });
        assert!(sent == read, "{name}: {read}");
    }
}

#[test]
fn takes_transactions_and_finds_their_links() {
    let Some(path) = data("01-synthea-small/synthea-small-tx.tar.zst") else { return };
    let (mut resources, mut links) = (0, 0);
    for (name, bytes) in archive(&path).into_iter().filter(|(name, _)| name.ends_with(".json")) {
        let operations: Vec<Operation> = match PostedBundle::parse(&bytes) {
            Ok(PostedBundle::Transaction(writes)) => writes
                .into_iter()
                .map(|write| match write {
                    BundledWrite::Operation(operation) => operation,
                    BundledWrite::Patch(patch) => panic!("{name}: {patch:?}"),
                })
                .collect(),
            Ok(PostedBundle::Batch(entries)) => {
                resources += entries.into_iter().filter(Result::is_ok).count();
                continue;
            }
            Err(invalid) => panic!("{name}: {invalid}"),
        };
        resources += operations.len();
        for draft in operations.iter().filter_map(Operation::draft) {
            let content = std::str::from_utf8(draft.resource.content()).expect("content is text");
            links += draft.links.len();
            let left = draft.links.iter().rev().fold(content.to_owned(), |mut text, link| {
                text.replace_range(link.at.clone(), "");
                text
            });
            assert!(!left.contains("\"reference\":\"urn:uuid:"), "{name}: {left}");
        }
    }
    assert_eq!(resources, 8_460);
    assert!(links > 20_000, "{links} links");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn never_panics_on_a_changed_record(
        place in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut text = SAMPLES[place.index(SAMPLES.len())].as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = if byte < 0x80 { byte } else { b"{}[]\",:\\0-"[usize::from(byte) % 10] };
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        let _ = Resource::parse(&text);
        let _ = PostedBundle::parse(&text);
    }
}

const SAMPLES: [&str; 3] = [
    r##"{"resourceType":"Observation","id":"a","meta":{"tag":[{"system":"urn:chartmesh","code":"conflict"}]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p class='x'>5 &lt; 6 &#xA0;<a href=\"#b\">b</a></p></div>"},"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1-8"}],"text":"\u00e4\ud83d\ude00"},"effectiveDateTime":"2026-11-21T20:00:01.204+01:00","valueQuantity":{"value":1.50e+2,"unit":"mg"}}"##,
    r##"{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"x"}],"extension":[{"url":"urn:x","valueBase64Binary":"QUJD"}],"name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"u","valueId":"i"}]}]}],"deceasedBoolean":false,"_birthDate":{"extension":[{"url":"u","valueTime":"20:00:01"}]},"managingOrganization":{"reference":"#o"}}"##,
    r##"{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520","resource":{"resourceType":"Patient","active":true},"request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=a|1"}},{"fullUrl":"http://a/fhir/Basic/1","resource":{"resourceType":"Basic","id":"1","code":{"text":"x"},"subject":{"reference":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"},"author":{"reference":"Patient?identifier=a|1"}},"request":{"method":"PUT","url":"Basic/1","ifMatch":"W/\"3\""}}]}"##,
];
