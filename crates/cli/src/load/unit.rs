//! This module holds what is sent as one request: a bundle as it was found, loose resources grouped
//! into a transaction, or a resource that must not be part of one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use sha2::{Digest as _, Sha256};

/// Where something was found, as it is told to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file.
    pub(super) file: Arc<str>,
    /// Where in the file.
    pub(super) at: At,
}

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// All of it.
    Whole,
    /// A line, counted from one.
    Line(u64),
    /// An entry of a bundle, counted from zero as in FHIRPath.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            At::Whole => f.write_str(&self.file),
            At::Line(line) => write!(f, "{}, line {line}", self.file),
            At::Entry(entry) => write!(f, "{}, entry[{entry}]", self.file),
        }
    }
}

/// A resource that stands by itself.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Where it was found.
    pub(super) place: Place,
    /// Its type.
    pub(super) kind: String,
    /// Its id; without one it is created.
    pub(super) id: Option<String>,
    /// The name by which others in the same bundle refer to it.
    pub(super) full_url: Option<String>,
    /// Its text, to the letter.
    pub(super) text: Bytes,
}

impl Item {
    /// Where it is written, below the endpoint.
    fn url(&self) -> String {
        match &self.id {
            Some(id) => format!("{}/{id}", self.kind),
            None => self.kind.clone(),
        }
    }

    /// What it asks of the server.
    fn asked(&self) -> Asked {
        Asked {
            verb: if self.id.is_some() { Verb::Put } else { Verb::Post },
            kind: self.kind.clone(),
        }
    }

    fn write_entry(&self, out: &mut Vec<u8>) {
        let verb = if self.id.is_some() { "PUT" } else { "POST" };
        out.push(b'{');
        if let Some(full_url) = &self.full_url {
            out.extend_from_slice(format!(r#""fullUrl":{},"#, quoted(full_url)).as_bytes());
        }
        out.extend_from_slice(br#""resource":"#);
        out.extend_from_slice(self.text.trim_ascii());
        let url = quoted(&self.url());
        out.extend_from_slice(
            format!(r#","request":{{"method":"{verb}","url":{url}}}}}"#).as_bytes(),
        );
    }
}

/// What an entry asks of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// What is done.
    pub(super) verb: Verb,
    /// To which type.
    pub(super) kind: String,
}

/// The verb of an entry, as far as the count tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// A create, perhaps a conditional one.
    Post,
    /// An update.
    Put,
    /// Anything else.
    Other,
}

/// The name of a content: the same bytes have the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest([u8; 16]);

impl Digest {
    /// The digest of these bytes, one after the other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash.first_chunk().copied().expect("32 bytes hold 16"))
    }

    /// The digest that this text, as displayed, names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then(|| Self(number.to_be_bytes()))
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is sent as one request.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    content: Content,
    place: Place,
    body: Bytes,
    digest: Digest,
}

#[derive(Clone, Debug)]
enum Content {
    /// A transaction or batch made elsewhere: it stays whole.
    Bundle(Vec<Asked>),
    /// Resources that stand by themselves: they may be sent in any grouping.
    Group(Vec<Item>),
    /// A resource that is sent by itself, to its own address.
    Single(Asked, String),
}

impl Unit {
    /// A transaction or batch bundle with what its entries ask for.
    pub(super) fn bundle(place: Place, body: Bytes, asked: Vec<Asked>) -> Self {
        let digest = Digest::of(&[&body]);
        Self { content: Content::Bundle(asked), place, body, digest }
    }

    /// A transaction of loose resources, at least one.
    pub(super) fn group(items: Vec<Item>) -> Self {
        let place = items.first().expect("a group has items").place.clone();
        let body = transaction(&items);
        let digest = Digest::of(&[&body]);
        Self { content: Content::Group(items), place, body, digest }
    }

    /// A resource by itself. So are documents sent: what their entries call each other is their own
    /// affair, not that of a transaction around them.
    pub(super) fn single(item: Item) -> Self {
        let asked = item.asked();
        let path = item.url();
        let digest = Digest::of(&[path.as_bytes(), b" ", &item.text]);
        Self { content: Content::Single(asked, path), place: item.place, body: item.text, digest }
    }

