//! This module tests laws of judging on random commands: against a model server that knows nothing of
//! versions that supersede each other, and against itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing::identifiers;

/// An operation in terms of few ids and few identifiers, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Create { value: u8 },
    CreateUnless { by: u8, value: u8 },
    Put { id: u8, value: u8, when: When },
    PutWhere { by: u8, value: u8 },
    Delete { id: u8, when: When },
    DeleteWhere { by: u8 },
    Read { id: u8 },
}

#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Exists,
    Absent,
    /// If the version is of this generation.
    Generation(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (id, value) = (0..4_u8, 0..3_u8);
    let when = prop_oneof![
        4 => Just(When::Always),
        1 => Just(When::Exists),
        1 => Just(When::Absent),
        3 => (1..4_u64).prop_map(When::Generation),
    ];
    prop_oneof![
        2 => value.clone().prop_map(|value| Step::Create { value }),
        2 => (value.clone(), value.clone()).prop_map(|(by, value)| Step::CreateUnless { by, value }),
        5 => (id.clone(), value.clone(), when.clone())
            .prop_map(|(id, value, when)| Step::Put { id, value, when }),
        2 => (value.clone(), value.clone()).prop_map(|(by, value)| Step::PutWhere { by, value }),
        3 => (id.clone(), when).prop_map(|(id, when)| Step::Delete { id, when }),
        1 => value.prop_map(|by| Step::DeleteWhere { by }),
        2 => id.prop_map(|id| Step::Read { id }),
    ]
}

/// One command: alone, or the entries of a transaction.
fn steps() -> impl Strategy<Value = (bool, Vec<Step>)> {
    prop_oneof![
        step().prop_map(|step| (true, vec![step])),
        prop::collection::vec(step(), 1..5).prop_map(|steps| (false, steps)),
    ]
}

fn precondition(when: When, origin: &str) -> Precondition {
    match when {
        When::Always => Precondition::None,
        When::Exists => Precondition::Exists,
        When::Absent => Precondition::Absent,
        When::Generation(generation) => tags(&[&format!("{generation}-{origin}")]),
    }
}

fn command_of(number: u64, (alone, steps): &(bool, Vec<Step>), origin: &str) -> Command {
    let by = |value: &u8| format!("Patient?identifier={value}");
    let with = |value: &u8| identified(&value.to_string());
    let id = |id: &u8| format!("Patient/{id}");
    let operation = |step: &Step| match step {
        Step::Create { value } => create("Patient", &with(value)),
        Step::CreateUnless { by: asked, value } => create_unless(&with(value), &by(asked)),
        Step::Put { id: target, value, when } => {
            update(&id(target), &with(value), precondition(*when, origin))
        }
        Step::PutWhere { by: asked, value } => update_where(&by(asked), &with(value)),
        Step::Delete { id: target, when } => delete(&id(target), precondition(*when, origin)),
        Step::DeleteWhere { by: asked } => delete_where(&by(asked)),
        Step::Read { id: target } => read(&id(target)),
    };
    match &steps[..] {
        [step] if *alone => one(number, operation(step)),
        all => transaction(number, all.iter().map(operation).collect()),
    }
}

/// A server as the specification describes it, for one origin: per id the generation and, unless
/// deleted, the identifier.
type Model = BTreeMap<String, (u64, Option<u8>)>;

fn matching(model: &Model, by: u8) -> Vec<String> {
    let live = model.iter().filter(|(_, (_, value))| *value == Some(by));
    live.map(|(id, _)| id.clone()).collect()
}

/// At the most one match; several are refused.
fn single(model: &Model, by: u8) -> Option<Option<String>> {
    let mut found = matching(model, by);
    let one = found.pop();
    found.is_empty().then_some(one)
}

fn allowed(model: &Model, id: &str, when: When) -> bool {
    let state = model.get(id);
    let live = state.is_some_and(|(_, value)| value.is_some());
    match when {
        When::Always => true,
        When::Exists => live,
        When::Absent => !live,
        When::Generation(generation) => state.is_some_and(|(now, _)| *now == generation),
    }
}

