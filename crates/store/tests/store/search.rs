//! Searches over made-up resources: what the indexes find is what a look at each resource finds.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{
    Action, Batch, ChangeSet, Command, Criteria, Cursor, Draft, Effect, EntryOutcome, FindError,
    Heads, Judgement, Operation, Origin, Place as Taken, Precondition, RequestDigest, RequestId,
    Resource, ResourceId, ResourceKey, ResourceType, Timestamp, Version, VersionId, View, Zone,
};
use chartmesh_search::{
    Candidate, Condition, Entries, IdKey, InvalidQuery, Lookup, PageKey, Query, Setting, SortKey,
    TokenSought,
};
use chartmesh_store::{Apply, Part, Run, SEARCH_LOOKS, Search, Shelf, Snapshot, Store};
use chartmesh_wire::Canonical;
use proptest::prelude::*;

use crate::world::{cases, open, origin, scratch};

const PATIENTS: usize = 6;
const DATES: [&str; 8] = [
    "2010",
    "2010-05",
    "2010-05-17",
    "2010-05-17T10:00:00Z",
    "2011-12-31T23:59:59.999+02:00",
    "2012-02",
    "2009-06-01T00:00:00-05:00",
    "2015",
];
const CODES: [(&str, &str); 4] = [
    ("urn:a", "x"),
    ("urn:a", "y"),
    ("urn:b", "x"),
    ("urn:b", "a-code-that-is-longer-than-what-stands-in-a-key-of-it-by-some-letters"),
];
const NAMES: [&str; 5] = ["Ève", "Eva", "Adam", "adam-smith", "Zoë Maria"];
const AMOUNTS: [(&str, &str); 5] =
    [("1", "g"), ("1000", "mg"), ("5.40", "mg"), ("0.0054", "g"), ("-3", "Cel")];

/// A resource that is written, or deleted.
#[derive(Clone, Debug)]
struct Made {
    key: ResourceKey,
    members: Option<String>,
}

fn kind(name: &str) -> ResourceType {
    name.parse().unwrap()
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(all.to_vec())
}

