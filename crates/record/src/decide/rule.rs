//! This module rules on the operations of one command, all of them or none.
//!
//! FHIR R4 (http, 3.1.0.11.2) gives the order: deletes, creates, updates, reads, then conditional
//! references. The criteria of one stage see what the stages before have done, and nothing of their
//! own stage, so the order of the entries never matters: a conditional create does not find what the
//! transaction deletes, a conditional update does find what it creates (and is refused: a resource may
//! be written once). Conditional creates with equal criteria that match nothing make one resource if
//! their content is equal, and are refused otherwise.

use std::collections::{HashMap, HashSet};

use super::decision::{Ruling, target};
use super::overlay::{Layer, Overlay, Written};
use super::precondition::{Unmet, given_up, is_live};
use super::replay::replay;
use super::{FindError, Rejection, RejectionReason, View};
use crate::ancestry::{Head, Heads};
use crate::change_set::{Effect, EntryOutcome, Outcome};
use crate::command::{Action, Command, Draft, LinkTarget, Operation};
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};
use crate::resource::BodyHash;
use crate::timestamp::Timestamp;
use crate::version::{Origin, VersionId};

/// What was ruled on a command that changes something.
pub(super) struct Ruled {
    pub(super) rulings: Vec<Ruling>,
    pub(super) matches: Vec<ResourceId>,
    /// The versions made, their links not filled in yet.
    pub(super) written: Layer,
}

/// Why a command changes nothing.
pub(super) enum Stop<E> {
    /// The view cannot be read.
    Unreadable(E),
    /// It is refused.
    Refused(Rejection),
    /// It names a version that was never held here.
    Lacking(VersionId),
    /// There is nothing to change.
    Answered(Outcome),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self::Unreadable(error)
    }
}

/// Rules on a command over what is held, as this origin at this instant.
pub(super) fn rule<V: View>(
    held: &V,
    origin: &Origin,
    command: &Command,
    at: Timestamp,
) -> Result<Ruled, Stop<V::Error>> {
    let operations = command.operations();
    if let Some(outcome) = replay(held, command, at)? {
        return Err(Stop::Answered(outcome));
    }
    let mut ruler = Ruler {
        command,
        origin,
        state: Overlay::new(held),
        rulings: vec![None; operations.len()],
        writers: HashMap::with_capacity(operations.len()),
        makers: HashMap::new(),
    };
    ruler.stage(|operation| {
        matches!(operation, Operation::Delete { .. } | Operation::DeleteWhere { .. })
    })?;
    ruler.stage(|operation| matches!(operation, Operation::Create { .. }))?;
    ruler.stage(|operation| {
        matches!(operation, Operation::Update { .. } | Operation::UpdateWhere { .. })
    })?;
    ruler.read()?;
    let rulings: Vec<Ruling> = std::mem::take(&mut ruler.rulings)
        .into_iter()
        .map(|ruling| ruling.expect("every operation belongs to a stage"))
        .collect();
    let matches = ruler.matches(&rulings)?;

    let left = rulings.iter().map(|ruling| match ruling {
        Ruling::Leave(outcome) => Some(outcome.clone()),
        Ruling::Write { .. } => None,
    });
    match left.collect::<Option<Vec<EntryOutcome>>>() {
        Some(entries) => Err(Stop::Answered(Outcome { at, change: None, entries })),
        None => Ok(Ruled { rulings, matches, written: ruler.state.into_layer() }),
    }
}

/// A command under judgement.
struct Ruler<'a, V: View> {
    command: &'a Command,
    origin: &'a Origin,
    /// What is held, with what the stages so far have written.
    state: Overlay<'a, V>,
    rulings: Vec<Option<Ruling>>,
    /// Which entry is about which resource, of those that write.
    writers: HashMap<ResourceKey, usize>,
    /// Which entry creates a resource because these criteria matched nothing.
    makers: HashMap<&'a Criteria, usize>,
}

/// What an operation is about.
enum Aim {
    /// This resource, with these heads; `found` by criteria.
    At { key: ResourceKey, heads: Heads, found: bool },
    /// Nothing to write: this is what becomes of it.
    Settled(EntryOutcome),
    /// The resource that this entry, before it, creates.
    Same(usize),
}

impl<'a, V: View> Ruler<'a, V> {
    /// Rules on the operations that belong to a stage: first what each is about, then what it does.
    fn stage(&mut self, belongs: impl Fn(&Operation) -> bool) -> Result<(), Stop<V::Error>> {
        let operations = self.command.operations();
        let mut aims = Vec::new();
        for (place, operation) in operations.iter().enumerate() {
            if belongs(operation) {
                aims.push((place, self.aim(place, operation)?));
            }
        }
        for (place, aim) in aims {
            let ruling = match aim {
                Aim::At { key, heads, found } => {
                    self.claim(place, &key)?;
                    self.write(place, key, heads, found)?
                }
                Aim::Settled(outcome) => Ruling::Leave(outcome),
                Aim::Same(maker) => {
                    let made = self.rulings[maker].as_ref().expect("makers come first");
                    let key = target(self.command, maker, made).expect("it creates");
                    let version =
                        self.state.heads(&key)?.current().map(|head| head.version.clone());
                    Ruling::Leave(EntryOutcome { effect: Effect::Found, key: Some(key), version })
                }
            };
            self.rulings[place] = Some(ruling);
        }
        Ok(())
    }

