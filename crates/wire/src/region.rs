//! This module turns rejections into messages and back.

use bytes::Bytes;
use chartmesh_record::{BodyHash, Head, Heads, Rejection, RejectionReason, RequestId, ResourceKey};

use crate::command::{criteria_from, criteria_to};
use crate::error::{WireError, array, invalid, parse, required};
use crate::outcome::{ancestry_from, ancestry_to, key_from};
use crate::proto;

/// A rejection as one node tells it to another.
#[must_use]
pub fn encode_rejection(rejection: &Rejection) -> proto::Rejection {
    use proto::rejection::Reason;
    let reason = match &rejection.reason {
        RejectionReason::RequestReused => Reason::RequestReused(proto::Nothing {}),
        RejectionReason::Precondition { key, heads } => {
            Reason::Precondition(standing_to(key, heads))
        }
        RejectionReason::ConflictedDelete { key, heads } => {
            Reason::ConflictedDelete(standing_to(key, heads))
        }
        RejectionReason::UnusableCriteria { criteria, reason } => {
            Reason::UnusableCriteria(proto::UnusableCriteria {
                criteria: Some(criteria_to(criteria)),
                reason: reason.clone(),
            })
        }
        RejectionReason::SeveralMatches { criteria } => {
            Reason::SeveralMatches(criteria_to(criteria))
        }
        RejectionReason::NoMatch { criteria } => Reason::NoMatch(criteria_to(criteria)),
        RejectionReason::IdMismatch { sent, found } => Reason::IdMismatch(proto::IdMismatch {
            sent: sent.to_string(),
            found: Some(key_to(found)),
        }),
        RejectionReason::DuplicateTarget { key, other } => {
            Reason::DuplicateTarget(proto::DuplicateTarget {
                resource: Some(key_to(key)),
                other: *other as u64,
            })
        }
        RejectionReason::NotFound { key } => Reason::NotFound(key_to(key)),
        RejectionReason::Gone { key } => Reason::Gone(key_to(key)),
        RejectionReason::TooLarge { bytes, limit } => {
            Reason::TooLarge(proto::TooLarge { bytes: *bytes as u64, limit: *limit as u64 })
        }
    };
    proto::Rejection { entry: rejection.entry.map(|entry| entry as u64), reason: Some(reason) }
}

/// The rejection in a message.
///
/// # Errors
/// When a field is not valid.
pub fn decode_rejection(message: proto::Rejection) -> Result<Rejection, WireError> {
    use proto::rejection::Reason;
    let reason = match required(message.reason, "Rejection.reason")? {
        Reason::RequestReused(_) => RejectionReason::RequestReused,
        Reason::Precondition(standing) => {
            let (key, heads) = standing_from(standing)?;
            RejectionReason::Precondition { key, heads }
        }
        Reason::ConflictedDelete(standing) => {
            let (key, heads) = standing_from(standing)?;
            RejectionReason::ConflictedDelete { key, heads }
        }
        Reason::UnusableCriteria(unusable) => {
            let criteria = required(unusable.criteria, "UnusableCriteria.criteria")?;
            RejectionReason::UnusableCriteria {
                criteria: criteria_from(&criteria)?,
                reason: unusable.reason,
            }
        }
        Reason::SeveralMatches(criteria) => {
            RejectionReason::SeveralMatches { criteria: criteria_from(&criteria)? }
        }
        Reason::NoMatch(criteria) => {
            RejectionReason::NoMatch { criteria: criteria_from(&criteria)? }
        }
        Reason::IdMismatch(mismatch) => RejectionReason::IdMismatch {
            sent: parse(&mismatch.sent, "IdMismatch.sent")?,
            found: key_of(mismatch.found)?,
        },
        Reason::DuplicateTarget(duplicate) => RejectionReason::DuplicateTarget {
            key: key_of(duplicate.resource)?,
            other: size(duplicate.other)?,
        },
        Reason::NotFound(key) => RejectionReason::NotFound { key: key_of(Some(key))? },
        Reason::Gone(key) => RejectionReason::Gone { key: key_of(Some(key))? },
        Reason::TooLarge(large) => {
            RejectionReason::TooLarge { bytes: size(large.bytes)?, limit: size(large.limit)? }
        }
    };
    Ok(Rejection { entry: message.entry.map(size).transpose()?, reason })
}

fn size(value: u64) -> Result<usize, WireError> {
    usize::try_from(value).map_err(|reason| invalid("Rejection", reason))
}

fn key_to(key: &ResourceKey) -> proto::Reference {
    proto::Reference { r#type: key.kind.to_string(), id: key.id.to_string(), version: None }
}

fn key_of(message: Option<proto::Reference>) -> Result<ResourceKey, WireError> {
    let message = required(message, "Rejection.resource")?;
    key_from(&message.r#type, &message.id)
}

fn standing_to(key: &ResourceKey, heads: &Heads) -> proto::Standing {
    proto::Standing { resource: Some(key_to(key)), heads: heads.iter().map(head_to).collect() }
}

fn standing_from(message: proto::Standing) -> Result<(ResourceKey, Heads), WireError> {
    let heads: Vec<Head> = message.heads.iter().map(head_from).collect::<Result<_, _>>()?;
    Ok((key_of(message.resource)?, Heads::of(heads)))
}

fn head_to(head: &Head) -> proto::Head {
    proto::Head {
        version: head.version.to_string(),
        ancestry: Some(ancestry_to(&head.ancestry)),
        deleted: head.deleted,
        request: Bytes::copy_from_slice(&head.request.0),
        body: Bytes::copy_from_slice(&head.body.0),
    }
}

fn head_from(message: &proto::Head) -> Result<Head, WireError> {
    let ancestry = message.ancestry.as_ref().map(ancestry_from).transpose()?;
    Ok(Head {
        version: parse(&message.version, "Head.version")?,
        ancestry: ancestry.unwrap_or_default(),
        deleted: message.deleted,
        request: RequestId(array(&message.request, "Head.request")?),
        body: BodyHash(array(&message.body, "Head.body")?),
    })
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Ancestry, Generation, VersionId};

    use super::*;

    #[test]
    fn every_rejection_survives_its_message() {
        let key: ResourceKey =
            ResourceKey { kind: "Patient".parse().unwrap(), id: "a".parse().unwrap() };
        let version: VersionId = "3-pac.7h2k4m9qzx".parse().unwrap();
        let seen = [(version.origin.clone(), Generation(2))].into();
        let kept = ["2-eur.7h2k4m9qzx".parse().unwrap()].into();
        let head = Head {
            version,
            ancestry: Ancestry { seen, kept },
            deleted: true,
            request: RequestId([4; 16]),
            body: BodyHash([5; 16]),
        };
        let heads = Heads::of([head]);
        let reasons = [
            RejectionReason::RequestReused,
            RejectionReason::Precondition { key: key.clone(), heads: Heads::default() },
            RejectionReason::Precondition { key: key.clone(), heads: heads.clone() },
            RejectionReason::ConflictedDelete { key: key.clone(), heads },
            RejectionReason::IdMismatch { sent: "b".parse().unwrap(), found: key.clone() },
            RejectionReason::DuplicateTarget { key: key.clone(), other: 3 },
            RejectionReason::NotFound { key: key.clone() },
            RejectionReason::Gone { key },
            RejectionReason::TooLarge { bytes: 9, limit: 8 },
        ];

        for reason in reasons {
            let rejection = Rejection { entry: Some(2), reason };
            assert_eq!(decode_rejection(encode_rejection(&rejection)), Ok(rejection));
        }
    }
}
