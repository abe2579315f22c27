//! This module turns commands into bytes and back, as one node passes them on to another.

use bytes::Bytes;
use chartmesh_record::{
    Action, Command, Criteria, Draft, EntityTag, Link, LinkTarget, Operation, Place, Precondition,
    RequestDigest, RequestId, Resource, ResourceKey,
};
use prost::Message;

use crate::error::{WireError, array, invalid, parse, required};
use crate::limits::MAX_COMMAND_BYTES;
use crate::outcome::key_from;
use crate::proto::{self, link, operation, precondition};

/// A digest; nothing for that of a request whose id was drawn.
pub(crate) fn digest_to(digest: RequestDigest) -> Bytes {
    if digest == RequestDigest::DRAWN {
        return Bytes::new();
    }
    Bytes::copy_from_slice(&digest.0)
}

pub(crate) fn digest_from(bytes: &[u8], field: &'static str) -> Result<RequestDigest, WireError> {
    if bytes.is_empty() {
        return Ok(RequestDigest::DRAWN);
    }
    Ok(RequestDigest(array(bytes, field)?))
}

/// A command as bytes.
#[must_use]
pub fn encode_command(command: &Command) -> Bytes {
    let action = match &command.action {
        Action::One(operation) => proto::command::Action::One(operation_to(operation)),
        Action::Transaction(entries) => proto::command::Action::Transaction(proto::Transaction {
            entries: entries.iter().map(operation_to).collect(),
        }),
    };
    let message = proto::Command {
        request: Bytes::copy_from_slice(&command.request.0),
        digest: digest_to(command.digest),
        client: command.client.clone(),
        node: command.place.node.to_string(),
        site: command.place.site.to_string(),
        action: Some(action),
    };
    message.encode_to_vec().into()
}

/// The command in these bytes, of which its contents are slices.
///
/// # Errors
/// When they are not those of a valid command.
pub fn decode_command(bytes: Bytes) -> Result<Command, WireError> {
    if bytes.len() > MAX_COMMAND_BYTES {
        return Err(WireError::TooLarge { bytes: bytes.len(), limit: MAX_COMMAND_BYTES });
    }
    let message = proto::Command::decode(bytes)?;
    let action = match required(message.action, "Command.action")? {
        proto::command::Action::One(operation) => Action::One(operation_from(operation)?),
        proto::command::Action::Transaction(transaction) => {
            let entries = transaction.entries.into_iter();
            Action::Transaction(entries.map(operation_from).collect::<Result<_, _>>()?)
        }
    };
    let command = Command {
        request: RequestId(array(&message.request, "Command.request")?),
        digest: digest_from(&message.digest, "Command.digest")?,
        client: message.client,
        place: Place {
            node: parse(&message.node, "Command.node")?,
            site: parse(&message.site, "Command.site")?,
        },
        action,
    };
    if command.is_sound() {
        Ok(command)
    } else {
        Err(invalid("Draft.links", "not as they must be"))
    }
}

