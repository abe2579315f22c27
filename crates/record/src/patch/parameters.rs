//! This module reads and applies FHIRPath Patch (FHIR R4, fhirpatch): operations in a Parameters
//! resource that add, insert, delete, replace or move elements.

use std::borrow::Cow;

use super::edit::{Json, Step, fits};
use super::fhirpath::{Path, Place};
use super::{Unpatchable, malformed};
use crate::invalid::Invalid;
use crate::json::Value;
use crate::kind::ResourceType;
use crate::limits;
use crate::tree::ElementType;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    path: Path,
    does: Does,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Does {
    Add { name: Box<str>, value: New },
    Insert { index: usize, value: New },
    Delete,
    Replace { value: New },
    Move { source: usize, destination: usize },
}

/// A value that is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum New {
    /// Of a data type, as in `valueHumanName`; the name of the type as it ends that of an element.
    Typed(Box<str>, Json),
    /// A resource.
    Resource(Json),
    /// Elements of a type that has no name: each by its name.
    Parts(Vec<(Box<str>, Self)>),
}

/// Reads the operations of a Parameters resource that was checked.
pub(super) fn read(root: Value<'_>) -> Result<Vec<Operation>, Invalid> {
    let parameters = root.member("parameter").into_iter().flat_map(Value::children);
    let parameters: Vec<_> = parameters.collect();
    if parameters.len() > limits::MAX_PATCH_OPERATIONS {
        let most = limits::MAX_PATCH_OPERATIONS;
        return Err(malformed(root, format!("a patch has {most} operations at the most")));
    }
    if parameters.is_empty() {
        return Err(malformed(root, "a FHIRPath Patch has at least one operation"));
    }
    parameters.into_iter().map(read_operation).collect()
}

fn read_operation(parameter: Value<'_>) -> Result<Operation, Invalid> {
    if name_of(parameter).as_deref() != Some("operation") {
        return Err(malformed(parameter, "each parameter of a FHIRPath Patch is an \"operation\""));
    }
    let part = |wanted: &str| {
        let parts = parameter.member("part").into_iter().flat_map(Value::children);
        parts.into_iter().find(|part| name_of(*part).as_deref() == Some(wanted))
    };
    let needed = |wanted: &str| {
        part(wanted).ok_or_else(|| malformed(parameter, format!("the part {wanted:?} is missing")))
    };
    let text = |wanted: &str| {
        let part = needed(wanted)?;
        let value = value_of(part).and_then(|(_, value)| value.string());
        value.ok_or_else(|| malformed(part, format!("{wanted} is no text")))
    };
    let number = |wanted: &str| {
        let part = needed(wanted)?;
        let value = value_of(part).and_then(|(_, value)| value.text().parse::<usize>().ok());
        value.ok_or_else(|| malformed(part, format!("{wanted} is no number of a place")))
    };
    let value = || New::read(needed("value")?);
    let does = match &*text("type")? {
        "add" => Does::Add { name: (&*text("name")?).into(), value: value()? },
        "insert" => Does::Insert { index: number("index")?, value: value()? },
        "delete" => Does::Delete,
        "replace" => Does::Replace { value: value()? },
        "move" => Does::Move { source: number("source")?, destination: number("destination")? },
        other => {
            let known = "add, insert, delete, replace or move";
            return Err(malformed(parameter, format!("the type is {other:?}, not {known}")));
        }
    };
    let path = Path::parse(&text("path")?).map_err(|reason| malformed(parameter, reason))?;
    Ok(Operation { path, does })
}

