//! This module makes commands.

use chartmesh_record::{
    Action, Command, Draft, EntityTag, Operation, Place, Precondition, RequestDigest, RequestId,
    Resource, ResourceKey,
};

/// A resource of a type and id.
pub(crate) fn key(id: &str) -> ResourceKey {
    ResourceKey { kind: "Basic".parse().unwrap(), id: id.parse().unwrap() }
}

/// A request id of this number.
pub(crate) fn request(number: u64) -> RequestId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    RequestId(id)
}

fn draft(text: &str) -> Draft {
    let json = format!(r#"{{"resourceType":"Basic","code":{{"text":"{text}"}}}}"#);
    Draft { resource: Resource::parse(json.as_bytes()).unwrap(), links: Vec::new() }
}

fn command(number: u64, action: Action) -> Command {
    let mut digest = [7; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Command {
        request: request(number),
        digest: RequestDigest(digest),
        client: None,
        place: Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
        action,
    }
}

/// Creates a resource under an id of the server's choice.
pub(crate) fn create(number: u64, text: &str) -> Command {
    command(number, Action::One(Operation::Create { draft: draft(text), unless: None }))
}

/// Writes a resource, whatever stands.
pub(crate) fn put(number: u64, id: &str, text: &str) -> Command {
    let precondition = Precondition::None;
    let operation = Operation::Update { key: key(id), draft: draft(text), precondition };
    command(number, Action::One(operation))
}

/// Writes a resource over the version of this name.
pub(crate) fn put_over(number: u64, id: &str, text: &str, version: &str) -> Command {
    let precondition = Precondition::Match(vec![EntityTag(version.to_owned())]);
    let operation = Operation::Update { key: key(id), draft: draft(text), precondition };
    command(number, Action::One(operation))
}

/// Writes a resource that must not exist.
pub(crate) fn put_new(number: u64, id: &str) -> Command {
    let precondition = Precondition::Absent;
    let operation = Operation::Update { key: key(id), draft: draft("new"), precondition };
    command(number, Action::One(operation))
}

/// Creates this many resources at once, of about this many bytes each.
pub(crate) fn import(number: u64, count: usize, bytes: usize) -> Command {
    let mut noise = number | 1;
    let mut text = |place: usize| {
        let mut text = format!("{place} ");
        while text.len() < bytes {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(&format!("{:08x} tells nothing new, ", noise >> 40));
        }
        text
    };
    let create = |place| Operation::Create { draft: draft(&text(place)), unless: None };
    command(number, Action::Transaction((0..count).map(create).collect()))
}