    fn aim(&mut self, place: usize, operation: &'a Operation) -> Result<Aim, Stop<V::Error>> {
        match operation {
            Operation::Delete { key, .. }
            | Operation::Update { key, .. }
            | Operation::Read { key } => {
                Ok(Aim::At { key: key.clone(), heads: self.state.heads(key)?, found: false })
            }
            Operation::Create { draft, unless: None } => Ok(self.derive(place, draft)),
            Operation::Create { draft, unless: Some(criteria) } => {
                let fresh = self.derive(place, draft);
                match self.only(place, criteria)? {
                    Some((key, heads)) => {
                        let version = heads.current().map(|head| head.version.clone());
                        let (effect, key) = (Effect::Found, Some(key));
                        Ok(Aim::Settled(EntryOutcome { effect, key, version }))
                    }
                    None => self.make(place, criteria, draft, fresh),
                }
            }
            Operation::UpdateWhere { criteria, draft, .. } => {
                self.aim_update(place, criteria, draft)
            }
            Operation::DeleteWhere { criteria } => Ok(match self.only(place, criteria)? {
                Some((key, heads)) => Aim::At { key, heads, found: true },
                None => Aim::Settled(EntryOutcome {
                    effect: Effect::NothingToDelete,
                    key: None,
                    version: None,
                }),
            }),
        }
    }

    /// The resource that matches; else the one of the body's id, which must not exist; else a new one
    /// (FHIR R4, http, 3.1.0.4.3).
    fn aim_update(
        &mut self,
        place: usize,
        criteria: &'a Criteria,
        draft: &'a Draft,
    ) -> Result<Aim, Stop<V::Error>> {
        let fresh = self.derive(place, draft);
        let sent = draft.resource.id();
        if let Some((key, heads)) = self.only(place, criteria)? {
            return match sent.filter(|&sent| *sent != key.id) {
                Some(sent) => {
                    let sent = sent.clone();
                    Err(self.refuse(place, RejectionReason::IdMismatch { sent, found: key }))
                }
                None => Ok(Aim::At { key, heads, found: true }),
            };
        }
        let Some(sent) = sent else { return self.make(place, criteria, draft, fresh) };
        let key = ResourceKey { kind: draft.resource.kind(), id: sent.clone() };
        let heads = self.state.heads(&key)?;
        if is_live(&heads) {
            return Err(self.refuse(place, RejectionReason::Precondition { key, heads }));
        }
        self.make(place, criteria, draft, Aim::At { key, heads, found: false })
    }

    /// A new resource under the derived id, which does not exist: that was checked first of all.
    fn derive(&self, place: usize, draft: &Draft) -> Aim {
        let key = ResourceKey { kind: draft.resource.kind(), id: self.command.derived_id(place) };
        Aim::At { key, heads: Heads::default(), found: false }
    }

    /// A resource that is made because criteria match nothing: by one entry of a transaction only.
    fn make(
        &mut self,
        place: usize,
        criteria: &'a Criteria,
        draft: &Draft,
        aim: Aim,
    ) -> Result<Aim, Stop<V::Error>> {
        let Some(&maker) = self.makers.get(criteria) else {
            self.makers.insert(criteria, place);
            return Ok(aim);
        };
        let Aim::At { key, .. } = aim else { unreachable!("only what is written is made") };
        let operations = self.command.operations();
        match (&operations[maker], &operations[place]) {
            (Operation::Create { draft: first, .. }, Operation::Create { .. })
                if first.resource.content() == draft.resource.content()
                    && first.links == draft.links =>
            {
                Ok(Aim::Same(maker))
            }
            _ => Err(self.refuse_twice(place, maker, key)),
        }
    }

    /// The one resource that matches, if there is one.
    fn only(
        &self,
        place: usize,
        criteria: &Criteria,
    ) -> Result<Option<(ResourceKey, Heads)>, Stop<V::Error>> {
        let mut found = match self.state.find(criteria, &[], 2) {
            Ok(found) => found,
            Err(FindError::Unreadable(error)) => return Err(Stop::Unreadable(error)),
            Err(FindError::Unusable(reason)) => {
                let criteria = criteria.clone();
                let unusable = RejectionReason::UnusableCriteria { criteria, reason };
                return Err(self.refuse(place, unusable));
            }
        };
        if found.len() > 1 {
            let criteria = criteria.clone();
            return Err(self.refuse(place, RejectionReason::SeveralMatches { criteria }));
        }
        let Some(id) = found.pop() else { return Ok(None) };
        let key = ResourceKey { kind: criteria.kind(), id };
        let heads = self.state.heads(&key)?;
        Ok(Some((key, heads)))
    }

