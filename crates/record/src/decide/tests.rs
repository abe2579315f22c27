//! This module tests judging: what each kind of command does to each kind of state.

mod laws;
mod single;
mod transaction;

use super::*;
use crate::change_set::Effect;
use crate::command::{Action, EntityTag, Operation, Precondition};
use crate::resource::Resource;
use crate::testing::{Memory, command, criteria, draft, key, one, origin, transaction};

/// One decider with what it holds.
#[derive(Clone, Debug)]
struct Decider {
    memory: Memory,
    cursor: Cursor,
    commands: u64,
}

impl Decider {
    fn new(name: &str) -> Self {
        Self { memory: Memory::default(), cursor: Cursor::start(origin(name)), commands: 0 }
    }

    /// Judges in a batch of its own, and holds what is changed.
    fn judge(&mut self, command: &Command) -> Judgement {
        let at = Timestamp(self.commands as i64);
        let judgement = Batch::new(&self.memory, &self.cursor).judge(command, at);
        let judgement = judgement.expect("memory can be read");
        if let Judgement::Change { change_set, .. } = &judgement {
            self.memory.apply(change_set);
            self.cursor = self.cursor.extend(b"");
        }
        judgement
    }

    fn number(&mut self) -> u64 {
        self.commands += 1;
        let name = self.cursor.origin.as_str().as_bytes();
        u64::from_be_bytes([name[0], name[1], name[2], 0, 0, 0, 0, 0]) + self.commands
    }

    fn one(&mut self, operation: Operation) -> Judgement {
        let command = one(self.number(), operation);
        self.judge(&command)
    }

    /// Writes, which must succeed, and tells the change set.
    fn put(&mut self, target: &str, members: &str) -> ChangeSet {
        match self.one(update(target, members, Precondition::None)) {
            Judgement::Change { change_set, .. } => change_set,
            other => panic!("{other:?}"),
        }
    }

    /// The names of the heads, the current one first, without the tags of their origins.
    fn heads(&self, target: &str) -> Vec<String> {
        heads(&self.memory.heads(&key(target)).expect("memory can be read"))
    }
}

/// Two deciders that have each written the resource without knowing of the other, and then the
/// change set of the other one is held by the first too: heads `1-pac` and `1-eur`.
fn conflict(target: &str) -> (Decider, Decider) {
    let (mut pac, mut eur) = (Decider::new("pac"), Decider::new("eur"));
    pac.put(target, r#""active":true"#);
    let other = eur.put(target, r#""active":false"#);
    pac.memory.apply(&other);
    (pac, eur)
}

fn heads(heads: &Heads) -> Vec<String> {
    heads.iter().map(|head| short(&head.version)).collect()
}

fn short(version: &VersionId) -> String {
    format!("{}-{}", version.generation, version.origin.name())
}

fn create(kind: &str, members: &str) -> Operation {
    Operation::Create { draft: draft(kind, members), unless: None }
}

fn create_unless(members: &str, unless: &str) -> Operation {
    let unless = criteria(unless);
    Operation::Create { draft: draft(unless.kind().as_str(), members), unless: Some(unless) }
}

fn update(target: &str, members: &str, precondition: Precondition) -> Operation {
    let key = key(target);
    Operation::Update { draft: draft(key.kind.as_str(), members), key, precondition }
}

fn update_where(text: &str, members: &str) -> Operation {
    let criteria = criteria(text);
    let draft = draft(criteria.kind().as_str(), members);
    Operation::UpdateWhere { criteria, draft, precondition: Precondition::None }
}

fn delete(target: &str, precondition: Precondition) -> Operation {
    Operation::Delete { key: key(target), precondition }
}

fn delete_where(text: &str) -> Operation {
    Operation::DeleteWhere { criteria: criteria(text) }
}

fn read(target: &str) -> Operation {
    Operation::Read { key: key(target) }
}

/// `If-Match` with these short names.
fn tags(names: &[&str]) -> Precondition {
    let full = |name: &&str| match name.split_once('-') {
        Some((generation, name)) => format!("{generation}-{}", origin(name)),
        None => (*name).to_owned(),
    };
    Precondition::Match(names.iter().map(full).map(EntityTag).collect())
}

fn identified(value: &str) -> String {
    format!(r#""identifier":[{{"value":"{value}"}}]"#)
}

/// What became of a command, in few words: effects with keys and versions, or the refusal.
fn told(judgement: &Judgement) -> String {
    let entries = match judgement {
        Judgement::Change { change_set, .. } => &change_set.entries,
        Judgement::Answer(outcome) => &outcome.entries,
        Judgement::Lacking(version) => return format!("Lacking {}", short(version)),
        Judgement::Refused(Rejection { entry, reason }) => {
            let place = entry.map(|entry| format!("{entry}: ")).unwrap_or_default();
            return match reason {
                RejectionReason::Precondition { heads: found, .. } => {
                    format!("{place}Precondition {}", heads(found).join(" "))
                }
                RejectionReason::ConflictedDelete { heads: found, .. } => {
                    format!("{place}ConflictedDelete {}", heads(found).join(" "))
                }
                other => format!("{place}{other}"),
            };
        }
    };
    let tell = |entry: &crate::change_set::EntryOutcome| {
        let key = entry.key.as_ref().map(|key| format!(" {key}")).unwrap_or_default();
        let version = entry.version.as_ref().map(|version| format!(" {}", short(version)));
        format!("{:?}{key}{}", entry.effect, version.unwrap_or_default())
    };
    entries.iter().map(tell).collect::<Vec<_>>().join(", ")
}

fn effects(judgement: &Judgement) -> Vec<Effect> {
    match judgement {
        Judgement::Change { change_set, .. } => {
            change_set.entries.iter().map(|entry| entry.effect).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decision_and_its_command_give_the_change_set_and_no_other_command_fits() {
    let mut pac = Decider::new("pac");
    let command = command(7, Action::One(create("Patient", r#""active":true"#)));

    let Judgement::Change { decision, change_set } = pac.judge(&command) else {
        panic!("a create changes something")
    };

    assert_eq!(decision.assemble(&command), Ok(change_set));
    assert_eq!(decision.assemble(&transaction(8, vec![])), Err(UnfitDecision));
}

#[test]
fn a_command_larger_than_a_change_set_may_be_is_refused_and_leaves_no_trace() {
    let memory = Memory::default();
    let cursor = Cursor::start(origin("pac"));
    let mut batch = Batch::new(&memory, &cursor);
    let large = format!(r#""data":"{}""#, "A".repeat(MAX_CHANGE_SET_BYTES));

    let refused = batch.judge(&one(1, create("Binary", &large)), Timestamp(0));
    let taken = batch.judge(&one(1, create("Binary", r#""data":"AA==""#)), Timestamp(0));

    assert!(told(&refused.expect("readable")).starts_with("the change would take 6710"));
    let Ok(Judgement::Change { change_set, .. }) = taken else { panic!("it is small") };
    assert_eq!(change_set.seq, Seq(1));
}
