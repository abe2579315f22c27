//! This module finds what the references in a transaction's resources refer to (FHIR R4, http,
//! 3.1.0.11.2, and bundle, 2.36.4).
//!
//! Rewritten are, where they name another entry: `Reference.reference`, with a version or fragment or
//! without; values of type uri, url, oid and uuid that equal its `fullUrl`; links and images in
//! narratives. Never canonicals, and never a resource's own canonical `url`: others refer to it by
//! canonicals, which stay.

use std::collections::HashMap;
use std::ops::Range;

use crate::command::{Link, LinkTarget};
use crate::criteria::Criteria;
use crate::invalid::ProblemSort;
use crate::json::Value;
use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::narrative;
use crate::validate::{Candidate, CandidateSort};

/// The entries of a transaction that write something, by `fullUrl`.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    by_url: HashMap<String, Target>,
}

/// An entry that can be referred to.
#[derive(Debug)]
struct Target {
    entry: usize,
    /// The resource's key, where it is known already.
    key: Option<ResourceKey>,
}

/// A string that refers to something, in the source.
#[derive(Debug)]
pub(crate) struct Found {
    /// The part to replace.
    pub(crate) source: Range<usize>,
    /// What it refers to.
    pub(crate) target: LinkTarget,
}

/// Why a reference cannot be kept.
pub(crate) type BadReference = (ProblemSort, String);

impl Targets {
    /// Takes in an entry that writes a resource. If the URL is that of another one: its number.
    pub(crate) fn insert(
        &mut self,
        url: &str,
        entry: usize,
        key: Option<&ResourceKey>,
    ) -> Result<(), usize> {
        let target = Target { entry, key: key.cloned() };
        match self.by_url.insert(url.to_owned(), target) {
            Some(other) => Err(other.entry),
            None => Ok(()),
        }
    }

    /// What a string in the resource of the entry with this `fullUrl` refers to.
    pub(crate) fn find(
        &self,
        candidate: &Candidate<'_>,
        own_url: Option<&str>,
    ) -> Result<Vec<Found>, BadReference> {
        let value = candidate.value;
        let text = value.string().unwrap_or_default();
        let found = |part: Range<usize>, target| Found { source: value.source_of(part), target };
        match candidate.sort {
            CandidateSort::Uri => {
                let target = self.by_url.get(&*text);
                let target = target.map(|target| LinkTarget::Entry(target.entry));
                Ok(target.map(|target| found(0..text.len(), target)).into_iter().collect())
            }
            CandidateSort::Narrative => {
                let links = narrative::links(&text).into_iter();
                let resolved = links.filter_map(|link| {
                    let (len, entry) = self.entry(&text[link.clone()], own_url)?;
                    Some(found(link.start..link.start + len, LinkTarget::Entry(entry)))
                });
                Ok(resolved.collect())
            }
            CandidateSort::Reference => {
                let target = self.reference(&text, own_url)?;
                Ok(target.map(|(len, target)| found(0..len, target)).into_iter().collect())
            }
        }
    }

    /// What a reference refers to, and how many of its bytes say so.
    fn reference(
        &self,
        text: &str,
        own_url: Option<&str>,
    ) -> Result<Option<(usize, LinkTarget)>, BadReference> {
        if text.starts_with('#') {
            return Ok(None);
        }
        if let Some((kind, query)) = conditional(text) {
            let criteria = Criteria::parse(kind, query).map_err(|invalid| {
                (ProblemSort::Value, format!("the conditional reference {text:?}: {invalid}"))
            })?;
            return Ok(Some((text.len(), LinkTarget::Match(criteria))));
        }
        if let Some((len, entry)) = self.entry(text, own_url) {
            return Ok(Some((len, LinkTarget::Entry(entry))));
        }
        if (text.starts_with("urn:uuid:") || text.starts_with("urn:oid:")) && !self.knows(text) {
            let reason = format!("no entry that writes a resource has the fullUrl {text:?}");
            return Err((ProblemSort::NotFound, reason));
        }
        Ok(None)
    }

    /// The URL of an entry that a value holds as a text somewhere.
    pub(crate) fn named_in(&self, value: Value<'_>) -> Option<String> {
        let text = value.string().filter(|text| self.knows(text));
        text.map(String::from).or_else(|| value.children().find_map(|child| self.named_in(child)))
    }

    /// Whether a text is the URL of an entry.
    fn knows(&self, text: &str) -> bool {
        self.by_url.contains_key(text)
    }

    /// The entry to which a URL leads, absolute or relative to that of the resource it stands in, and
    /// how many bytes are to be replaced. A version is given up, since the server will give another,
    /// except where it can only be one that the target had before.
    fn entry(&self, text: &str, own_url: Option<&str>) -> Option<(usize, usize)> {
        let url = text.split('#').next().unwrap_or(text);
        let unversioned = url.split("/_history/").next().unwrap_or(url);
        let target = match (self.by_url.get(url), self.by_url.get(unversioned), own_url) {
            (Some(target), _, _) | (None, Some(target), _) => target,
            (None, None, Some(own_url)) => {
                literal(unversioned)?;
                let (base, _) = split_base(own_url)?;
                let target = self.by_url.get(&format!("{base}{unversioned}"))?;
                if target.key.as_ref().is_some_and(|key| key.to_string() == unversioned) {
                    return None;
                }
                target
            }
            (None, None, None) => return None,
        };
        Some((url.len(), target.entry))
    }
}

/// The links of a draft: what was found, at the places where it now stands in the content.
pub(crate) fn place(found: Vec<Found>, placed: Vec<(usize, Range<usize>)>) -> Vec<Link> {
    let mut targets: Vec<_> = found.into_iter().map(|found| Some(found.target)).collect();
    placed
        .into_iter()
        .filter_map(|(number, at)| Some(Link { at, target: targets[number].take()? }))
        .collect()
}

/// `Type?query`.
fn conditional(text: &str) -> Option<(ResourceType, &str)> {
    let (kind, query) = text.split_once('?')?;
    Some((kind.parse().ok()?, query))
}

/// `Type/id`.
fn literal(text: &str) -> Option<ResourceKey> {
    let (kind, id) = text.split_once('/')?;
    Some(ResourceKey { kind: kind.parse().ok()?, id: id.parse().ok()? })
}

/// The base, with its slash, and the rest of an absolute URL that ends with `Type/id`.
fn split_base(url: &str) -> Option<(&str, ResourceKey)> {
    let (rest, id) = url.rsplit_once('/')?;
    let (base, kind) = rest.rsplit_once('/')?;
    let key = ResourceKey { kind: kind.parse().ok()?, id: id.parse::<ResourceId>().ok()? };
    Some((&url[..=base.len()], key))
}
