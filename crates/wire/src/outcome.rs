//! This module turns outcomes and their references into messages and back.

use chartmesh_record::{
    Ancestry, Effect, EntryOutcome, Generation, Outcome, ResourceKey, Seq, Timestamp, VersionId,
};

use crate::error::{WireError, invalid, parse};
use crate::proto;

/// An outcome as one node tells it to another.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> proto::Outcome {
    let (origin, seq) = match &outcome.change {
        Some((origin, seq)) => (origin.to_string(), seq.0),
        None => (String::new(), 0),
    };
    proto::Outcome {
        at: outcome.at.0,
        origin,
        seq,
        entries: outcome.entries.iter().map(found).collect(),
    }
}

/// The outcome in a message.
///
/// # Errors
/// When a field is not valid.
pub fn decode_outcome(message: &proto::Outcome) -> Result<Outcome, WireError> {
    let change = match (message.origin.as_str(), message.seq) {
        ("", 0) => None,
        (origin, seq) => Some((parse(origin, "Outcome.origin")?, Seq(seq))),
    };
    let no_versions = |_| None;
    let entries = message
        .entries
        .iter()
        .map(|entry| entry_from(entry, no_versions))
        .collect::<Result<_, _>>()?;
    Ok(Outcome { at: Timestamp(message.at), change, entries })
}

/// An entry that names what it is about in full.
pub(crate) fn found(entry: &EntryOutcome) -> proto::EntryOutcome {
    let about = entry.key.as_ref().map(|key| {
        proto::entry_outcome::About::Found(proto::Reference {
            r#type: key.kind.to_string(),
            id: key.id.to_string(),
            version: entry.version.as_ref().map(VersionId::to_string),
        })
    });
    proto::EntryOutcome { effect: effect_to(entry.effect).into(), about }
}

/// An entry about the version at this place of its change set.
pub(crate) fn made(effect: Effect, place: u32) -> proto::EntryOutcome {
    let about = Some(proto::entry_outcome::About::Made(place));
    proto::EntryOutcome { effect: effect_to(effect).into(), about }
}

/// The entry in a message; `made` names the version at a place of its change set.
pub(crate) fn entry_from(
    message: &proto::EntryOutcome,
    made: impl Fn(u32) -> Option<(ResourceKey, VersionId)>,
) -> Result<EntryOutcome, WireError> {
    let effect = effect_from(message.effect())?;
    let (key, version) = match &message.about {
        None => (None, None),
        Some(proto::entry_outcome::About::Made(place)) => {
            let (key, version) = made(*place)
                .ok_or_else(|| invalid("EntryOutcome.made", format_args!("no version {place}")))?;
            (Some(key), Some(version))
        }
        Some(proto::entry_outcome::About::Found(reference)) => {
            let version = reference.version.as_deref();
            let version = version.map(|text| parse(text, "Reference.version")).transpose()?;
            (Some(key_from(&reference.r#type, &reference.id)?), version)
        }
    };
    Ok(EntryOutcome { effect, key, version })
}

/// The key of these two fields.
pub(crate) fn key_from(kind: &str, id: &str) -> Result<ResourceKey, WireError> {
    Ok(ResourceKey { kind: parse(kind, "type")?, id: parse(id, "id")? })
}

/// What a version says of the others, as a message.
pub(crate) fn ancestry_to(ancestry: &Ancestry) -> proto::Ancestry {
    let seen = ancestry.seen.iter().map(|(origin, generation)| proto::Seen {
        origin: origin.to_string(),
        generation: generation.0,
    });
    let kept = ancestry.kept.iter().map(VersionId::to_string);
    proto::Ancestry { seen: seen.collect(), kept: kept.collect() }
}

/// What a version says of the others, in a message.
pub(crate) fn ancestry_from(message: &proto::Ancestry) -> Result<Ancestry, WireError> {
    let seen = message.seen.iter().map(|seen| {
        if seen.generation == 0 {
            return Err(invalid("Seen.generation", "generations begin at 1"));
        }
        Ok((parse(&seen.origin, "Seen.origin")?, Generation(seen.generation)))
    });
    let kept = message.kept.iter().map(|text| parse(text, "Ancestry.kept"));
    Ok(Ancestry { seen: seen.collect::<Result<_, _>>()?, kept: kept.collect::<Result<_, _>>()? })
}

pub(crate) fn effect_to(effect: Effect) -> proto::Effect {
    match effect {
        Effect::Created => proto::Effect::Created,
        Effect::Updated => proto::Effect::Updated,
        Effect::Found => proto::Effect::Found,
        Effect::Deleted => proto::Effect::Deleted,
        Effect::NothingToDelete => proto::Effect::NothingToDelete,
        Effect::Read => proto::Effect::Read,
    }
}

pub(crate) fn effect_from(effect: proto::Effect) -> Result<Effect, WireError> {
    Ok(match effect {
        proto::Effect::Unspecified => return Err(invalid("effect", "it is missing or unknown")),
        proto::Effect::Created => Effect::Created,
        proto::Effect::Updated => Effect::Updated,
        proto::Effect::Found => Effect::Found,
        proto::Effect::Deleted => Effect::Deleted,
        proto::Effect::NothingToDelete => Effect::NothingToDelete,
        proto::Effect::Read => Effect::Read,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::change_sets;

    proptest! {
        #[test]
        fn an_outcome_survives_its_message(change in change_sets(), changed: bool) {
            let mut outcome = change.outcome();
            outcome.change = outcome.change.filter(|_| changed);
            prop_assert_eq!(decode_outcome(&encode_outcome(&outcome)), Ok(outcome));
        }
    }
}