/// The name of a parameter or part.
fn name_of(parameter: Value<'_>) -> Option<Cow<'_, str>> {
    parameter.member("name").and_then(Value::string)
}

/// The value of a part, and the name of its type.
fn value_of(part: Value<'_>) -> Option<(Box<str>, Value<'_>)> {
    part.children().find_map(|member| {
        let name = member.name();
        let kind = name.strip_prefix("value")?;
        Some((kind.into(), member))
    })
}

impl New {
    fn read(part: Value<'_>) -> Result<Self, Invalid> {
        if let Some((kind, value)) = value_of(part) {
            return Ok(Self::Typed(kind, Json::of(value)));
        }
        if let Some(resource) = part.member("resource") {
            return Ok(Self::Resource(Json::of(resource)));
        }
        let parts = part.member("part").into_iter().flat_map(Value::children);
        let parts: Vec<_> = parts
            .map(|part| {
                let name = name_of(part).unwrap_or_default();
                Ok::<_, Invalid>((name.into(), Self::read(part)?))
            })
            .collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(malformed(part, "there is no value"));
        }
        Ok(Self::Parts(parts))
    }

    /// It as an element of this name of a type: the name of the member, and the value.
    fn element(&self, parent: Option<ElementType>, name: &str) -> Result<(String, Json), String> {
        let known = parent.map(|parent| parent.element(name)).unwrap_or_default();
        let (member, kind) = match (self, &known[..]) {
            (_, []) => return Err(format!("there is no element {name:?}")),
            (_, [(member, kind)]) => (member.as_str(), *kind),
            (Self::Typed(typed, _), all) => {
                let (stem, typed) = (name, &**typed);
                let is_it = |member: &str| member.strip_prefix(stem) == Some(typed);
                let found = all.iter().find(|(member, _)| is_it(member.as_str()));
                let (member, kind) =
                    found.ok_or_else(|| format!("{name} cannot be of type {typed}"))?;
                (member.as_str(), *kind)
            }
            _ => return Err(format!("{name} is of one of several types: give value[x]")),
        };
        let value = match self {
            Self::Typed(_, value) | Self::Resource(value) => value.clone(),
            Self::Parts(parts) => {
                let mut object = Json::Object(Vec::new());
                for (name, part) in parts {
                    let (member, value) = part.element(Some(kind), name)?;
                    put(&mut object, &member, value, kind.is_list(name))?;
                }
                object
            }
        };
        Ok((member.to_owned(), value))
    }
}

/// Puts a member, or adds it to the list that it belongs to.
fn put(object: &mut Json, member: &str, value: Json, is_list: bool) -> Result<(), String> {
    match (object.member_mut(member), is_list) {
        (Some(Json::Array(items)), true) => {
            items.push(value);
            if let Some(Json::Array(beside)) = object.member_mut(&format!("_{member}")) {
                beside.push(Json::null());
            }
        }
        (Some(_), _) => return Err(format!("{member} is there already: replace it instead")),
        (None, true) => object.put(member, Json::Array(vec![value])),
        (None, false) => object.put(member, value),
    }
    Ok(())
}

/// Applies operations one after the other.
pub(super) fn apply(
    operations: &[Operation],
    kind: ResourceType,
    resource: &mut Json,
) -> Result<(), Unpatchable> {
    for (number, operation) in operations.iter().enumerate() {
        operation
            .apply(kind, resource)
            .map_err(|reason| Unpatchable { step: Some(number), reason })?;
    }
    Ok(())
}

impl Operation {
    fn apply(&self, kind: ResourceType, resource: &mut Json) -> Result<(), String> {
        match &self.does {
            Does::Add { name, value } => {
                add(resource, &one(self.path.places(kind, resource)?)?, name, value)
            }
            Does::Insert { index, value } => {
                let (place, name) = self.list(kind, resource)?;
                insert(resource, &place, &name, *index, value)
            }
            Does::Delete => {
                let places = self.path.places(kind, resource)?;
                match &places[..] {
                    [] => Ok(()),
                    [place] => {
                        delete(resource, &place.at);
                        Ok(())
                    }
                    several => Err(format!("the path leads to {} elements", several.len())),
                }
            }
            Does::Replace { value } => {
                replace(resource, &one(self.path.places(kind, resource)?)?, value)
            }
            Does::Move { source, destination } => {
                let (place, name) = self.list(kind, resource)?;
                move_item(resource, &place, &name, *source, *destination)
            }
        }
    }

    /// The element that a list stands in, and the list's name.
    fn list(&self, kind: ResourceType, resource: &Json) -> Result<(Place, String), String> {
        let split = self.path.split_name();
        let (above, name) = split.ok_or("the path does not end with the name of a list")?;
        let place = one(above.places(kind, resource)?)?;
        Ok((place, name.to_owned()))
    }
}

/// What stands at a place that was there a moment ago.
fn standing<'r>(resource: &'r mut Json, at: &[Step]) -> Result<&'r mut Json, String> {
    resource.at_mut(at).ok_or_else(|| "it is gone".to_owned())
}

/// Adds an element that is not there, or an item to one that is a list.
fn add(resource: &mut Json, place: &Place, name: &str, value: &New) -> Result<(), String> {
    let parent = place.type_in(resource);
    let (member, value) = value.element(parent, name)?;
    let is_list = parent.is_some_and(|parent| parent.is_list(name));
    if !is_list && parent.is_some_and(|parent| has(resource, &place.at, parent, name)) {
        return Err(format!("{name} is there already: replace it instead"));
    }
    room(&value, place.at.len() + 2)?;
    let object = standing(resource, &place.at)?;
    if !matches!(object, Json::Object(_)) {
        return Err(format!("a primitive value has no element {name:?}"));
    }
    put(object, &member, value, is_list)
}

