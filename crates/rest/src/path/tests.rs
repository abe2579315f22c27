//! This module tests what methods, paths and queries are understood as.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_path_and_query_is_understood_or_refused(
        method in "GET|PUT|POST|DELETE|PATCH|X",
        path in "(Patient|metadata|_history|%|\\$|\\$conflicts|[a-zA-Z%./_-]{0,9}|/){0,7}",
        query in prop::option::of("([_a-z%+0-9]{0,8}[=&]?){0,5}"),
        strict: bool,
    ) {
        let method = method.parse().unwrap();
        let _ = interaction(&method, &path, &Query::new(query.as_deref()), strict);
    }
}

fn parse(request: &str) -> Result<Interaction, Misdirected> {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let (method, strict) = match method.strip_suffix('!') {
        Some(method) => (method, true),
        None => (method, false),
    };
    interaction(&method.parse().unwrap(), path, &Query::new(query), strict)
}

fn show(result: &Result<Interaction, Misdirected>) -> String {
    match result {
        Ok(interaction) => format!("{interaction:?}"),
        Err(Misdirected::WrongVerb { allow, .. }) => format!("allow {allow}"),
        Err(misdirected) => misdirected.to_string(),
    }
}

#[test]
fn every_interaction_is_recognized_by_method_and_path() {
    let kind = |text: &str| text.parse::<ResourceType>().unwrap();
    let key = ResourceKey { kind: kind("Patient"), id: "a-1.B".parse().unwrap() };
    let version: VersionId = "3-pac.7h2k4m9qzx".parse().unwrap();
    let criteria = Criteria::parse(kind("Patient"), "identifier=a|1").unwrap();
    let past = |since: Option<&str>, page: Option<&str>, count| Past {
        count,
        since: since.map(str::to_owned),
        at: None,
        page: page.map(str::to_owned),
    };
    let check = |request: &str, expect: Interaction| {
        assert_eq!(parse(request), Ok(expect), "{request}");
    };
    check("GET Patient/a-1.B", Interaction::Read(Reading::Current(key.clone())));
    check("HEAD Patient/a-1.B", Interaction::Read(Reading::Current(key.clone())));
    check("GET Patient/a-1.B/", Interaction::Read(Reading::Current(key.clone())));
    check("GET Patient/a%2D1.B?_format=json", Interaction::Read(Reading::Current(key.clone())));
    check("GET Patient/a-1.B?_summary=true&x=1", Interaction::Read(Reading::Current(key.clone())));
    check(
        "GET Patient/a-1.B/_history/3-pac.7h2k4m9qzx",
        Interaction::Read(Reading::Version(key.clone(), version)),
    );
    check(
        "GET Patient/a-1.B/_history",
        Interaction::Read(Reading::History(key.clone(), Past::newest())),
    );
    check(
        "GET Patient/a-1.B/_history?_count=5000&page=3-pac.7h2k4m9qzx",
        Interaction::Read(Reading::History(
            key.clone(),
            past(None, Some("3-pac.7h2k4m9qzx"), Limits::PAGE_ENTRIES_MAX),
        )),
    );
    check(
        "GET _history?_since=2026&_count=2",
        Interaction::Read(Reading::Arrivals(None, past(Some("2026"), None, 2))),
    );
    check(
        "HEAD Patient/_history",
        Interaction::Read(Reading::Arrivals(Some(kind("Patient")), Past::newest())),
    );
    check("PATCH Patient/a-1.B", Interaction::Patch(PatchTarget::Resource(key.clone())));
    check("PATCH Patient?identifier=a|1", Interaction::Patch(PatchTarget::Match(criteria.clone())));
    check("PUT Patient/a-1.B", Interaction::Write(Writing::Update(key.clone())));
    check("DELETE Patient/a-1.B", Interaction::Write(Writing::Delete(key)));
    check("POST Patient", Interaction::Write(Writing::Create(kind("Patient"))));
    check(
        "PUT Patient?identifier=a%7C1&_format=json",
        Interaction::Write(Writing::UpdateWhere(criteria.clone())),
    );
    check(
        "POST Patient?identifier=a|1&_pretty=true",
        Interaction::Write(Writing::CreateUnless(criteria.clone())),
    );
    check("DELETE Patient?identifier=a|1", Interaction::Write(Writing::DeleteWhere(criteria)));
    check("POST ", Interaction::Bundle);
    check("POST /", Interaction::Bundle);
}

