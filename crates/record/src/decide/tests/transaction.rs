//! This module tests transactions (FHIR R4, http, 3.1.0.11.2).

use super::*;
use crate::command::{Draft, Link, LinkTarget};

/// A draft in which each `<n>` stands for a link to entry `n`, each `<Type?query>` for a conditional
/// reference. `meta` comes first, as in the content of a resource.
fn linked(kind: &str, meta: &str, members: &str) -> Draft {
    let text = format!("{meta}{members}");
    let (mut links, mut from) = (Vec::new(), 0);
    while let Some(start) = text[from..].find('<').map(|place| from + place) {
        let end = start + text[start..].find('>').expect("closed") + 1;
        let inner = &text[start + 1..end - 1];
        let target = match inner.parse() {
            Ok(entry) => LinkTarget::Entry(entry),
            Err(_) => LinkTarget::Match(criteria(inner)),
        };
        links.push(Link { at: start..end, target });
        from = end;
    }
    let kind = kind.parse().expect("a type");
    Draft { resource: Resource::from_parts(kind, None, text.into(), meta.len()), links }
}

fn create_linked(kind: &str, members: &str) -> Operation {
    Operation::Create { draft: linked(kind, "", members), unless: None }
}

/// Judges a transaction over `Patient/1` to `Patient/3`, of which the first two have the identifiers
/// that are their ids, and tells what becomes of it. A derived id is shown as `#entry`.
fn check(entries: Vec<Operation>, expected: &str) {
    let mut pac = Decider::new("pac");
    for (id, members) in [("1", identified("1")), ("2", identified("2")), ("3", String::new())] {
        pac.put(&format!("Patient/{id}"), &members);
    }
    let command = transaction(99, entries);
    let before = pac.memory.version_count();

    let judgement = pac.judge(&command);

    let mut text = told(&judgement);
    for place in 0..command.operations().len() {
        text = text.replace(command.derived_id(place).as_str(), &format!("#{place}"));
    }
    assert_eq!(text, expected, "{command:?}");
    if let Judgement::Change { decision, change_set } = judgement {
        assert_eq!(decision.assemble(&command), Ok(change_set.clone()));
        assert_eq!(pac.memory.version_count(), before + change_set.versions.len());
    } else {
        assert_eq!(pac.memory.version_count(), before);
    }
}

#[test]
fn all_verbs_in_one_whatever_their_order() {
    let put = || update("Patient/1", "", tags(&["1-pac"]));
    let (gone, new) = (|| delete("Patient/2", Precondition::None), || create("Patient", ""));

    check(
        vec![read("Patient/1"), put(), new(), gone()],
        "Read Patient/1 2-pac, Updated Patient/1 2-pac, Created Patient/#2 1-pac, Deleted Patient/2 2-pac",
    );
    check(
        vec![gone(), new(), put(), read("Patient/1")],
        "Deleted Patient/2 2-pac, Created Patient/#1 1-pac, Updated Patient/1 2-pac, Read Patient/1 2-pac",
    );
}

#[test]
fn one_failing_entry_fails_all_and_is_named() {
    check(vec![create("Patient", ""), read("Patient/9")], "1: Patient/9 is not known");
    check(
        vec![read("Patient/1"), delete("Patient/1", Precondition::None)],
        "0: Patient/1 is deleted",
    );
    check(
        vec![create("Patient", ""), update("Patient/1", "", tags(&["7-pac"]))],
        "1: Precondition 1-pac",
    );
    check(vec![create("Patient", ""), update("Patient/1", "", tags(&["7-eur"]))], "Lacking 7-eur");
}

#[test]
fn a_transaction_that_changes_nothing_takes_no_place_in_the_feed() {
    check(vec![], "");
    check(
        vec![
            read("Patient/1"),
            create_unless("", "Patient?identifier=2"),
            delete("Patient/9", Precondition::None),
        ],
        "Read Patient/1 1-pac, Found Patient/2 1-pac, NothingToDelete Patient/9",
    );
}

