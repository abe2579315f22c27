//! This suite compares what search parameters find in the official examples with what an independent
//! FHIRPath engine says.
//!
//! The examples lie beside the repository (`CHARTMESH_SHARED` says where else).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use chartmesh_record::{ResourceType, Tree};
use chartmesh_search::{Parameter, Registry, Sort};
use rh_fhirpath::{
    EvaluationContext, FhirPathEvaluator, FhirPathExpression, FhirPathParser, FhirPathValue,
};
use serde_json::Value;

/// The official examples, if they are there.
fn examples() -> Option<Vec<(String, Vec<u8>)>> {
    let shared = std::env::var_os("CHARTMESH_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/10-r4-examples/r4-examples-instances.tar.zst");
    if !path.exists() {
        println!("left out: {} is not there", path.display());
        return None;
    }
    let file = File::open(path).expect("the archive can be opened");
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).expect("it is zstd"));
    let mut files = Vec::new();
    for entry in archive.entries().expect("it is a tar") {
        let mut entry = entry.expect("it is whole");
        let name = entry.path().expect("it has a path").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("it is whole");
        if name.ends_with(".json") {
            files.push((name, bytes));
        }
    }
    Some(files)
}

/// What the engine finds, element by element: primitive values by their text, others as JSON.
fn flatten(value: &FhirPathValue, found: &mut Vec<String>) {
    match value {
        FhirPathValue::Collection(items) | FhirPathValue::UnorderedCollection(items) => {
            items.iter().for_each(|item| flatten(item, found));
        }
        FhirPathValue::Empty => {}
        FhirPathValue::Object(object) | FhirPathValue::TypedObject { value: object, .. } => {
            found.push(shown(&object.to_string()));
        }
        FhirPathValue::FhirPrimitive { inner, .. } => flatten(inner, found),
        FhirPathValue::Boolean(value) | FhirPathValue::TypedBoolean { value, .. } => {
            found.push(value.to_string());
        }
        FhirPathValue::String(text)
        | FhirPathValue::Date(text)
        | FhirPathValue::DateTime(text)
        | FhirPathValue::Time(text)
        | FhirPathValue::TypedString { value: text, .. }
        | FhirPathValue::TypedDateTime { value: text, .. } => found.push(text.clone()),
        FhirPathValue::Number(decimal) => found.push(number(&decimal.to_string())),
        FhirPathValue::Quantity { value, .. } => {
            found.push(format!("quantity of {}", number(&value.to_string())));
        }
        FhirPathValue::Integer(value) | FhirPathValue::Long(value) => {
            found.push(number(&value.to_string()));
        }
        other => found.push(format!("{other:?}")),
    }
}

/// What is found here, in the same form.
fn shown(element: &str) -> String {
    match serde_json::from_str(element).expect("an element is JSON") {
        Value::String(text) => text,
        // The engine has quantities of its own.
        Value::Object(object) if object.contains_key("value") && object.contains_key("unit") => {
            format!("quantity of {}", number(&object["value"].to_string()))
        }
        Value::Number(value) => number(&value.to_string()),
        other => other.to_string(),
    }
}

/// The expression as the engine takes it: without resolving references, which it cannot; beginning with
/// the type itself; with the member of a choice by its name in JSON, because its `as` takes one value only
/// and its `ofType` knows few types.
fn for_the_engine(expression: &str, kind: ResourceType) -> String {
    let parts = expression.split(" | ").map(|part| {
        let part = part.split(".where(resolve() is ").next().unwrap_or(part).trim();
        let plain = part.replace(['(', ')'], "");
        let choice =
            part.split_once(" as ").map(|_| plain.split_once(" as ").expect("it is there"));
        let choice = choice.or_else(|| {
            let (way, name) = part.split_once(".as(")?;
            Some((way, name.strip_suffix(')')?))
        });
        let part = choice.map_or_else(
            || part.to_owned(),
            |(way, name)| {
                let (first, rest) = name.split_at(1);
                format!("{way}{}{rest}", first.to_uppercase())
            },
        );
        part.replace("DomainResource.", "Resource.").replace("Resource.", &format!("{kind}."))
    });
    parts.collect::<Vec<_>>().join(" | ")
}