fn put(model: &mut Model, id: String, value: Option<u8>) {
    let (generation, held) = model.get(&id).copied().unwrap_or((0, None));
    if value.is_some() || held.is_some() {
        model.insert(id, (generation + 1, value));
    }
}

/// The state after the command; `None` if it is refused.
fn expect(model: &Model, command: &Command, steps: &[Step]) -> Option<Model> {
    let mut targets = BTreeSet::new();
    let mut made: BTreeMap<u8, (bool, u8)> = BTreeMap::new();
    let mut now = model.clone();
    for step in steps {
        let target = match step {
            Step::Delete { id, when } => {
                allowed(model, &id.to_string(), *when).then(|| id.to_string())?
            }
            Step::DeleteWhere { by } => match single(model, *by)? {
                Some(id) => id,
                None => continue,
            },
            _ => continue,
        };
        targets.insert(target.clone()).then_some(())?;
        put(&mut now, target, None);
    }
    let deleted = now.clone();
    for (place, step) in steps.iter().enumerate() {
        let value = match step {
            Step::Create { value } => value,
            Step::CreateUnless { by, value } => {
                if single(&deleted, *by)?.is_some() {
                    continue;
                }
                if let Some(first) = made.insert(*by, (true, *value)) {
                    (first == (true, *value)).then_some(())?;
                    continue;
                }
                value
            }
            _ => continue,
        };
        put(&mut now, command.derived_id(place).to_string(), Some(*value));
        targets.insert(command.derived_id(place).to_string());
    }
    let created = now.clone();
    for (place, step) in steps.iter().enumerate() {
        let (target, value) = match step {
            Step::Put { id, value, when } => {
                let id = id.to_string();
                (targets.contains(&id) || allowed(&created, &id, *when)).then_some(())?;
                (id, value)
            }
            Step::PutWhere { by, value } => match single(&created, *by)? {
                Some(id) => (id, value),
                None => {
                    made.insert(*by, (false, *value)).is_none().then_some(())?;
                    (command.derived_id(place).to_string(), value)
                }
            },
            _ => continue,
        };
        targets.insert(target.clone()).then_some(())?;
        put(&mut now, target, Some(*value));
    }
    let readable = |id: &u8| now.get(&id.to_string()).is_some_and(|(_, value)| value.is_some());
    let reads = |step: &Step| !matches!(step, Step::Read { id } if !readable(id));
    steps.iter().all(reads).then_some(now)
}