    /// Sees to it that no other entry writes the resource.
    fn claim(&mut self, place: usize, key: &ResourceKey) -> Result<(), Stop<V::Error>> {
        match self.writers.insert(key.clone(), place) {
            Some(other) => Err(self.refuse_twice(place, other, key.clone())),
            None => Ok(()),
        }
    }

    /// Makes the version that the operation asks for, if it asks for any.
    fn write(
        &mut self,
        place: usize,
        key: ResourceKey,
        heads: Heads,
        found: bool,
    ) -> Result<Ruling, Stop<V::Error>> {
        let operation = &self.command.operations()[place];
        let over = given_up(operation, &key, &heads, self.origin).map_err(|unmet| match unmet {
            Unmet::Refused(reason) => self.refuse(place, reason),
            Unmet::Lacking(version) => Stop::Lacking(version),
        })?;
        let Some(over) = over else {
            let version = heads.current().map(|head| head.version.clone());
            let effect = Effect::NothingToDelete;
            return Ok(Ruling::Leave(EntryOutcome { effect, key: Some(key), version }));
        };
        let resource = operation.draft().map(|draft| draft.resource.clone());
        let effect = match resource {
            None => Effect::Deleted,
            Some(_) if is_live(&heads) => Effect::Updated,
            Some(_) => Effect::Created,
        };
        let (generation, ancestry) = heads.successor(&over);
        let head = Head {
            version: VersionId { generation, origin: self.origin.clone() },
            ancestry: ancestry.clone(),
            deleted: resource.is_none(),
            request: self.command.request,
            body: BodyHash::default(),
        };
        let found = found.then(|| key.id.clone());
        self.state.write(key, Written { before: heads, head, resource, content: None });
        Ok(Ruling::Write { effect, found, generation, ancestry })
    }

    /// Rules on the reads, after all writes.
    fn read(&mut self) -> Result<(), Stop<V::Error>> {
        for (place, operation) in self.command.operations().iter().enumerate() {
            let Operation::Read { key } = operation else { continue };
            let heads = self.state.heads(key)?;
            let current = match heads.current() {
                None => {
                    let key = key.clone();
                    return Err(self.refuse(place, RejectionReason::NotFound { key }));
                }
                Some(head) if head.deleted => {
                    let key = key.clone();
                    return Err(self.refuse(place, RejectionReason::Gone { key }));
                }
                Some(head) => head.version.clone(),
            };
            let (effect, key) = (Effect::Read, Some(key.clone()));
            let outcome = EntryOutcome { effect, key, version: Some(current) };
            self.rulings[place] = Some(Ruling::Leave(outcome));
        }
        Ok(())
    }

    /// What the conditional references in what is written refer to, last of all.
    fn matches(&self, rulings: &[Ruling]) -> Result<Vec<ResourceId>, Stop<V::Error>> {
        let operations = self.command.operations();
        let mut known: HashSet<&Criteria> = HashSet::new();
        let mut matches = Vec::new();
        for (place, operation) in operations.iter().enumerate() {
            let drafts =
                operation.draft().filter(|_| matches!(rulings[place], Ruling::Write { .. }));
            for link in drafts.into_iter().flat_map(|draft| &draft.links) {
                match &link.target {
                    LinkTarget::Match(criteria) if known.insert(criteria) => {
                        let Some((key, _)) = self.only(place, criteria)? else {
                            return Err(self.refuse_unmatched(place, criteria));
                        };
                        matches.push(key.id);
                    }
                    LinkTarget::Entry(entry)
                        if target(self.command, *entry, &rulings[*entry]).is_none() =>
                    {
                        let criteria = operations[*entry].criteria();
                        let criteria = criteria.expect("only what is conditional finds nothing");
                        return Err(self.refuse_unmatched(place, criteria));
                    }
                    _ => {}
                }
            }
        }
        Ok(matches)
    }

    fn refuse(&self, place: usize, reason: RejectionReason) -> Stop<V::Error> {
        let entry = matches!(self.command.action, Action::Transaction(_)).then_some(place);
        Stop::Refused(Rejection { entry, reason })
    }

    fn refuse_unmatched(&self, place: usize, criteria: &Criteria) -> Stop<V::Error> {
        self.refuse(place, RejectionReason::NoMatch { criteria: criteria.clone() })
    }

    fn refuse_twice(&self, place: usize, other: usize, key: ResourceKey) -> Stop<V::Error> {
        let (first, second) = (place.min(other), place.max(other));
        self.refuse(second, RejectionReason::DuplicateTarget { key, other: first })
    }
}