#[test]
fn searches_and_operations_are_recognized_by_method_and_path() {
    let kind = |text: &str| text.parse::<ResourceType>().unwrap();
    let patients = kind("Patient");
    let key = ResourceKey { kind: patients, id: "a-1.B".parse().unwrap() };
    let check = |request: &str, expect: Interaction| {
        assert_eq!(parse(request), Ok(expect), "{request}");
    };
    let conflicts = |scope: ConflictScope| {
        let page = Page { count: Limits::PAGE_ENTRIES, after: None };
        Interaction::Read(Reading::Conflicts(scope, page))
    };
    check("GET $conflicts", conflicts(ConflictScope::All));
    check("GET %24conflicts/", conflicts(ConflictScope::All));
    check("HEAD Patient/$conflicts", conflicts(ConflictScope::Type(patients)));
    let scope = ConflictScope::Resource(key);
    check("GET Patient/a-1.B/$conflicts?_format=json", conflicts(scope));
    let search = |scope, name: &str, strict| Searching {
        scope,
        parameters: vec![(name.to_owned(), "a b".to_owned())],
        page: Some("p~1".to_owned()),
        strict,
    };
    let within = |kind| {
        SearchScope::Compartment(ResourceKey { kind: patients, id: "1".parse().unwrap() }, kind)
    };
    let read = |searching| Interaction::Read(Reading::Search(searching));
    let of_type = search(SearchScope::Type(patients), "name:exact", true);
    check("GET! Patient?name%3Aexact=a+b&_format=json&page=p~1", read(of_type));
    let form = search(SearchScope::Type(patients), "name", false);
    check("POST Patient/_search?name=a%20b&page=p~1", Interaction::SearchForm(form));
    check("GET ?x=a+b&page=p~1", read(search(SearchScope::All, "x", false)));
    let observations = within(Some(kind("Observation")));
    check("GET Patient/1/Observation?x=a+b&page=p~1", read(search(observations, "x", false)));
    check("HEAD Patient/1/*?x=a+b&page=p~1", read(search(within(None), "x", false)));
    let patient = ResourceKey { kind: patients, id: "1".parse().unwrap() };
    let all = search(SearchScope::Everything(patient), "start", false);
    check("GET Patient/1/$everything?start=a+b&page=p~1", read(all));
    let newest = search(SearchScope::Newest, "max", false);
    check("GET Observation/$lastn?max=a+b&page=p~1", read(newest));
    check("GET metadata", Interaction::Read(Reading::Metadata(Mode::Full)));
    check(
        "GET! metadata?mode=terminology",
        Interaction::Read(Reading::Metadata(Mode::Terminology)),
    );
    let patient = ResourceKey { kind: patients, id: "1".parse().unwrap() };
    check("GET Patient/1/$meta", Interaction::Read(Reading::Meta(patient.clone())));
    let change = |adds| Interaction::ChangeMeta { key: patient.clone(), adds };
    check("POST Patient/1/$meta-add", change(true));
    check("POST Patient/1/%24meta-delete", change(false));
    let validate = |key, profile: Option<&str>| {
        let profile = profile.map(str::to_owned);
        Interaction::Validate(Validating { kind: patients, key, profile })
    };
    check("POST Patient/$validate?profile=urn:x", validate(None, Some("urn:x")));
    check("POST Patient/1/$validate", validate(Some(patient.clone()), None));
}

#[test]
fn a_known_path_with_the_wrong_verb_says_which_are_allowed() {
    let check = |request: &str, allow: &str| {
        assert_eq!(show(&parse(request)), format!("allow {allow}"), "{request}");
    };
    check("PUT ", "GET, HEAD, POST");
    check("DELETE metadata", "GET, HEAD");
    check("GET Patient/1/$meta-add", "POST");
    check("GET Patient/$validate", "POST");
    check("TRACE Patient", "GET, HEAD, POST, PUT, PATCH, DELETE");
    check("PUT Patient/1/Observation", "GET, HEAD");
    check("GET Patient/_search", "POST");
    check("POST Patient/1", "GET, HEAD, PUT, PATCH, DELETE");
    check("DELETE Patient/_history", "GET, HEAD");
    check("DELETE Patient/1/_history", "GET, HEAD");
    check("PUT Patient/1/_history/1-pac.7h2k4m9qzx", "GET, HEAD");
    check("POST $conflicts", "GET, HEAD");
    check("DELETE Patient/1/$conflicts", "GET, HEAD");
}

#[test]
fn what_is_not_understood_is_refused_with_its_reason() {
    let check = |request: &str, expect: &str| {
        assert_eq!(show(&parse(request)), expect, "{request}");
    };
    let long = "x".repeat(65);
    check("GET Patiens/1", r#""Patiens" is not a resource type of FHIR R4"#);
    check("GET patient/1", r#""patient" is not a resource type of FHIR R4"#);
    check("GET Patient/1/foo", r#"there is nothing at "Patient/1/foo""#);
    check("GET Patient/1/_history/1/2", r#"there is nothing at "Patient/1/_history/1/2""#);
    check("GET Patient/1/_history/1", r#"no version can have this id: "1""#);
    check("GET Patient/1/_history?_sort=x", r#"parameter "_sort" cannot be used here"#);
    check("GET Patient/1/_history?_count=x", r#""x" cannot be the value of parameter "_count""#);
    check("GET! Patient/1?x=1", r#"parameter "x" cannot be used here"#);
    check("GET Patient/1/Observation/1", r#"there is nothing at "Patient/1/Observation/1""#);
    check("GET Group/1/$everything", "this server does not support this operation yet");
    check("GET Patient/$everything", "this server does not support this operation yet");
    check("GET Patient/$lastn", "this server does not support this operation yet");
    check("GET metadata/$conflicts", "this server does not support this operation yet");
    check("GET $conflicts/$conflicts", "this server does not support this operation yet");
    check("GET $conflicts?kind=update", r#"parameter "kind" cannot be used here"#);
    check("GET $conflicts?page=x", r#""x" cannot be the value of parameter "page""#);
    check("GET Patiens/$conflicts", r#""Patiens" is not a resource type of FHIR R4"#);
    assert!(matches!(parse(&format!("GET Patient/{long}")), Err(Misdirected::NoSuchId(_))));
    assert!(matches!(parse("PUT Patient/a_b"), Err(Misdirected::BadId(_))));
    assert!(matches!(parse("DELETE Patient"), Err(Misdirected::Criteria(_))));
    assert!(matches!(parse("PUT Patient?name=%x"), Err(Misdirected::Criteria(_))));
}
