//! This module indexes and seeks references (FHIR R4, search, 3.1.1.4.11).

use std::borrow::Cow;

use chartmesh_record::{ElementType, Node, ResourceId, ResourceKey, ResourceType, escape};

use crate::fault::Fault;
use crate::names::Names;
use crate::token::{Token, TokenSought};

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference<'v> {
    /// A resource of this server; a version of it, if that is named.
    Local(ResourceType, Cow<'v, str>, Option<Cow<'v, str>>),
    /// Something elsewhere, or a canonical resource; its version, if that is named.
    Url(Cow<'v, str>, Option<Cow<'v, str>>),
    /// A resource by an identifier of its own.
    Identifier(Token<'v>),
}

/// A reference that is sought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceSought {
    /// A resource of this id and one of these types, of any if there are none; in this version if one
    /// is given.
    Local(Vec<ResourceType>, ResourceId, Option<String>),
    /// This URL; in this version if one is given.
    Url(String, Option<String>),
    /// A resource by an identifier (`:identifier`).
    Identifier(TokenSought),
}

impl<'v> Reference<'v> {
    /// The references of an element.
    pub(crate) fn of(
        node: Node<'v>,
        kind: ElementType,
        names: &Names,
        found: &mut impl FnMut(Self),
    ) {
        match kind.name() {
            "Reference" => {
                let text = node.member(&names.reference).and_then(Node::text);
                text.and_then(Self::parse).into_iter().for_each(&mut *found);
                let Some(identifier) = node.member(&names.identifier) else { return };
                let token = Token {
                    system: identifier.member(&names.system).and_then(Node::text),
                    code: identifier.member(&names.value).and_then(Node::text).unwrap_or_default(),
                };
                found(Self::Identifier(token));
            }
            // The resource itself stands there.
            "Resource" => {
                let id = node.member(&names.id).and_then(Node::text);
                let key = node.resource_type().zip(id);
                key.into_iter().for_each(|(kind, id)| found(Self::Local(kind, id, None)));
            }
            _ => node.text().and_then(Self::parse).into_iter().for_each(found),
        }
    }

    /// Whether values of this type are references.
    pub(crate) fn is_in(kind: ElementType) -> bool {
        matches!(
            kind.name(),
            "Reference" | "Resource" | "canonical" | "uri" | "url" | "oid" | "uuid"
        )
    }

    /// What a text refers to; nothing that can be found if it is to a contained resource.
    fn parse(text: Cow<'v, str>) -> Option<Self> {
        if text.starts_with('#') || text.is_empty() {
            return None;
        }
        if let Some((kind, id, version)) = local(&text) {
            let (id, version) = (id.to_owned(), version.map(str::to_owned));
            return Some(Self::Local(kind, id.into(), version.map(Cow::Owned)));
        }
        let cut = text.split_once('|').map(|(url, version)| (url.to_owned(), version.to_owned()));
        Some(match cut {
            Some((url, version)) => Self::Url(url.into(), Some(version.into())),
            None => Self::Url(text, None),
        })
    }

    /// The resource of this server that it names.
    #[must_use]
    pub fn key(&self) -> Option<ResourceKey> {
        let Self::Local(kind, id, _) = self else { return None };
        Some(ResourceKey { kind: *kind, id: id.parse().ok()? })
    }

    /// Whether it may lead to a resource of this type.
    pub(crate) fn may_be(&self, target: ResourceType) -> bool {
        match self {
            Self::Local(kind, ..) => *kind == target,
            Self::Url(url, _) => kind_in(url) == Some(target),
            Self::Identifier(_) => true,
        }
    }
}

/// The type that the URL of a resource elsewhere names (`http://there/fhir/Patient/1`).
fn kind_in(url: &str) -> Option<ResourceType> {
    let (rest, id) = url.rsplit_once('/')?;
    id.parse::<ResourceId>().ok()?;
    rest.rsplit_once('/')?.1.parse().ok()
}

/// The parts of `Type/id` or `Type/id/_history/version`.
fn local(text: &str) -> Option<(ResourceType, &str, Option<&str>)> {
    let mut parts = text.split('/');
    let (kind, id) = (parts.next()?.parse().ok()?, parts.next()?);
    id.parse::<ResourceId>().ok()?;
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => Some((kind, id, None)),
        (Some("_history"), Some(version), None) => Some((kind, id, Some(version))),
        _ => None,
    }
}