#[test]
fn a_resource_is_written_by_one_entry_only() {
    let twice = |key: &str, entry: usize, other: usize| {
        format!(
            "{entry}: {key} is written by entry {other} too: a transaction may name a resource once"
        )
    };
    let put = || update("Patient/1", "", Precondition::None);
    let by_id = || update_where("Patient?identifier=1", "");

    check(vec![put(), create("Patient", ""), put()], &twice("Patient/1", 2, 0));
    check(vec![put(), delete("Patient/1", Precondition::None)], &twice("Patient/1", 1, 0));
    check(vec![by_id(), put()], &twice("Patient/1", 1, 0));
    check(vec![delete_where("Patient?identifier=1"), by_id(), put()], &twice("Patient/1", 2, 0));
    check(
        vec![delete("Patient/9", Precondition::None), update("Patient/9", "", Precondition::None)],
        &twice("Patient/9", 1, 0),
    );
}

#[test]
fn links_are_filled_in_with_what_becomes_of_their_entries() {
    let mut pac = Decider::new("pac");
    pac.put("Patient/1", &identified("1"));
    let observation = linked(
        "Observation",
        r#""source":"<0>""#,
        r#""subject":{"reference":"<0>"},"performer":[{"reference":"<Patient?identifier=1>"},{"reference":"<2>"}],"focus":"<Patient?identifier=9>""#,
    );
    let command = transaction(
        5,
        vec![
            create("Patient", &identified("9")),
            Operation::Create { draft: observation, unless: None },
            create_unless("", "Patient?identifier=1"),
        ],
    );

    let Judgement::Change { decision, change_set } = pac.judge(&command) else {
        panic!("it creates")
    };

    let new = format!("Patient/{}", command.derived_id(0));
    let content = change_set.versions[1].content.clone().expect("live");
    let content = String::from_utf8(content.to_vec()).expect("text");
    let tail = format!(
        r#""source":"{new}"}},"subject":{{"reference":"{new}"}},"performer":[{{"reference":"Patient/1"}},{{"reference":"Patient/1"}}],"focus":"{new}"}}"#
    );
    assert!(content.ends_with(&tail), "{content}");
    assert_eq!(decision.matches.len(), 2);
    assert_eq!(change_set.versions.len(), 2);
}