/// The model's view of what is held.
fn seen(memory: &Memory) -> Model {
    let state = |(key, heads): (&ResourceKey, &Heads)| {
        let head = heads.current().expect("never empty");
        let value = memory.current(key).map(|content| {
            let (_, value) = identifiers(content).pop().expect("all have one");
            value.parse().expect("a number")
        });
        (key.id.to_string(), (head.version.generation.0, value))
    };
    memory.resources().map(state).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(1_000)
        })]

    #[test]
    fn a_single_origin_behaves_as_the_specification_says(
        commands in prop::collection::vec(steps(), 1..25),
    ) {
        let mut pac = Decider::new("pac");
        let mut model = Model::new();
        for (number, steps) in commands.iter().enumerate() {
            let command = command_of(number as u64, steps, "pac");
            let expected = expect(&model, &command, &steps.1);

            let judgement = pac.judge(&command);

            let refused = matches!(judgement, Judgement::Refused(_));
            prop_assert_eq!(refused, expected.is_none(), "{:?}: {}", steps, told(&judgement));
            model = expected.unwrap_or(model);
            prop_assert_eq!(seen(&pac.memory), model.clone(), "{:?}", steps);
        }
    }

    #[test]
    fn a_batch_gives_what_its_commands_give_one_by_one_and_a_retry_what_it_gave(
        commands in prop::collection::vec(steps(), 1..25),
    ) {
        let (mut pac, _) = conflict("Patient/0");
        pac.memory = with_identifiers(&pac.memory);
        let at = Timestamp(pac.commands as i64);
        let batch_memory = pac.memory.clone();
        let mut batch = Batch::new(&batch_memory, &pac.cursor);
        let commands: Vec<Command> = commands
            .iter()
            .enumerate()
            .map(|(number, steps)| command_of(number as u64, steps, "pac"))
            .collect();

        let mut judged = Vec::new();
        for command in &commands {
            let alone = pac.judge(command);
            let together = batch.judge(command, at).expect("readable");
            prop_assert_eq!(&together, &alone);
            if let Judgement::Change { change_set, .. } = &together {
                let again = batch.judge(command, at).expect("readable");
                prop_assert_eq!(again, Judgement::Answer(change_set.outcome()));
            }
            judged.push(alone);
        }

        let versions = pac.memory.version_count();
        for (command, first) in commands.iter().zip(judged) {
            if let Judgement::Change { decision, change_set } = first {
                let outcome = change_set.outcome();
                prop_assert_eq!(decision.assemble(command), Ok(change_set));
                prop_assert_eq!(pac.judge(command), Judgement::Answer(outcome));
            }
        }
        prop_assert_eq!(pac.memory.version_count(), versions);
    }

    #[test]
    fn whatever_two_origins_decide_names_never_repeat_and_nothing_is_lost(
        commands in prop::collection::vec((steps(), any::<bool>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let mut deciders = [Decider::new("pac"), Decider::new("eur")];
        let mut feed: Vec<ChangeSet> = Vec::new();
        for (number, (steps, first, carried)) in commands.iter().enumerate() {
            let own = if *first { "pac" } else { "eur" };
            let decider = &mut deciders[usize::from(!first)];
            let command = command_of(number as u64, steps, own);
            // Applying asserts that no name has two contents.
            if let Judgement::Change { change_set, .. } = decider.judge(&command) {
                feed.push(change_set);
            }
            if !feed.is_empty() {
                deciders[usize::from(*first)].memory.apply(carried.get(&feed));
            }
        }

        let names: BTreeSet<_> = feed
            .iter()
            .flat_map(|change| change.versions.iter().map(|v| (v.key.clone(), v.id(&change.origin))))
            .collect();
        prop_assert_eq!(names.len(), feed.iter().map(|change| change.versions.len()).sum::<usize>());
        let mut all = Memory::default();
        feed.iter().rev().for_each(|change| all.apply(change));
        for decider in &mut deciders {
            feed.iter().for_each(|change| decider.memory.apply(change));
            prop_assert!(all.resources().eq(decider.memory.resources()));
        }
        for (key, version) in names {
            let heads = all.heads(&key).expect("readable");
            let head = heads.head(&version).is_some();
            let ancestor = heads.iter().any(|head| head.ancestry.supersedes(&version));
            prop_assert!(head != ancestor);
            prop_assert!(heads.absent().is_empty());
        }
    }
}

/// The same heads, all with an identifier: criteria are judged by the current head's.
fn with_identifiers(memory: &Memory) -> Memory {
    let mut with = Memory::default();
    for (key, heads) in memory.resources() {
        for head in heads.iter() {
            let draft = draft("Patient", &identified("0"));
            let content = draft.resource.render(key, &head.version, Timestamp(0));
            let version = crate::change_set::Version {
                key: key.clone(),
                generation: head.version.generation,
                ancestry: head.ancestry.clone(),
                criteria: None,
                content: Some(content),
            };
            with.apply(&ChangeSet {
                origin: head.version.origin.clone(),
                seq: Seq(1),
                at: Timestamp(0),
                request: head.request,
                digest: RequestDigest([0; 32]),
                client: None,
                place: one(0, read("Patient/0")).place,
                entries: vec![],
                versions: vec![version],
            });
        }
    }
    with
}