fn operation_to(operation: &Operation) -> proto::Operation {
    let text = |key: &ResourceKey| (key.kind.to_string(), key.id.to_string());
    let kind = match operation {
        Operation::Create { draft, unless } => operation::Kind::Create(proto::Create {
            draft: Some(draft_to(draft)),
            unless: unless.as_ref().map(criteria_to),
        }),
        Operation::Update { key, draft, precondition } => {
            let (r#type, id) = text(key);
            let precondition = precondition_to(precondition);
            let draft = Some(draft_to(draft));
            operation::Kind::Update(proto::Update { r#type, id, draft, precondition })
        }
        Operation::UpdateWhere { criteria, draft, precondition } => {
            operation::Kind::UpdateWhere(proto::UpdateWhere {
                criteria: Some(criteria_to(criteria)),
                draft: Some(draft_to(draft)),
                precondition: precondition_to(precondition),
            })
        }
        Operation::Delete { key, precondition } => {
            let (r#type, id) = text(key);
            let precondition = precondition_to(precondition);
            operation::Kind::Delete(proto::Delete { r#type, id, precondition })
        }
        Operation::DeleteWhere { criteria } => {
            let criteria = Some(criteria_to(criteria));
            operation::Kind::DeleteWhere(proto::DeleteWhere { criteria })
        }
        Operation::Read { key } => {
            let (r#type, id) = text(key);
            operation::Kind::Read(proto::Read { r#type, id })
        }
    };
    proto::Operation { kind: Some(kind) }
}

fn operation_from(message: proto::Operation) -> Result<Operation, WireError> {
    let draft = |draft: Option<proto::Draft>| draft_from(required(draft, "draft")?);
    let criteria =
        |criteria: Option<proto::Criteria>| criteria_from(&required(criteria, "criteria")?);
    Ok(match required(message.kind, "Operation.kind")? {
        operation::Kind::Create(create) => Operation::Create {
            draft: draft(create.draft)?,
            unless: create.unless.as_ref().map(criteria_from).transpose()?,
        },
        operation::Kind::Update(update) => Operation::Update {
            key: key_from(&update.r#type, &update.id)?,
            draft: draft(update.draft)?,
            precondition: precondition_from(update.precondition)?,
        },
        operation::Kind::UpdateWhere(update) => Operation::UpdateWhere {
            criteria: criteria(update.criteria)?,
            draft: draft(update.draft)?,
            precondition: precondition_from(update.precondition)?,
        },
        operation::Kind::Delete(delete) => Operation::Delete {
            key: key_from(&delete.r#type, &delete.id)?,
            precondition: precondition_from(delete.precondition)?,
        },
        operation::Kind::DeleteWhere(delete) => {
            Operation::DeleteWhere { criteria: criteria(delete.criteria)? }
        }
        operation::Kind::Read(read) => Operation::Read { key: key_from(&read.r#type, &read.id)? },
    })
}

fn precondition_to(precondition: &Precondition) -> Option<proto::Precondition> {
    let kind = match precondition {
        Precondition::None => return None,
        Precondition::Match(tags) => precondition::Kind::Match(proto::Tags {
            tags: tags.iter().map(|tag| tag.0.clone()).collect(),
        }),
        Precondition::Exists => precondition::Kind::Exists(true),
        Precondition::Absent => precondition::Kind::Absent(true),
    };
    Some(proto::Precondition { kind: Some(kind) })
}

fn precondition_from(message: Option<proto::Precondition>) -> Result<Precondition, WireError> {
    let Some(message) = message else { return Ok(Precondition::None) };
    match required(message.kind, "Precondition.kind")? {
        precondition::Kind::Match(tags) => {
            Ok(Precondition::Match(tags.tags.into_iter().map(EntityTag).collect()))
        }
        precondition::Kind::Exists(true) => Ok(Precondition::Exists),
        precondition::Kind::Absent(true) => Ok(Precondition::Absent),
        precondition::Kind::Exists(false) | precondition::Kind::Absent(false) => {
            Err(invalid("Precondition.kind", "it is false"))
        }
    }
}

pub(crate) fn criteria_to(criteria: &Criteria) -> proto::Criteria {
    proto::Criteria { r#type: criteria.kind().to_string(), query: criteria.query() }
}

pub(crate) fn criteria_from(message: &proto::Criteria) -> Result<Criteria, WireError> {
    let kind = parse(&message.r#type, "Criteria.type")?;
    Criteria::parse(kind, &message.query).map_err(|reason| invalid("Criteria.query", reason))
}

fn draft_to(draft: &Draft) -> proto::Draft {
    let resource = &draft.resource;
    let links = draft.links.iter().map(|link| proto::Link {
        start: link.at.start as u64,
        end: link.at.end as u64,
        target: Some(match &link.target {
            LinkTarget::Entry(entry) => link::Target::Entry(*entry as u64),
            LinkTarget::Match(criteria) => link::Target::Match(criteria_to(criteria)),
        }),
    });
    proto::Draft {
        r#type: resource.kind().to_string(),
        id: resource.id().map(ToString::to_string),
        meta_len: resource.meta_len() as u64,
        links: links.collect(),
        content: resource.content().clone(),
    }
}

/// A draft whose links lie between characters. Whether they are sound is seen with all entries.
fn draft_from(message: proto::Draft) -> Result<Draft, WireError> {
    let content =
        std::str::from_utf8(&message.content).map_err(|reason| invalid("Draft.content", reason))?;
    let place = |number: u64, field| {
        usize::try_from(number)
            .ok()
            .filter(|&place| content.is_char_boundary(place))
            .ok_or_else(|| invalid(field, format_args!("{number} is no place in the content")))
    };
    let meta_len = place(message.meta_len, "Draft.meta_len")?;
    let links = message.links.iter().map(|link| {
        let target = match required(link.target.as_ref(), "Link.target")? {
            link::Target::Entry(entry) => LinkTarget::Entry(
                usize::try_from(*entry).map_err(|reason| invalid("Link.entry", reason))?,
            ),
            link::Target::Match(criteria) => LinkTarget::Match(criteria_from(criteria)?),
        };
        let at = place(link.start, "Link.start")?..place(link.end, "Link.end")?;
        Ok(Link { at, target })
    });
    let links = links.collect::<Result<_, WireError>>()?;
    let kind = parse(&message.r#type, "Draft.type")?;
    let id = message.id.as_deref().map(|id| parse(id, "Draft.id")).transpose()?;
    Ok(Draft { resource: Resource::from_parts(kind, id, message.content, meta_len), links })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{criteria, keys, names};

    fn drafts() -> impl Strategy<Value = Draft> {
        (keys(), any::<bool>(), "[a-zé\"{},:]{0,12}", "[a-zé\"{},:]{0,20}")
            .prop_flat_map(|(key, with_id, meta, body)| {
                let text = format!("{meta}{body}");
                let places: Vec<usize> =
                    (0..=text.len()).filter(|&place| text.is_char_boundary(place)).collect();
                let chosen = prop::sample::subsequence(places.clone(), 0..=places.len().min(6));
                (Just((key, with_id, meta, text)), chosen, links_to())
            })
            .prop_map(|((key, with_id, meta, text), places, targets)| {
                let within = |at: &Range<usize>| at.end <= meta.len() || meta.len() <= at.start;
                let ranges = places.chunks_exact(2).map(|pair| pair[0]..pair[1]).filter(within);
                let links = ranges.zip(targets).map(|(at, target)| Link { at, target }).collect();
                let id = with_id.then(|| key.id.clone());
                let resource = Resource::from_parts(key.kind, id, text.into(), meta.len());
                Draft { resource, links }
            })
    }

    fn links_to() -> impl Strategy<Value = Vec<LinkTarget>> {
        let target =
            prop_oneof![Just(LinkTarget::Entry(0)), criteria().prop_map(LinkTarget::Match),];
        prop::collection::vec(target, 3)
    }

    fn preconditions() -> impl Strategy<Value = Precondition> {
        prop_oneof![
            Just(Precondition::None),
            prop::collection::vec(".{0,9}".prop_map(EntityTag), 0..3).prop_map(Precondition::Match),
            Just(Precondition::Exists),
            Just(Precondition::Absent),
        ]
    }

    fn operations() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (drafts(), prop::option::of(criteria()))
                .prop_map(|(draft, unless)| Operation::Create { draft, unless }),
            (keys(), drafts(), preconditions()).prop_map(|(key, draft, precondition)| {
                Operation::Update { key, draft, precondition }
            }),
            (criteria(), drafts(), preconditions()).prop_map(|(criteria, draft, precondition)| {
                Operation::UpdateWhere { criteria, draft, precondition }
            }),
            (keys(), preconditions())
                .prop_map(|(key, precondition)| Operation::Delete { key, precondition }),
            criteria().prop_map(|criteria| Operation::DeleteWhere { criteria }),
            keys().prop_map(|key| Operation::Read { key }),
        ]
    }

    pub(crate) fn commands() -> impl Strategy<Value = Command> {
        let action = prop_oneof![
            operations().prop_map(Action::One),
            prop::collection::vec(operations(), 1..4).prop_map(Action::Transaction),
            Just(Action::Transaction(Vec::new())),
        ];
        let client = prop::option::of(".{0,9}");
        (any::<([u8; 16], [u8; 32])>(), client, names(), names(), action).prop_map(
            |((request, digest), client, node, site, action)| Command {
                request: RequestId(request),
                digest: RequestDigest(digest),
                client,
                place: Place { node: node.parse().unwrap(), site: site.parse().unwrap() },
                action,
            },
        )
    }

    proptest! {
        #[test]
        fn a_command_survives_its_bytes(command in commands()) {
            prop_assert_eq!(decode_command(encode_command(&command)), Ok(command));
        }

        #[test]
        fn damaged_bytes_are_refused_or_mean_a_sound_command(
            command in commands(), place: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = encode_command(&command).to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(command) = decode_command(bytes.into()) {
                prop_assert!(command.is_sound());
            }
        }
    }

    #[test]
    fn refuses_links_that_cannot_be_filled_in() {
        let check = |meta_len: u64, at: &[(u64, u64)], entry: u64, accepted: bool| {
            let link = |&(start, end): &(u64, u64)| proto::Link {
                start,
                end,
                target: Some(link::Target::Entry(entry)),
            };
            let draft = proto::Draft {
                r#type: "Patient".to_owned(),
                meta_len,
                links: at.iter().map(link).collect(),
                content: "abéd".into(),
                ..proto::Draft::default()
            };
            let create = proto::Create { draft: Some(draft), unless: None };
            let kind = Some(operation::Kind::Create(create));
            let message = proto::Command {
                request: vec![0; 16].into(),
                digest: Bytes::new(),
                node: "a".to_owned(),
                site: "b".to_owned(),
                action: Some(proto::command::Action::One(proto::Operation { kind })),
                ..proto::Command::default()
            };
            let decoded = decode_command(message.encode_to_vec().into());
            assert_eq!(decoded.is_ok(), accepted, "{meta_len} {at:?} {entry}: {decoded:?}");
        };
        check(1, &[(0, 1), (1, 4)], 0, true);
        check(1, &[(0, 1), (1, 3)], 0, false);
        check(1, &[(0, 2)], 0, false);
        check(3, &[], 0, false);
        check(6, &[], 0, false);
        check(0, &[(1, 2), (0, 1)], 0, false);
        check(0, &[(1, 1)], 0, false);
        check(0, &[(4, 6)], 0, false);
        check(0, &[(0, 1)], 1, false);
    }
}