/// A number to as many digits as both sides keep.
fn number(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| format!("{number:.9e}"))
}

/// Whether an element that the engine found is a reference to a resource of the type that the expression
/// asks for, if it does.
fn is_asked_for(element: &str, expression: &str) -> bool {
    let Some((_, rest)) = expression.split_once("where(resolve() is ") else { return true };
    let kind = rest.split(')').next().expect("it is closed");
    let value: Value = serde_json::from_str(element).expect("a reference is JSON");
    match value["reference"].as_str() {
        Some(reference) => {
            reference.starts_with(&format!("{kind}/")) || reference.contains(&format!("/{kind}/"))
        }
        None => value.get("identifier").is_some(),
    }
}

/// Where both differ, and why.
const EXPLAINED: [(&str, &str); 6] = [
    ("CarePlan activity-date", "a scheduled time may be a string, which is no date"),
    ("Consent source-reference", "a source may be an attachment, which is no reference"),
    ("Immunization date", "an occurrence may be a string, which is no date"),
    ("Observation combo-value-quantity", "sampled data are no quantity"),
    ("Observation component-value-quantity", "sampled data are no quantity"),
    ("ServiceRequest performer", "the engine takes performerType for a type of performer"),
];

#[derive(Default)]
struct Tally {
    compared: usize,
    elements: usize,
    differing: BTreeMap<String, Vec<String>>,
}

fn compare(
    tally: &mut Tally,
    engine: &mut HashMap<String, Option<FhirPathExpression>>,
    parameter: &Parameter,
    kind: ResourceType,
    (name, bytes, value): (&str, &[u8], &Value),
) {
    let expression = for_the_engine(parameter.expression(), kind);
    let parsed = engine
        .entry(expression.clone())
        .or_insert_with(|| FhirPathParser::new().parse(&expression).ok());
    let Some(parsed) = parsed else {
        tally
            .differing
            .entry(format!("{kind} {}: not read by the engine", parameter.code()))
            .or_default();
        return;
    };
    let context = EvaluationContext::new(value.clone());
    let result = FhirPathEvaluator::new().evaluate(parsed, &context);
    let mut expected = Vec::new();
    match &result {
        Ok(result) => flatten(result, &mut expected),
        Err(error) => expected.push(error.to_string()),
    }
    expected.retain(|element| is_asked_for(element, parameter.expression()));
    let tree = Tree::parse(bytes).expect("an example is JSON");
    let mut found: Vec<_> = parameter.elements(tree.root()).iter().map(|it| shown(it)).collect();
    if parameter.expression().contains("exists()") {
        found = vec![found.iter().any(|it| it != "false").to_string()];
    }
    // The engine's union has each value once.
    for list in [&mut found, &mut expected] {
        list.sort();
        list.dedup();
    }
    tally.compared += 1;
    tally.elements += found.len();
    if found != expected {
        let text = format!("{name}: found {found:?}, the engine {expected:?}");
        tally.differing.entry(format!("{kind} {}", parameter.code())).or_default().push(text);
    }
}

#[test]
fn every_parameter_finds_in_the_official_examples_what_an_independent_engine_finds() {
    let Some(examples) = examples() else { return };
    let registry = Registry::of_r4(0);
    let (mut tally, mut engine) = (Tally::default(), HashMap::new());
    for (name, bytes) in &examples {
        let value: Value = serde_json::from_slice(bytes).expect("an example is JSON");
        let kind = value["resourceType"].as_str().and_then(|kind| kind.parse().ok());
        let Some(kind) = kind else { continue };
        for parameter in registry.parameters(kind).filter(|it| it.sort() != Sort::Composite) {
            compare(&mut tally, &mut engine, parameter, kind, (name, bytes, &value));
        }
    }

    println!("{} comparisons, {} elements", tally.compared, tally.elements);
    for (what, texts) in &tally.differing {
        let first = texts.first().map_or("", String::as_str);
        println!("{what} ({}): {}", texts.len(), &first[..first.floor_char_boundary(300)]);
    }
    assert!(tally.elements > 5_000, "too little was compared");
    let explained: Vec<_> = EXPLAINED.iter().map(|(what, _)| *what).collect();
    assert_eq!(tally.differing.keys().collect::<Vec<_>>(), explained);
}
