//! This module tests single interactions (FHIR R4, http, 3.1.0.4 to 3.1.0.8).

use super::*;

#[test]
fn a_retry_is_given_the_recorded_answer_and_writes_nothing() {
    let mut pac = Decider::new("pac");
    let command = one(1, create("Patient", r#""active":true"#));

    let first = pac.judge(&command);
    let again = pac.judge(&command);

    let Judgement::Change { change_set, .. } = first else { panic!("{first:?}") };
    assert_eq!(again, Judgement::Answer(change_set.outcome()));
    assert_eq!(pac.memory.version_count(), 1);
}

#[test]
fn a_request_id_used_for_something_else_is_refused() {
    let mut pac = Decider::new("pac");
    let command = one(1, create("Patient", r#""active":true"#));
    pac.judge(&command);

    let other = Command { digest: RequestDigest([9; 32]), ..command };

    let refused = Rejection { entry: None, reason: RejectionReason::RequestReused };
    assert_eq!(pac.judge(&other), Judgement::Refused(refused));
}

#[test]
fn a_create_whose_derived_id_exists_is_a_retry_even_when_its_request_is_forgotten() {
    let mut pac = Decider::new("pac");
    let command = one(1, create("Patient", r#""active":true"#));
    let first = pac.judge(&command);
    pac.memory.forget_requests();

    let again = pac.judge(&command);

    assert_eq!(told(&again), told(&first));
    assert!(matches!(again, Judgement::Answer(_)));
}

#[test]
fn an_update_creates_updates_and_brings_back_what_was_deleted() {
    let mut pac = Decider::new("pac");
    let plain = |pac: &mut Decider| pac.one(update("Patient/1", "", Precondition::None));

    assert_eq!(told(&plain(&mut pac)), "Created Patient/1 1-pac");
    assert_eq!(told(&plain(&mut pac)), "Updated Patient/1 2-pac");
    let gone = pac.one(delete("Patient/1", Precondition::None));
    assert_eq!(told(&gone), "Deleted Patient/1 3-pac");
    let gone = pac.one(delete("Patient/1", Precondition::None));
    assert_eq!(told(&gone), "NothingToDelete Patient/1 3-pac");
    let gone = pac.one(delete("Patient/2", Precondition::None));
    assert_eq!(told(&gone), "NothingToDelete Patient/2");
    assert_eq!(told(&plain(&mut pac)), "Created Patient/1 4-pac");
    assert_eq!(pac.heads("Patient/1"), ["4-pac"]);
}

#[test]
fn a_version_holds_what_is_read_with_id_and_meta() {
    let mut pac = Decider::new("pac");
    let change = pac.put("Patient/1", r#""active":true"#);
    let expected = format!(
        r#"{{"resourceType":"Patient","id":"1","meta":{{"versionId":"1-{}","lastUpdated":"{}"}},"active":true}}"#,
        origin("pac"),
        change.at
    );
    assert_eq!(
        pac.memory.current(&key("Patient/1")).map(|bytes| &bytes[..]),
        Some(expected.as_bytes())
    );
}

/// An operation on `Patient/1` with heads `1-pac` (current) and `1-eur`: what becomes of it, and the
/// heads after it.
fn check_conflict(operation: Operation, expected: &str, after: &[&str]) {
    let (mut pac, _) = conflict("Patient/1");
    let judgement = pac.one(operation.clone());
    assert_eq!(told(&judgement), expected, "{operation:?}");
    assert_eq!(pac.heads("Patient/1"), after, "{operation:?}");
}

#[test]
fn an_update_supersedes_exactly_what_its_client_has_seen() {
    let check = |precondition, expected, after: &[&str]| {
        check_conflict(update("Patient/1", "", precondition), expected, after);
    };
    let stale = "Precondition 1-pac 1-eur";
    let both = ["1-pac", "1-eur"];

    check(Precondition::None, "Updated Patient/1 2-pac", &["2-pac", "1-eur"]);
    check(Precondition::Exists, "Updated Patient/1 2-pac", &["2-pac", "1-eur"]);
    check(Precondition::Absent, stale, &both);
    check(tags(&["1-pac"]), "Updated Patient/1 2-pac", &["2-pac", "1-eur"]);
    check(tags(&["1-eur"]), "Updated Patient/1 2-pac", &["2-pac", "1-pac"]);
    check(tags(&["1-eur", "1-pac"]), "Updated Patient/1 2-pac", &["2-pac"]);
    check(tags(&["1-eur", "2-pac"]), stale, &both);
    check(tags(&["2-pac"]), stale, &both);
    check(tags(&["gibberish"]), stale, &both);
    check(tags(&[]), stale, &both);
    check(tags(&["1-pac", "2-eur"]), "Lacking 2-eur", &both);
    check(tags(&["1-afr"]), "Lacking 1-afr", &both);
}

#[test]
fn a_delete_follows_the_same_rules_and_asks_which_of_several_live_heads() {
    let check = |precondition, expected, after: &[&str]| {
        check_conflict(delete("Patient/1", precondition), expected, after);
    };
    let both = ["1-pac", "1-eur"];

    check(Precondition::None, "ConflictedDelete 1-pac 1-eur", &both);
    check(Precondition::Exists, "ConflictedDelete 1-pac 1-eur", &both);
    check(Precondition::Absent, "Precondition 1-pac 1-eur", &both);
    check(tags(&["1-pac"]), "Deleted Patient/1 2-pac", &["1-eur", "2-pac"]);
    check(tags(&["1-pac", "1-eur"]), "Deleted Patient/1 2-pac", &["2-pac"]);
    check(tags(&["3-pac"]), "Precondition 1-pac 1-eur", &both);
    check(tags(&["3-eur"]), "Lacking 3-eur", &both);
}

#[test]
fn a_delete_of_one_of_two_leaves_a_live_head_that_a_plain_delete_takes_alone() {
    let (mut pac, _) = conflict("Patient/1");
    pac.one(delete("Patient/1", tags(&["1-pac"])));

    let noop = pac.one(delete("Patient/1", tags(&["2-pac"])));
    let plain = pac.one(delete("Patient/1", Precondition::None));

    assert_eq!(told(&noop), "NothingToDelete Patient/1 1-eur");
    assert_eq!(told(&plain), "Deleted Patient/1 3-pac");
    assert_eq!(pac.heads("Patient/1"), ["3-pac", "2-pac"]);
    let back = pac.one(update("Patient/1", "", Precondition::Absent));
    assert_eq!(told(&back), "Created Patient/1 4-pac");
    assert_eq!(pac.heads("Patient/1"), ["4-pac"]);
}

#[test]
fn two_clients_that_resolve_one_head_each_make_two_versions() {
    let (mut pac, _) = conflict("Patient/1");

    let one = pac.one(delete("Patient/1", tags(&["1-pac"])));
    let two = pac.one(update("Patient/1", "", tags(&["1-eur"])));

    assert_eq!(told(&one), "Deleted Patient/1 2-pac");
    assert_eq!(told(&two), "Updated Patient/1 3-pac");
    assert_eq!(pac.heads("Patient/1"), ["3-pac", "2-pac"]);
}

#[test]
fn a_head_known_by_name_is_kept_unless_it_is_named() {
    let (mut pac, eur) = conflict("Patient/1");
    let Judgement::Change { change_set, .. } = pac.one(update("Patient/1", "", tags(&["1-pac"])))
    else {
        panic!("an update changes something")
    };
    let afr = |operation| {
        let mut afr = Decider::new("afr");
        afr.memory.apply(&change_set);
        let told = told(&afr.one(operation));
        let Decider { memory: other, .. } = eur.clone();
        let (key, heads) = other.resources().next().expect("1-eur");
        let mut all = afr.memory.heads(key).expect("readable");
        heads.iter().for_each(|head| {
            all.insert(head.clone());
        });
        (told, super::heads(&all))
    };
    let check = |operation, told: &str, after: &[&str]| {
        assert_eq!(
            afr(operation),
            (told.to_owned(), after.iter().map(|&s| s.to_owned()).collect())
        );
    };

    let put = |precondition| update("Patient/1", "", precondition);
    check(put(Precondition::None), "Updated Patient/1 3-afr", &["3-afr", "1-eur"]);
    check(put(tags(&["2-pac", "1-eur"])), "Updated Patient/1 3-afr", &["3-afr"]);
    check(delete("Patient/1", Precondition::None), "ConflictedDelete 2-pac", &["2-pac", "1-eur"]);
    check(delete("Patient/1", tags(&["2-pac"])), "Deleted Patient/1 3-afr", &["1-eur", "3-afr"]);
}

#[test]
fn a_precondition_on_what_does_not_exist_fails() {
    let mut pac = Decider::new("pac");
    let put = |precondition| update("Patient/1", "", precondition);

    assert_eq!(told(&pac.one(put(Precondition::Exists))), "Precondition ");
    assert_eq!(told(&pac.one(put(tags(&["1-pac"])))), "Precondition ");
    assert_eq!(told(&pac.one(put(tags(&["1-eur"])))), "Lacking 1-eur");
    assert_eq!(told(&pac.one(delete("Patient/1", Precondition::Exists))), "Precondition ");
    let absent = pac.one(delete("Patient/1", Precondition::Absent));
    assert_eq!(told(&absent), "NothingToDelete Patient/1");
    assert_eq!(told(&pac.one(put(Precondition::Absent))), "Created Patient/1 1-pac");
    assert_eq!(told(&pac.one(put(Precondition::Absent))), "Precondition 1-pac");
}

#[test]
fn conditional_interactions_go_by_how_many_match() {
    let with = |matching: usize| {
        let mut pac = Decider::new("pac");
        for id in 0..matching {
            pac.put(&format!("Patient/{id}"), &identified("7"));
        }
        pac
    };
    let check = |operation: Operation, none: &str, single: &str| {
        let mut empty = with(0);
        let told_none = told(&empty.one(operation.clone()));
        let derived = one(0, operation.clone()).derived_id(0);
        assert!(told_none.starts_with(none), "{told_none} {derived}");
        assert_eq!(told(&with(1).one(operation.clone())), single);
        let several = "Patient?identifier=7 matches more than one resource";
        assert_eq!(told(&with(2).one(operation)), several);
    };

    let by = "Patient?identifier=7";
    check(create_unless(&identified("7"), by), "Created Patient/", "Found Patient/0 1-pac");
    check(update_where(by, &identified("7")), "Created Patient/", "Updated Patient/0 2-pac");
    check(delete_where(by), "NothingToDelete", "Deleted Patient/0 2-pac");
}

#[test]
fn a_resource_made_by_criteria_remembers_them() {
    let mut pac = Decider::new("pac");
    let by = "Patient?identifier=b,a";
    let remembered = |judgement: Judgement| match judgement {
        Judgement::Change { change_set, .. } => change_set.versions[0].criteria.clone(),
        other => panic!("{other:?}"),
    };

    assert_eq!(remembered(pac.one(create_unless("", by))).as_deref(), Some("identifier=a,b"));
    assert_eq!(
        remembered(pac.one(update_where(by, &identified("a")))).as_deref(),
        Some("identifier=a,b")
    );
    assert_eq!(remembered(pac.one(update_where(by, &identified("a")))), None);
    assert_eq!(remembered(pac.one(create("Patient", ""))), None);
}

#[test]
fn a_conditional_update_minds_the_id_in_its_body() {
    let send = |pac: &mut Decider, id: &str| {
        let mut operation = update_where("Patient?identifier=7", &identified("7"));
        if let Operation::UpdateWhere { draft, .. } = &mut operation {
            draft.resource = Resource::from_parts(
                draft.resource.kind(),
                Some(id.parse().expect("an id")),
                draft.resource.content().clone(),
                0,
            );
        }
        told(&pac.one(operation))
    };
    let mut pac = Decider::new("pac");
    pac.put("Patient/other", &identified("8"));

    assert_eq!(send(&mut pac, "other"), "Precondition 1-pac");
    assert_eq!(send(&mut pac, "new"), "Created Patient/new 1-pac");
    assert_eq!(send(&mut pac, "new"), "Updated Patient/new 2-pac");
    assert_eq!(
        send(&mut pac, "other"),
        "the body's id is other, but the criteria match Patient/new"
    );
}

#[test]
fn later_commands_of_a_batch_see_what_earlier_ones_did_and_nothing_of_refused_ones() {
    let memory = Memory::default();
    let mut batch = Batch::new(&memory, &Cursor::start(origin("pac")));
    let mut judge = |operation: Operation, number| {
        told(&batch.judge(&one(number, operation), Timestamp(0)).expect("readable"))
    };
    let by = "Patient?identifier=7";
    let put = |precondition| update("Patient/1", &identified("7"), precondition);

    assert_eq!(judge(put(tags(&["1-pac"])), 1), "Precondition ");
    assert_eq!(judge(put(Precondition::Absent), 2), "Created Patient/1 1-pac");
    assert_eq!(judge(put(tags(&["1-pac"])), 3), "Updated Patient/1 2-pac");
    assert_eq!(judge(put(tags(&["1-pac"])), 4), "Precondition 2-pac");
    assert_eq!(judge(put(tags(&["1-pac"])), 3), "Updated Patient/1 2-pac");
    assert_eq!(judge(create_unless("", by), 5), "Found Patient/1 2-pac");
    assert_eq!(judge(create_unless("", "Patient?_id=1"), 6), "Found Patient/1 2-pac");
    assert_eq!(judge(delete_where(by), 7), "Deleted Patient/1 3-pac");
    assert_eq!(judge(delete_where(by), 8), "NothingToDelete");
    assert_eq!(judge(delete_where("Patient?_id=1"), 9), "NothingToDelete");
    assert_eq!(judge(put(Precondition::None), 10), "Created Patient/1 4-pac");
    assert_eq!(judge(delete_where(by), 11), "Deleted Patient/1 5-pac");
}