/// Inserts an item into a list.
fn insert(
    resource: &mut Json,
    place: &Place,
    name: &str,
    index: usize,
    value: &New,
) -> Result<(), String> {
    let (member, value) = value.element(place.type_in(resource), name)?;
    room(&value, place.at.len() + 2)?;
    let object = standing(resource, &place.at)?;
    if object.member(&member).is_none() {
        object.put(&member, Json::Array(Vec::new()));
    }
    let Some(Json::Array(items)) = object.member_mut(&member) else {
        return Err(format!("{name} is no list"));
    };
    if index > items.len() {
        return Err(format!("{name} has {} items: there is no place {index}", items.len()));
    }
    items.insert(index, value);
    if let Some(Json::Array(beside)) = object.member_mut(&format!("_{member}"))
        && index <= beside.len()
    {
        beside.insert(index, Json::null());
    }
    Ok(())
}

/// Puts another value in the place of one, of another type perhaps.
fn replace(resource: &mut Json, place: &Place, value: &New) -> Result<(), String> {
    let (last, above) = place.at.split_last().ok_or("the resource itself stays")?;
    let (name, parent_at) = match (last, above) {
        (Step::Member(name), above) => (name, above),
        (Step::Item(_), [above @ .., Step::Member(name)]) => (name, above),
        _ => return Err("a list within a list".to_owned()),
    };
    let stem = place.within.and_then(|within| within.stem(name)).unwrap_or(name);
    let (member, value) = value.element(place.within, stem)?;
    room(&value, place.at.len())?;
    if member == **name {
        *standing(resource, &place.at)? = value;
    } else {
        let object = standing(resource, parent_at)?;
        object.take(name);
        object.take(&format!("_{name}"));
        object.put(&member, value);
    }
    Ok(())
}

/// Moves an item within a list, with the extensions of a primitive value.
fn move_item(
    resource: &mut Json,
    place: &Place,
    name: &str,
    source: usize,
    destination: usize,
) -> Result<(), String> {
    let object = standing(resource, &place.at)?;
    for (member, is_beside) in [(name.to_owned(), false), (format!("_{name}"), true)] {
        match object.member_mut(&member) {
            Some(Json::Array(items)) if items.len() > source.max(destination) => {
                let item = items.remove(source);
                items.insert(destination, item);
            }
            _ if is_beside => {}
            _ => return Err(format!("{name} has no such places")),
        }
    }
    Ok(())
}

fn one(places: Vec<Place>) -> Result<Place, String> {
    let count = places.len();
    let mut places = places.into_iter();
    match (places.next(), count) {
        (Some(place), 1) => Ok(place),
        (None, _) => Err("the path leads to nothing".to_owned()),
        (Some(_), _) => Err(format!("the path leads to {count} elements, not to one")),
    }
}

fn room(value: &Json, below: usize) -> Result<(), String> {
    let fits = fits(value, below);
    fits.then_some(())
        .ok_or_else(|| format!("it gets deeper than {} levels", limits::MAX_JSON_DEPTH))
}

/// Whether an element of this name is there, of whichever type.
fn has(resource: &Json, at: &[Step], kind: ElementType, name: &str) -> bool {
    let Some(value) = resource.at(at) else { return false };
    kind.element(name).iter().any(|(member, _)| value.member(member.as_str()).is_some())
}

/// Takes an element away, with what has nothing else in it, and with the extensions of a primitive.
fn delete(resource: &mut Json, at: &[Step]) {
    let Some((last, above)) = at.split_last() else { return };
    let emptied = match (last, above) {
        (Step::Member(name), _) => {
            let Some(object) = resource.at_mut(above) else { return };
            object.take(name);
            object.take(&format!("_{name}"));
            matches!(object, Json::Object(members) if members.is_empty())
        }
        (Step::Item(place), [outer @ .., Step::Member(name)]) => {
            let Some(object) = resource.at_mut(outer) else { return };
            for member in [name.to_string(), format!("_{name}")] {
                let Some(Json::Array(items)) = object.member_mut(&member) else { continue };
                if *place < items.len() {
                    items.remove(*place);
                }
                if items.iter().all(Json::is_null) {
                    object.take(&member);
                }
            }
            return if matches!(object, Json::Object(members) if members.is_empty()) {
                delete(resource, outer);
            };
        }
        _ => false,
    };
    if emptied {
        delete(resource, above);
    }
}