    /// A transaction of resources that refer to each other by `urn:uuid`: it stays whole.
    pub(super) fn bound(place: Place, items: &[Item]) -> Self {
        Self::bundle(place, transaction(items), items.iter().map(Item::asked).collect())
    }

    /// Where it begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where its entry of this number was found.
    pub(super) fn entry_place(&self, entry: usize) -> Place {
        match &self.content {
            Content::Group(items) => {
                items.get(entry).map_or(&self.place, |item| &item.place).clone()
            }
            Content::Single(..) => self.place.clone(),
            Content::Bundle(_) => Place { file: self.place.file.clone(), at: At::Entry(entry) },
        }
    }

    /// The name of its content.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// How and where, below the endpoint, it is sent.
    pub(super) fn request(&self) -> (Method, &str) {
        match &self.content {
            Content::Single(asked, path) if asked.verb == Verb::Put => (Method::PUT, path),
            Content::Single(_, path) => (Method::POST, path),
            Content::Bundle(_) | Content::Group(_) => (Method::POST, ""),
        }
    }

    /// The body to send.
    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// How many entries it has.
    pub(super) fn entries(&self) -> usize {
        match &self.content {
            Content::Bundle(asked) => asked.len(),
            Content::Group(items) => items.len(),
            Content::Single(..) => 1,
        }
    }

    /// What its entry of this number asks for.
    pub(super) fn asked(&self, entry: usize) -> Option<Asked> {
        match &self.content {
            Content::Bundle(asked) => asked.get(entry).cloned(),
            Content::Group(items) => items.get(entry).map(Item::asked),
            Content::Single(asked, _) => (entry == 0).then(|| asked.clone()),
        }
    }

    /// A reason of the server's in terms of what was found, where that is one resource: it need not
    /// know of the transaction made around it.
    pub(super) fn in_own_terms(&self, reason: &str) -> String {
        match &self.content {
            Content::Group(items) if items.len() == 1 => {
                reason.replace("Bundle.entry[0].resource", &items[0].kind)
            }
            _ => reason.to_owned(),
        }
    }

    /// The two halves of a group; nothing where it must stay whole.
    pub(super) fn halves(&self) -> Option<[Self; 2]> {
        match &self.content {
            Content::Group(items) if items.len() > 1 => {
                let (first, second) = items.split_at(items.len() / 2);
                Some([Self::group(first.to_vec()), Self::group(second.to_vec())])
            }
            _ => None,
        }
    }
}

fn transaction(items: &[Item]) -> Bytes {
    let size: usize = items.iter().map(|item| item.text.len() + 200).sum();
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(br#"{"resourceType":"Bundle","type":"transaction","entry":["#);
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        item.write_entry(&mut out);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(line: u64, id: Option<&str>) -> Item {
        Item {
            place: Place { file: "p.ndjson".into(), at: At::Line(line) },
            kind: "Patient".to_owned(),
            id: id.map(ToOwned::to_owned),
            full_url: None,
            text: Bytes::from_static(b"{\"resourceType\":\"Patient\",\"x\":1.10}\n"),
        }
    }

    #[test]
    fn a_group_is_a_transaction_that_keeps_ids_and_every_letter() {
        let unit = Unit::group(vec![item(1, Some("a")), item(2, None)]);

        let body = str::from_utf8(unit.body()).unwrap();
        assert!(
            body.contains(r#""x":1.10},"request":{"method":"PUT","url":"Patient/a"}}"#),
            "{body}"
        );
        assert!(body.contains(r#"{"method":"POST","url":"Patient"}"#), "{body}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        assert_eq!(unit.asked(1), Some(Asked { verb: Verb::Post, kind: "Patient".to_owned() }));
        assert_eq!(unit.entry_place(1).to_string(), "p.ndjson, line 2");
    }

    #[test]
    fn halves_hold_everything_and_one_item_has_none() {
        let unit = Unit::group((0..5).map(|line| item(line, Some("a"))).collect());

        let [first, second] = unit.halves().unwrap();

        assert_eq!((first.entries(), second.entries()), (2, 3));
        assert!(Unit::group(vec![item(1, None)]).halves().is_none());
        assert!(Unit::bundle(unit.place().clone(), Bytes::new(), Vec::new()).halves().is_none());
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::of(&[b"a", b"b"]);
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(digest, Digest::of(&[b"ab"]));
        assert_eq!(Digest::parse("12"), None);
    }
}