#[test]
fn conditional_references_match_one_resource_after_all_writes() {
    let refer = |query: &str| create_linked("Observation", &format!(r#""subject":"<{query}>""#));
    let none = |query: &str| format!("the conditional reference {query} matches no resource");
    let by = "Patient?identifier=1";

    check(vec![refer(by)], "Created Observation/#0 1-pac");
    check(vec![refer("Patient?identifier=9")], &format!("0: {}", none("Patient?identifier=9")));
    check(
        vec![refer(by), create("Patient", &identified("1"))],
        "0: Patient?identifier=1 matches more than one resource",
    );
    check(vec![refer(by), delete("Patient/1", Precondition::None)], &format!("0: {}", none(by)));
    check(
        vec![refer(by), update("Patient/1", &identified("9"), Precondition::None)],
        &format!("0: {}", none(by)),
    );
    check(
        vec![
            refer("Patient?identifier=9"),
            update("Patient/3", &identified("9"), Precondition::None),
        ],
        "Created Observation/#0 1-pac, Updated Patient/3 2-pac",
    );
    check(
        vec![
            create_linked("Observation", r#""subject":"<1>""#),
            delete_where("Patient?identifier=9"),
        ],
        &format!("0: {}", none("Patient?identifier=9")),
    );
}

#[test]
fn a_draft_that_is_not_written_needs_none_of_its_references() {
    let unless = Some(criteria("Patient?identifier=1"));
    let draft = linked("Patient", "", r#""managingOrganization":"<Organization?identifier=9>""#);
    check(vec![Operation::Create { draft, unless }], "Found Patient/1 1-pac");
}

#[test]
fn a_conditional_create_sees_deletes_and_no_other_create() {
    let by = "Patient?identifier=1";
    check(
        vec![create_unless(&identified("1"), by), delete("Patient/1", Precondition::None)],
        "Created Patient/#0 1-pac, Deleted Patient/1 2-pac",
    );
    check(
        vec![create("Patient", &identified("9")), create_unless("", "Patient?identifier=9")],
        "Created Patient/#0 1-pac, Created Patient/#1 1-pac",
    );
    check(
        vec![create_unless("", by), update("Patient/1", "", Precondition::None)],
        "Found Patient/1 1-pac, Updated Patient/1 2-pac",
    );
}

#[test]
fn a_conditional_update_sees_creates_and_so_never_doubles_one() {
    let by = "Patient?identifier=9";
    let new = || create_unless(&identified("9"), by);
    let twice = "Patient/#0 is written by entry 0 too: a transaction may name a resource once";

    check(vec![new(), update_where(by, &identified("9"))], &format!("1: {twice}"));
    check(
        vec![create_unless("", by), update_where(by, "")],
        "1: Patient/#1 is written by entry 0 too: a transaction may name a resource once",
    );
    check(
        vec![update_where(by, ""), create_unless("", by)],
        "1: Patient/#0 is written by entry 0 too: a transaction may name a resource once",
    );
    check(
        vec![update_where(by, ""), update_where("Patient?identifier=9,9", "")],
        "1: Patient/#1 is written by entry 0 too: a transaction may name a resource once",
    );
}

#[test]
fn conditional_creates_with_equal_criteria_make_one_resource_if_they_are_equal() {
    let by = "Patient?identifier=9";
    check(
        vec![
            create_unless(&identified("9"), by),
            create_unless(&identified("9"), "Patient?identifier=9,9"),
        ],
        "Created Patient/#0 1-pac, Found Patient/#0 1-pac",
    );
    check(
        vec![create_unless(&identified("9"), by), create_unless("", by)],
        "1: Patient/#1 is written by entry 0 too: a transaction may name a resource once",
    );
    check(vec![delete_where(by), delete_where(by)], "NothingToDelete, NothingToDelete");
}

#[test]
fn a_link_to_a_conditional_create_that_is_another_ones_twin_gets_the_one_resource() {
    let by = "Patient?identifier=9";
    let command = transaction(
        5,
        vec![
            create_unless(&identified("9"), by),
            create_unless(&identified("9"), by),
            create_linked("Observation", r#""subject":"<1>""#),
        ],
    );
    let Judgement::Change { change_set, .. } = Decider::new("pac").judge(&command) else {
        panic!("it creates")
    };
    let content = change_set.versions[1].content.clone().expect("live");
    let subject = format!(r#""subject":"Patient/{}"}}"#, command.derived_id(0));
    assert!(content.ends_with(subject.as_bytes()));
}

#[test]
fn a_forgotten_transaction_is_known_again_by_what_it_created() {
    let mut pac = Decider::new("pac");
    pac.put("Patient/1", &identified("1"));
    pac.put("Patient/2", "");
    let command = transaction(
        99,
        vec![
            delete("Patient/2", tags(&["1-pac"])),
            create("Patient", ""),
            update("Patient/3", "", Precondition::Absent),
            create_unless("", "Patient?identifier=1"),
            update_where("Patient?identifier=1", &identified("1")),
        ],
    );
    let first = told(&pac.judge(&command));
    pac.memory.forget_requests();

    let again = pac.judge(&command);

    assert!(matches!(again, Judgement::Answer(_)));
    let first = first.replace("Found Patient/1 1-pac", "Found Patient/1 2-pac");
    assert_eq!(told(&again), first.replace("Created Patient/3", "Updated Patient/3"));
}

#[test]
fn unsound_links_are_told_from_sound_ones() {
    let with = |at, target| {
        let mut operation = create("Patient", r#""a":"0123""#);
        if let Operation::Create { draft, .. } = &mut operation {
            draft.links = vec![Link { at, target }];
        }
        transaction(1, vec![operation]).is_sound()
    };
    assert!(with(5..9, LinkTarget::Entry(0)));
    assert!(!with(5..9, LinkTarget::Entry(1)));
    assert!(!with(5..99, LinkTarget::Entry(0)));
    assert!(!with(5..5, LinkTarget::Entry(0)));
}

/// Not a benchmark: only that nothing is quadratic. Measured figures are in `docs/performance.md`.
#[test]
fn twenty_five_thousand_entries_are_judged_at_once() {
    let patients = 5_000;
    let mut entries: Vec<Operation> =
        (0..patients).map(|number| create("Patient", &identified(&number.to_string()))).collect();
    for number in 0..20_000 {
        let patient = number % patients;
        let members =
            format!(r#""subject":"<Patient?identifier={patient}>","focus":"<{patient}>""#);
        entries.push(create_linked("Observation", &members));
    }
    let command = transaction(1, entries);
    let memory = Memory::default();

    let judged = Batch::new(&memory, &Cursor::start(origin("pac")))
        .judge(&command, Timestamp(0))
        .expect("readable");

    assert!(effects(&judged).iter().all(|effect| *effect == Effect::Created));
    let Judgement::Change { decision, .. } = judged else { panic!("it creates") };
    assert_eq!(decision.matches.len(), patients);
}