impl ReferenceSought {
    /// Reads what is sought. `kind` is the type that a modifier names, `targets` are those that an id
    /// alone may be of, `base` is where this server is.
    pub(crate) fn parse(
        text: &str,
        kind: Option<ResourceType>,
        targets: &[ResourceType],
        base: Option<&str>,
    ) -> Result<Self, Fault> {
        // A canonical reference has its version after a bar.
        let text = escape::unescape(text).or_else(|_| Ok::<_, Fault>(text.to_owned()))?;
        let here = base.and_then(|base| text.strip_prefix(base)?.strip_prefix('/'));
        let text = here.unwrap_or(&text);
        if text.is_empty() {
            return Err("it is empty".into());
        }
        if let Some((found, id, version)) = local(text) {
            if kind.is_some_and(|kind| kind != found) {
                return Err("it is of another type than the modifier says".into());
            }
            let id = id.parse().map_err(|_| "not an id")?;
            return Ok(Self::Local(vec![found], id, version.map(str::to_owned)));
        }
        if let Ok(id) = text.parse() {
            let kinds = kind.map_or_else(|| targets.to_vec(), |kind| vec![kind]);
            return Ok(Self::Local(kinds, id, None));
        }
        if !text.contains(':') {
            return Err("not an id, Type/id or an absolute URL".into());
        }
        let (url, version) = match text.split_once('|') {
            Some((url, version)) => (url, Some(version.to_owned())),
            None => (text, None),
        };
        Ok(Self::Url(url.to_owned(), version))
    }

    /// Whether a reference is meant.
    #[must_use]
    pub fn matches(&self, found: &Reference<'_>) -> bool {
        let fits = |sought: &Option<String>, found: &Option<Cow<'_, str>>| {
            sought.is_none() || sought.as_deref() == found.as_deref()
        };
        match (self, found) {
            (Self::Local(kinds, id, version), Reference::Local(found, other, seen)) => {
                (kinds.is_empty() || kinds.contains(found))
                    && id.as_str() == other
                    && fits(version, seen)
            }
            (Self::Url(url, version), Reference::Url(found, seen)) => {
                url == found && fits(version, seen)
            }
            (Self::Identifier(sought), Reference::Identifier(found)) => {
                sought.matches(found.system.as_deref(), &found.code)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(sought: &str, found: &str) -> bool {
        let found = Reference::parse(found.into()).expect("a reference");
        ReferenceSought::parse(sought, None, &[], Some("http://here/fhir"))
            .expect("it")
            .matches(&found)
    }

    #[test]
    fn a_resource_of_this_server_is_found_by_its_id_with_or_without_type() {
        assert!(matches("Patient/1", "Patient/1") && matches("1", "Patient/1"));
        assert!(!matches("Group/1", "Patient/1") && !matches("Patient/2", "Patient/1"));
        assert!(matches("http://here/fhir/Patient/1", "Patient/1"));
        assert!(matches("Patient/1", "Patient/1/_history/3"));
        assert!(!matches("Patient/1/_history/2", "Patient/1/_history/3"));
    }

    #[test]
    fn an_id_alone_is_of_a_type_that_may_be_meant() {
        let [patient, group] = ["Patient", "Group"].map(|name| name.parse().expect("a type"));
        let matches = |kind, targets: &[_]| {
            let sought = ReferenceSought::parse("1", kind, targets, None).expect("it");
            sought.matches(&Reference::parse("Patient/1".into()).expect("a reference"))
        };

        assert!(matches(None, &[]) && matches(None, &[group, patient]));
        assert!(!matches(None, &[group]) && !matches(Some(group), &[patient]));
        assert!(ReferenceSought::parse("Patient/1", Some(group), &[], None).is_err());
    }

    #[test]
    fn other_urls_are_compared_as_they_are_and_canonical_ones_without_version_too() {
        assert!(matches("http://there/fhir/Patient/1", "http://there/fhir/Patient/1"));
        assert!(!matches("Patient/1", "http://there/fhir/Patient/1"));
        assert!(matches("http://a.org/vs", "http://a.org/vs|2"));
        assert!(!matches("http://a.org/vs|1", "http://a.org/vs|2"));
        assert!(Reference::parse("#contained".into()).is_none());
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "Nonsense/1", "a b", "Patient/1/2"] {
            assert!(ReferenceSought::parse(text, None, &[], None).is_err(), "{text}");
        }
    }
}