fn patients() -> impl Strategy<Value = Made> {
    let gender = prop::option::of(one_of(&["male", "female"]));
    let name = prop::option::of(one_of(&NAMES));
    let born = prop::option::of(one_of(&DATES[..3]));
    (0..PATIENTS, prop::bool::weighted(0.1), gender, name, born).prop_map(
        |(number, deleted, gender, name, born)| {
            let mut members = String::new();
            gender.into_iter().for_each(|it| members += &format!(r#","gender":"{it}""#));
            name.into_iter()
                .for_each(|it| members += &format!(r#","name":[{{"given":["{it}","{number}"]}}]"#));
            born.into_iter().for_each(|it| members += &format!(r#","birthDate":"{it}""#));
            let key =
                ResourceKey { kind: kind("Patient"), id: format!("p{number}").parse().unwrap() };
            Made { key, members: (!deleted).then_some(members) }
        },
    )
}

fn observations() -> impl Strategy<Value = Made> {
    let codes = prop::collection::vec(one_of(&CODES), 0..3);
    let subject = prop::option::of(0..PATIENTS);
    let date = prop::option::of((one_of(&DATES), prop::option::of(one_of(&DATES))));
    let amount = prop::option::of(one_of(&AMOUNTS));
    let parts = (codes, subject, date, amount);
    (0..25_usize, prop::bool::weighted(0.1), parts).prop_map(|(number, deleted, parts)| {
        let (codes, subject, date, amount) = parts;
        let codings: Vec<_> = codes
            .iter()
            .map(|(system, code)| format!(r#"{{"system":"{system}","code":"{code}"}}"#))
            .collect();
        let mut members = format!(r#","status":"final","code":{{"coding":[{}]}}"#, codings.join(","));
        subject.into_iter().for_each(|it| {
            members += &format!(r#","subject":{{"reference":"Patient/p{it}"}}"#);
        });
        match date {
            Some((date, None)) => members += &format!(r#","effectiveDateTime":"{date}""#),
            Some((start, Some(end))) => {
                members += &format!(r#","effectivePeriod":{{"start":"{start}","end":"{end}"}}"#);
            }
            None => {}
        }
        amount.into_iter().for_each(|(value, code)| {
            members += &format!(
                r#","valueQuantity":{{"value":{value},"system":"http://unitsofmeasure.org","code":"{code}"}}"#
            );
        });
        // Ids of both forms that keys have.
        let id = if number.is_multiple_of(2) {
            format!("{number:08x}-0000-4000-8000-000000000000")
        } else {
            format!("o{number}")
        };
        let key = ResourceKey { kind: kind("Observation"), id: id.parse().unwrap() };
        Made { key, members: (!deleted).then_some(members) }
    })
}

/// One parameter of a search for observations.
fn parameters() -> impl Strategy<Value = (String, String)> {
    let pair = |name: &'static str| move |value: String| (name.to_owned(), value);
    let comparison = || one_of(&["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]);
    let code = || {
        (one_of(&CODES), 0..4_u8).prop_map(|((system, code), form)| match form {
            0 => code.to_owned(),
            1 => format!("{system}|{code}"),
            2 => format!("|{code}"),
            _ => format!("{system}|"),
        })
    };
    let date = || (comparison(), one_of(&DATES)).prop_map(|(how, date)| format!("{how}{date}"));
    let amount = || {
        (comparison(), one_of(&AMOUNTS), any::<bool>()).prop_map(|(how, (value, code), unit)| {
            let unit =
                if unit { format!("|http://unitsofmeasure.org|{code}") } else { String::new() };
            format!("{how}{value}{unit}")
        })
    };
    let patient = || (0..PATIENTS).prop_map(|number| format!("Patient/p{number}"));
    let gender = || one_of(&["male", "female"]).prop_map(str::to_owned);
    prop_oneof![
        code().prop_map(pair("code")),
        (code(), code()).prop_map(|(one, other)| ("code".to_owned(), format!("{one},{other}"))),
        code().prop_map(pair("code:not")),
        date().prop_map(pair("date")),
        amount().prop_map(pair("value-quantity")),
        (code(), amount()).prop_map(|(code, amount)| (
            "code-value-quantity".to_owned(),
            format!("{code}${amount}")
        )),
        patient().prop_map(pair("patient")),
        patient().prop_map(pair("subject")),
        (0..PATIENTS).prop_map(|number| ("subject".to_owned(), format!("p{number}"))),
        (0..PATIENTS).prop_map(|number| ("subject:Patient".to_owned(), format!("p{number}"))),
        any::<bool>().prop_map(|it| ("date:missing".to_owned(), it.to_string())),
        gender().prop_map(pair("patient.gender")),
        one_of(&["ev", "EVE", "adam", "zoe m", "1"])
            .prop_map(|name| ("subject:Patient.name".to_owned(), name.to_owned())),
        (code(), gender())
            .prop_map(|(code, _)| ("patient._has:Observation:patient:code".to_owned(), code)),
        Just(("_id".to_owned(), "o1,o3,00000002-0000-4000-8000-000000000000".to_owned())),
    ]
}

fn sorts() -> impl Strategy<Value = String> {
    one_of(&[
        "",
        "date",
        "-date",
        "code",
        "-value-quantity",
        "subject,-date",
        "_id",
        "-_lastUpdated",
    ])
    .prop_map(str::to_owned)
}

/// Writes all, one change set each.
fn write(store: &Store, made: &[Made]) -> BTreeMap<ResourceKey, Bytes> {
    write_as(store, origin(0), made)
}

/// Writes all as an origin that has not written yet.
fn write_as(store: &Store, origin: Origin, made: &[Made]) -> BTreeMap<ResourceKey, Bytes> {
    let mut at = Cursor::start(origin.clone());
    let (mut live, mut known) = (BTreeMap::new(), BTreeMap::<ResourceKey, Heads>::new());
    for (number, Made { key, members }) in made.iter().enumerate() {
        let heads = known.entry(key.clone()).or_insert_with(|| store.heads(key).unwrap());
        let superseded: Vec<_> = heads.iter().map(|head| head.version.clone()).collect();
        let (generation, ancestry) = heads.successor(superseded.iter());
        let version = VersionId { generation, origin: origin.clone() };
        let time = Timestamp(1_700_000_000_000 + 1_000 * number as i64);
        let content = members.as_ref().map(|members| {
            let text = format!(
                r#"{{"resourceType":"{}","id":"{}","meta":{{"versionId":"{version}","lastUpdated":"{time}"}}{members}}}"#,
                key.kind, key.id
            );
            Bytes::from(text)
        });
        match &content {
            Some(content) => live.insert(key.clone(), content.clone()),
            None => live.remove(key),
        };
        let made = Version { key: key.clone(), generation, ancestry, criteria: None, content };
        let mut request = [1; 16];
        request[..8].copy_from_slice(&(number as u64).to_be_bytes());
        request[8..].copy_from_slice(&origin.to_string().as_bytes()[..8]);
        let request = RequestId(request);
        heads.insert(made.head(&origin, request));
        let entry = EntryOutcome {
            effect: Effect::Updated,
            key: Some(key.clone()),
            version: Some(version),
        };
        let change = Canonical::encode(ChangeSet {
            seq: at.seq.next(),
            at: time,
            request,
            digest: RequestDigest([7; 32]),
            client: None,
            place: Taken { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
            entries: vec![entry],
            origin: origin.clone(),
            versions: vec![made],
        });
        let next = at.extend(change.bytes());
        let run = Run { extends: at, changes: vec![change] };
        store.apply(Apply { runs: vec![run], ..Apply::default() }).unwrap();
        at = next;
    }
    live
}

/// Every resource, looked at one by one.
struct Slowly<'s> {
    store: &'s Store,
    live: &'s BTreeMap<ResourceKey, Bytes>,
}

impl Slowly<'_> {
    fn row(&self, key: &ResourceKey) -> Option<Vec<u8>> {
        Entries::make(&self.store.registry(), key.kind, self.live.get(key)?)
    }

    fn matches(&self, kind: ResourceType, conditions: &[&Condition]) -> Vec<ResourceKey> {
        let of_kind = self.live.keys().filter(|key| key.kind == kind);
        let meant = of_kind.filter(|key| {
            let row = self.row(key).unwrap();
            let candidate = Candidate { key, entries: Entries::read(&row) };
            conditions.iter().all(|condition| condition.matches(candidate, self).unwrap())
        });
        meant.cloned().collect()
    }
}

impl Lookup for Slowly<'_> {
    type Error = Infallible;

    fn entries(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, Infallible> {
        Ok(self.row(key).map(Into::into))
    }

    fn content(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, Infallible> {
        Ok(self.live.get(key).map(|content| content[..].into()))
    }

    fn in_conflict(&self, key: &ResourceKey) -> Result<bool, Infallible> {
        Ok(self.store.heads(key).unwrap().in_conflict())
    }

    fn value_set(&self, _: &str) -> Result<Arc<[TokenSought]>, Infallible> {
        Ok([].into())
    }

    fn listed(&self, _: &ResourceId) -> Result<Arc<[ResourceKey]>, Infallible> {
        Ok([].into())
    }

    fn any(&self, kind: ResourceType, conditions: &[&Condition]) -> Result<bool, Infallible> {
        Ok(!self.matches(kind, conditions).is_empty())
    }
}

fn part_of<'q>(query: &'q Query, part: Part<'q>, limit: usize, count: bool) -> Search<'q> {
    let (conditions, sort) = (&query.conditions, &query.sort);
    let looks = SEARCH_LOOKS;
    Search { kind: query.kind, conditions, sort, includes: &[], part, limit, count, looks }
}

/// The ids that are found, page by page from the last to the first.
fn paged_backwards(store: &Store, query: &Query, size: usize) -> Vec<String> {
    let (mut found, mut before) = (Vec::new(), None::<PageKey>);
    loop {
        let page =
            store.search(part_of(query, Part::Before(before.as_ref()), size, false)).unwrap();
        let ids = page.matches.iter().map(|it| it.key.id.to_string());
        found.splice(0..0, ids);
        before = page.matches.first().map(|it| it.place.clone());
        if !page.more {
            return found;
        }
        assert_eq!(page.matches.len(), size, "a page that others come before is full");
    }
}

/// What of all this is live, as it will be read.
fn live_of(made: &[Made]) -> BTreeMap<ResourceKey, Bytes> {
    let mut live = BTreeMap::new();
    for Made { key, members } in made {
        match members {
            Some(members) => {
                let (kind, id) = (key.kind, &key.id);
                let text = format!(r#"{{"resourceType":"{kind}","id":"{id}"{members}}}"#);
                live.insert(key.clone(), Bytes::from(text));
            }
            None => {
                live.remove(key);
            }
        }
    }
    live
}

/// What is decided and not applied: how the later differs from the earlier.
fn shelf(
    snapshot: &Snapshot<'_>,
    earlier: &BTreeMap<ResourceKey, Bytes>,
    later: &BTreeMap<ResourceKey, Bytes>,
) -> Shelf {
    let mut shelf = Shelf::default();
    for key in earlier.keys().chain(later.keys()).filter(|key| earlier.get(key) != later.get(key)) {
        snapshot.shelve(&mut shelf, key, later.get(key).map(|content| &content[..]));
    }
    shelf
}

/// Parameters as criteria.
fn criteria(kind: ResourceType, parameters: &[(String, String)]) -> Criteria {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let pairs =
        parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    Criteria::parse(kind, &pairs.collect::<Vec<_>>().join("&")).unwrap()
}

/// The ids that are found, page by page, and the total that the first page says.
fn paged(store: &Store, query: &Query, size: usize) -> (Vec<String>, Option<u64>) {
    let (mut found, mut after, mut total) = (Vec::new(), None::<PageKey>, None);
    loop {
        let part = after.as_ref().map_or(Part::First, Part::After);
        let page = store.search(part_of(query, part, size, after.is_none())).unwrap();
        total = total.or(page.total);
        found.extend(page.matches.iter().map(|it| it.key.id.to_string()));
        after = page.matches.last().map(|it| it.place.to_string().parse().unwrap());
        if !page.more {
            return (found, total);
        }
        assert_eq!(page.matches.len(), size, "a page that others follow is full");
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn what_the_indexes_find_is_what_a_look_at_each_resource_finds(
        made in prop::collection::vec(prop_oneof![patients(), observations(), observations()], 1..60),
        searches in prop::collection::vec(
            (prop::collection::vec(parameters(), 1..4), sorts(), 1..9_usize),
            12,
        ),
    ) {
        let dir = scratch();
        let store = open(dir.path());
        let live = write(&store, &made);
        let slowly = Slowly { store: &store, live: &live };
        let registry = store.registry();
        let setting = Setting { registry: &registry, now: 1_700_000_000_000, base: None };
        for (mut parameters, sort, size) in searches {
            if !sort.is_empty() {
                parameters.push(("_sort".to_owned(), sort));
            }
            let pairs = parameters.iter().map(|(name, value)| (&**name, &**value));
            let query = Query::parse(setting, kind("Observation"), pairs).unwrap();
            prop_assert_eq!(&query.ignored, &[]);
            let conditions: Vec<_> = query.conditions.iter().collect();
            let mut expected: Vec<_> = slowly
                .matches(query.kind, &conditions)
                .into_iter()
                .map(|key| {
                    let row = slowly.row(&key).unwrap();
                    let place = SortKey::page_key(&query.sort, IdKey::new(&key.id), Entries::read(&row));
                    (place, key.id.to_string())
                })
                .collect();
            expected.sort_by(|(one, _), (other, _)| SortKey::compare(&query.sort, one, other));
            let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();

            let (found, total) = paged(&store, &query, size);

            prop_assert_eq!(total, Some(expected.len() as u64), "{:?}", &parameters);
            prop_assert_eq!(&found, &expected, "{:?}", &parameters);
            prop_assert_eq!(paged_backwards(&store, &query, size), expected, "{:?}", &parameters);
        }
        prop_assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    }
}

/// One of many observations: each parameter has few values, so that many have each, and some pairs of
/// values are rare or never come together.
fn one_of_many(number: u32) -> Made {
    // Keys of ids that are UUIDs stand among those of others, right after short ones too.
    let id = match number % 3 {
        0 => format!("{:08x}-0000-4000-8000-{number:012x}", number.wrapping_mul(0x9e37_79b9)),
        1 => format!("o{number}"),
        _ => format!("{}{}", char::from(b'a' + (number % 26) as u8), number / 26),
    };
    let (code, patient, status) = (number % 7, number % 5, number.is_multiple_of(40));
    let status = if status { "amended" } else { "final" };
    let category =
        if number.is_multiple_of(2) { r#","category":[{"coding":[{"code":"even"}]}]"# } else { "" };
    let members = format!(
        r#","status":"{status}","code":{{"coding":[{{"system":"urn:a","code":"c{code}"}}]}},
        "subject":{{"reference":"Patient/p{patient}"}}{category}"#
    );
    let key = ResourceKey { kind: kind("Observation"), id: id.parse().unwrap() };
    Made { key, members: Some(members) }
}

#[test]
fn what_several_conditions_lead_to_is_what_is_as_each_of_them_says() {
    let dir = scratch();
    let store = open(dir.path());
    let made: Vec<_> = (0..900).map(one_of_many).collect();
    let live = write(&store, &made);
    let slowly = Slowly { store: &store, live: &live };
    let registry = store.registry();
    let setting = Setting { registry: &registry, now: 1_700_000_000_000, base: None };
    for text in [
        "code=urn:a|c1",
        "code=urn:a|c1,urn:a|c2&subject=Patient/p1,Patient/p2",
        "code=urn:a|c1,urn:a|c2&subject=Patient/p1,Patient/p2&category=even",
        "code=c3&status=final",
        "code=c3&status=amended",
        "status=http://hl7.org/fhir/observation-status|final&subject=Patient/p4",
        "subject=Patient/p0&status=http://hl7.org/fhir/observation-status|final&code=urn:a|c5",
        "subject=Patient/p0,Patient/p1,Patient/p2&subject=Patient/p3",
        "category=even&category:missing=false&subject=Patient/p3&code:not=c1",
        "subject=Patient/nobody&code=urn:a|c1",
    ] {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let query = Query::parse(setting, kind("Observation"), pairs).unwrap();
        let conditions: Vec<_> = query.conditions.iter().collect();
        let mut expected = slowly.matches(query.kind, &conditions);
        expected.sort_by_key(|key| IdKey::new(&key.id));
        let expected: Vec<_> = expected.iter().map(|key| key.id.to_string()).collect();
        for size in [1, 7, 1_000] {
            let (found, total) = paged(&store, &query, size);
            assert_eq!(total, Some(expected.len() as u64), "{text}");
            assert_eq!(found, expected, "{text} by pages of {size}");
        }
    }
}

#[test]
fn a_page_goes_on_at_a_uuid_whose_bytes_begin_with_the_key_of_the_last_id() {
    let dir = scratch();
    let store = open(dir.path());
    let ids = ["a", "61010000-0000-4000-8000-000000000000", "b"];
    let made = ids.map(|id| {
        let key = ResourceKey { kind: kind("Observation"), id: id.parse().unwrap() };
        let members = r#","subject":{"reference":"Patient/p1"}"#.to_owned();
        Made { key, members: Some(members) }
    });
    write(&store, &made);
    let registry = store.registry();
    let setting = Setting { registry: &registry, now: 1_700_000_000_000, base: None };
    let pairs = [("subject", "Patient/p1")];
    let query = Query::parse(setting, kind("Observation"), pairs).unwrap();

    assert_eq!(paged(&store, &query, 1).0, ids);
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn criteria_find_what_is_decided_and_not_applied_instead_of_what_is_held(
        made in prop::collection::vec(prop_oneof![patients(), observations(), observations()], 1..60),
        cuts in [0..61_usize, 0..61],
        searches in prop::collection::vec(prop::collection::vec(parameters(), 1..4), 12),
    ) {
        let mut cuts = cuts.map(|cut| cut.min(made.len()));
        cuts.sort_unstable();
        let dir = scratch();
        let store = open(dir.path());
        write(&store, &made[..cuts[0]]);
        let [held, decided, live] =
            [cuts[0], cuts[1], made.len()].map(|count| live_of(&made[..count]));
        let snapshot = store.snapshot();
        let shelves = [shelf(&snapshot, &held, &decided), shelf(&snapshot, &decided, &live)];
        let slowly = Slowly { store: &store, live: &live };
        let registry = store.registry();
        let setting = Setting { registry: &registry, now: 1_700_000_000_000, base: None };
        for parameters in searches {
            let criteria = criteria(kind("Observation"), &parameters);
            let conditions = Query::criteria(setting, &criteria).unwrap();
            let conditions: Vec<_> = conditions.iter().collect();
            let expected = slowly.matches(criteria.kind(), &conditions);
            let expected: BTreeSet<_> = expected.into_iter().map(|key| key.id).collect();

            let found = snapshot.find(&criteria, &[&shelves[0], &shelves[1]], usize::MAX).unwrap();

            prop_assert_eq!(found.len(), expected.len(), "{:?}", &parameters);
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{:?}", &parameters);
        }
    }
}

#[test]
fn commands_of_one_batch_find_by_lists_and_chains_what_those_before_them_have_written() {
    let dir = scratch();
    let store = open(dir.path());
    write(&store, &[patient("p1", "Eve")]);
    let snapshot = store.snapshot();
    let mut batch = Batch::new(&snapshot, &store.cursor(&origin(0)));
    let mut number = 0;
    let mut judge = |operation: Operation| {
        number += 1;
        let command = Command {
            request: RequestId([number; 16]),
            digest: RequestDigest([number; 32]),
            client: None,
            place: Taken { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
            action: Action::One(operation),
        };
        match batch.judge(&command, Timestamp(1_800_000_000_000)).unwrap() {
            Judgement::Change { change_set, .. } => change_set.entries[0].effect,
            Judgement::Answer(outcome) => outcome.entries[0].effect,
            other => panic!("{other:?}"),
        }
    };
    let put = |text: &str| {
        let resource = Resource::parse(text.as_bytes()).unwrap();
        let key = ResourceKey { kind: resource.kind(), id: resource.id().unwrap().clone() };
        let draft = Draft { resource, links: Vec::new() };
        Operation::Update { key, draft, precondition: Precondition::None }
    };
    let unless = |query: &str| {
        let resource = Resource::parse(br#"{"resourceType":"Patient"}"#).unwrap();
        let draft = Draft { resource, links: Vec::new() };
        let unless = Some(Criteria::parse(kind("Patient"), query).unwrap());
        Operation::Create { draft, unless }
    };

    assert_eq!(
        judge(put(
            r#"{"resourceType":"List","id":"l1","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/p1"}}]}"#
        )),
        Effect::Created
    );
    assert_eq!(
        judge(put(r#"{"resourceType":"Practitioner","id":"d1","active":true}"#)),
        Effect::Created
    );
    assert_eq!(
        judge(put(
            r#"{"resourceType":"Patient","id":"p2","generalPractitioner":[{"reference":"Practitioner/d1"}]}"#
        )),
        Effect::Created
    );
    assert_eq!(judge(unless("_list=l1")), Effect::Found);
    assert_eq!(judge(unless("general-practitioner:Practitioner.active=true")), Effect::Found);
    assert_eq!(judge(unless("_has:List:item:status=current")), Effect::Found);
    assert_eq!(judge(unless("_list=l2")), Effect::Created);
}

#[test]
fn criteria_that_cannot_be_used_are_refused_with_a_reason() {
    let dir = scratch();
    let store = open(dir.path());
    let refused = |query: &str| {
        let criteria = Criteria::parse(kind("Patient"), query).unwrap();
        match store.snapshot().find(&criteria, &[], 2) {
            Err(FindError::Unusable(reason)) => reason,
            other => panic!("{query}: {other:?}"),
        }
    };

    assert!(refused("gendre=male").contains("did you mean gender"));
    assert!(refused("birthdate=soon").contains("soon"));
    assert!(refused("gender=male&_count=1").contains("_count"));
    assert!(refused("gender=male&_sort=name").contains("_sort"));
    assert!(refused("gender:in=urn:nowhere").contains("not stored here"));
    assert!(refused("gender=").contains("empty"));
}

/// The ids of patients found by a parameter; `None` if it is not known.
fn patients_by(store: &Store, name: &str, value: &str) -> Option<Vec<String>> {
    let registry = store.registry();
    let setting = Setting { registry: &registry, now: 0, base: None };
    let query = Query::parse(setting, kind("Patient"), [(name, value)]).unwrap();
    query.ignored.is_empty().then(|| paged(store, &query, 5).0)
}

fn patient(id: &str, given: &str) -> Made {
    let key = ResourceKey { kind: kind("Patient"), id: id.parse().unwrap() };
    Made { key, members: Some(format!(r#","name":[{{"use":"nickname","given":["{given}"]}}]"#)) }
}

fn nickname(live: bool) -> Made {
    let key = ResourceKey { kind: kind("SearchParameter"), id: "nickname".parse().unwrap() };
    let members = r#","url":"urn:nickname","status":"active","code":"nickname","type":"string","base":["Patient"],"expression":"Patient.name.where(use = 'nickname').given""#;
    Made { key, members: live.then(|| members.to_owned()) }
}

#[test]
fn a_parameter_that_is_added_finds_what_was_there_and_one_that_is_taken_away_is_not_known() {
    let dir = scratch();
    let store = open(dir.path());
    let told = store.unindexed();
    write(&store, &[patient("p1", "Eve"), patient("p2", "Adam"), nickname(true)]);
    let verify = |store: &Store| assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);

    assert!(told.has_changed().unwrap());
    assert_eq!(patients_by(&store, "nickname", "eve"), None, "it is not taken on yet");
    let mut steps = Vec::new();
    let done = store.reindex(|so_far| steps.push(so_far)).unwrap();
    assert_eq!((done.resources, done.changed, steps.last()), (3, 2, Some(&done)));
    assert_eq!(patients_by(&store, "nickname", "eve"), Some(vec!["p1".to_owned()]));
    verify(&store);
    write_as(&store, origin(1), &[patient("p3", "Eva"), patient("p1", "Zoe")]);
    assert_eq!(patients_by(&store, "nickname", "ev"), Some(vec!["p3".to_owned()]));
    drop(store);

    let store = open(dir.path());
    assert!(store.is_indexed().unwrap());
    assert_eq!(patients_by(&store, "nickname", "z"), Some(vec!["p1".to_owned()]));
    write_as(&store, origin(2), &[nickname(false)]);
    store.reindex(|_| {}).unwrap();
    assert_eq!(patients_by(&store, "nickname", "z"), None);
    assert_eq!(store.reindex(|_| {}).unwrap().changed, 0);
    verify(&store);
}

#[test]
fn who_asks_for_a_parameter_before_all_is_indexed_by_it_is_told_so() {
    let dir = scratch();
    let store = open(dir.path());
    write(&store, &[patient("p1", "Eve"), nickname(true)]);
    drop(store);

    let store = open(dir.path());

    let registry = store.registry();
    let setting = Setting { registry: &registry, now: 0, base: None };
    let asked = Query::parse(setting, kind("Patient"), [("nickname", "eve")]);
    assert!(matches!(asked, Err(InvalidQuery::Unindexed { .. })), "{asked:?}");
    assert!(!store.is_indexed().unwrap());
    assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    assert_eq!(patients_by(&store, "given", "eve"), Some(vec!["p1".to_owned()]));
    store.reindex(|_| {}).unwrap();
    assert_eq!(patients_by(&store, "nickname", "eve"), Some(vec!["p1".to_owned()]));
}

#[test]
fn an_index_that_was_made_in_another_way_is_made_again() {
    let dir = scratch();
    let made = Made {
        key: ResourceKey { kind: kind("Patient"), id: "p1".parse().unwrap() },
        members: Some(r#","birthDate":"2010-05-17","gender":"male""#.to_owned()),
    };
    write(&open(dir.path()), &[made]);
    let found = |zone: Option<i32>| {
        let options = chartmesh_store::Options {
            zone: zone.map(|seconds| Zone { seconds }),
            ..chartmesh_store::Options::new(crate::world::memory())
        };
        let store = Store::open(dir.path(), options).unwrap();
        let registry = store.registry();
        let setting = Setting { registry: &registry, now: 0, base: None };
        let query = [("birthdate", "2010-05-17T00:00:00Z")];
        let query =
            Query::parse(setting, kind("Patient"), query.map(|(name, value)| (name, value)));
        let late =
            [("birthdate", "ge2010-05-16T23:00:00Z"), ("birthdate", "lt2010-05-17T00:00:00Z")];
        let late = Query::parse(setting, kind("Patient"), late).unwrap();
        assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
        (paged(&store, &query.unwrap(), 5).0.len(), paged(&store, &late, 5).0.len())
    };

    assert_eq!(found(None), (0, 0));
    assert_eq!(found(Some(3_600)), (0, 1), "an hour east the day begins earlier");
    assert_eq!(found(None), (0, 1), "who does not say where leaves it");
    assert_eq!(found(Some(0)), (0, 0));
}
