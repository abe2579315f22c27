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
        digest: Bytes::copy_from_slice(&command.digest.0),
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
        proto::command::Action::One(operation) => Action::One(operation_from(operation, 1)?),
        proto::command::Action::Transaction(transaction) => {
            let count = transaction.entries.len();
            let entries = transaction.entries.into_iter();
            Action::Transaction(
                entries.map(|entry| operation_from(entry, count)).collect::<Result<_, _>>()?,
            )
        }
    };
    Ok(Command {
        request: RequestId(array(&message.request, "Command.request")?),
        digest: RequestDigest(array(&message.digest, "Command.digest")?),
        client: message.client,
        place: Place {
            node: parse(&message.node, "Command.node")?,
            site: parse(&message.site, "Command.site")?,
        },
        action,
    })
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

/// The operation in a message that is one of `count`.
fn operation_from(message: proto::Operation, count: usize) -> Result<Operation, WireError> {
    let draft = |draft: Option<proto::Draft>| draft_from(required(draft, "draft")?, count);
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

fn draft_from(message: proto::Draft, count: usize) -> Result<Draft, WireError> {
    let content =
        std::str::from_utf8(&message.content).map_err(|reason| invalid("Draft.content", reason))?;
    let place = |number: u64, field| {
        usize::try_from(number)
            .ok()
            .filter(|&place| content.is_char_boundary(place))
            .ok_or_else(|| invalid(field, format_args!("{number} is no place in the content")))
    };
    let meta_len = place(message.meta_len, "Draft.meta_len")?;
    let mut links: Vec<Link> = Vec::with_capacity(message.links.len());
    for link in &message.links {
        let at = place(link.start, "Link.start")?..place(link.end, "Link.end")?;
        if at.is_empty() || links.last().is_some_and(|last| last.at.end > at.start) {
            return Err(invalid("Draft.links", "not in ascending order and disjoint"));
        }
        let target = match required(link.target.as_ref(), "Link.target")? {
            link::Target::Entry(entry) => usize::try_from(*entry)
                .ok()
                .filter(|&entry| entry < count)
                .map(LinkTarget::Entry)
                .ok_or_else(|| invalid("Link.entry", format_args!("no entry {entry}")))?,
            link::Target::Match(criteria) => LinkTarget::Match(criteria_from(criteria)?),
        };
        links.push(Link { at, target });
    }
    let kind = parse(&message.r#type, "Draft.type")?;
    let id = message.id.as_deref().map(|id| parse(id, "Draft.id")).transpose()?;
    Ok(Draft { resource: Resource::from_parts(kind, id, message.content, meta_len), links })
}
