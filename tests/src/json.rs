//! This module compares JSON to the letter: the text of every number and string counts, and the
//! order of members.

use std::fmt;

/// A JSON value whose numbers and strings are kept as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `true`, `false`, `null` or a number, as written.
    Atom(String),
    /// A string, as written between its quotes.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object, in the order of its members.
    Members(Vec<(String, Self)>),
}

/// Where two values differ first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path to the place, such as `name[0].family`.
    pub path: String,
    /// What was expected there.
    pub expected: String,
    /// What was found there.
    pub found: String,
}

impl Json {
    /// Reads a document that is known to be valid.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value();
        reader.space();
        assert_eq!(reader.at, text.len(), "something follows the document");
        value
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Members(members) = self else { return None };
        members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// The string under this name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values of the array under this name; none if there is no array.
    #[must_use]
    pub fn list(&self, name: &str) -> &[Self] {
        match self.member(name) {
            Some(Self::List(values)) => values,
            _ => &[],
        }
    }

    /// A resource without what a server sets: `id`, `meta.versionId`, `meta.lastUpdated`. Its type
    /// and what is left of `meta` come first, as a server sends them.
    #[must_use]
    pub fn as_sent(self) -> Self {
        let Self::Members(members) = self else { return self };
        let (mut head, mut meta, mut body) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in members {
            match (name.as_str(), value) {
                ("id", _) => {}
                ("resourceType", value) => head.push((name, value)),
                ("meta", Self::Members(inner)) => {
                    let own = |(name, _): &(String, Self)| {
                        !matches!(name.as_str(), "versionId" | "lastUpdated")
                    };
                    meta.extend(inner.into_iter().filter(own));
                }
                (_, value) => body.push((name, value)),
            }
        }
        head.push(("meta".to_owned(), Self::Members(meta)));
        head.extend(body);
        Self::Members(head)
    }

    /// The value with every string changed by `change`, which also gets the name of the member that
    /// holds the string, directly or in a list.
    #[must_use]
    pub fn map_texts(self, change: &dyn Fn(&str, String) -> String) -> Self {
        self.map_named("", change)
    }

    fn map_named(self, name: &str, change: &dyn Fn(&str, String) -> String) -> Self {
        match self {
            Self::Text(text) => Self::Text(change(name, text)),
            Self::List(values) => {
                Self::List(values.into_iter().map(|value| value.map_named(name, change)).collect())
            }
            Self::Members(members) => {
                let inner = members.into_iter().map(|(name, value)| {
                    let value = value.map_named(&name, change);
                    (name, value)
                });
                Self::Members(inner.collect())
            }
            Self::Atom(_) => self,
        }
    }

    /// The first place where `found` differs from this value.
    #[must_use]
    pub fn difference(&self, found: &Self) -> Option<Difference> {
        self.difference_at(found, String::new())
    }

    fn difference_at(&self, found: &Self, path: String) -> Option<Difference> {
        match (self, found) {
            (Self::List(one), Self::List(other)) if one.len() == other.len() => {
                one.iter().zip(other).enumerate().find_map(|(place, (one, other))| {
                    one.difference_at(other, format!("{path}[{place}]"))
                })
            }
            (Self::Members(one), Self::Members(other)) if names(one).eq(names(other)) => {
                one.iter().zip(other).find_map(|((name, one), (_, other))| {
                    let dot = if path.is_empty() { "" } else { "." };
                    one.difference_at(other, format!("{path}{dot}{name}"))
                })
            }
            _ if self == found => None,
            _ => Some(Difference { path, expected: self.to_string(), found: found.to_string() }),
        }
    }
}

fn names(members: &[(String, Json)]) -> impl Iterator<Item = &String> {
    members.iter().map(|(name, _)| name)
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Atom(text) => f.write_str(text),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(values) => {
                f.write_str("[")?;
                for (place, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if place == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Members(members) => {
                f.write_str("{")?;
                for (place, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}\"{name}\":{value}", if place == 0 { "" } else { "," })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, expected, found } = self;
        write!(f, "at {path:?}: expected {expected:.400}, found {found:.400}")
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Json {
        self.space();
        match self.peek() {
            b'{' => Json::Members(self.items(b'}', |reader| {
                reader.space();
                let name = reader.string();
                reader.space();
                reader.expect(b':');
                (name, reader.value())
            })),
            b'[' => Json::List(self.items(b']', Self::value)),
            b'"' => Json::Text(self.string()),
            _ => Json::Atom(self.take_while(|byte| !b",]} \t\r\n".contains(&byte))),
        }
    }

    fn items<T>(&mut self, close: u8, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        self.at += 1;
        self.space();
        let mut items = Vec::new();
        while self.peek() != close {
            items.push(item(self));
            self.space();
            if self.peek() != close {
                self.expect(b',');
                self.space();
            }
        }
        self.at += 1;
        items
    }

    fn string(&mut self) -> String {
        self.expect(b'"');
        let mut escaped = false;
        let text = self.take_while(|byte| {
            let inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            inside
        });
        self.expect(b'"');
        text
    }

    fn take_while(&mut self, mut takes: impl FnMut(u8) -> bool) -> String {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| !takes(byte)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn space(&mut self) {
        self.take_while(|byte| byte.is_ascii_whitespace());
    }

    fn peek(&self) -> u8 {
        *self.text.as_bytes().get(self.at).expect("the document ends early")
    }

    fn expect(&mut self, byte: u8) {
        assert_eq!(char::from(self.peek()), char::from(byte), "at byte {}", self.at);
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(expected: &str, found: &str) -> Option<String> {
        Json::parse(expected).difference(&Json::parse(found)).map(|difference| difference.path)
    }

    #[test]
    fn a_document_survives_its_parts() {
        let text = r#"{"a":[1.10,-0.0e+5,true,null,"x\"\\"],"b":{},"c":[]}"#;

        assert_eq!(Json::parse(text).to_string(), text);
        assert_eq!(Json::parse(" { \"a\" : [ 1 , 2 ] } ").to_string(), r#"{"a":[1,2]}"#);
    }

    #[test]
    fn finds_what_differs_by_a_letter() {
        assert_eq!(difference(r#"{"a":[{"b":1.0}]}"#, r#"{"a":[{"b":1.0}]}"#), None);
        assert_eq!(
            difference(r#"{"a":[{"b":1.0}]}"#, r#"{"a":[{"b":1}]}"#).as_deref(),
            Some("a[0].b")
        );
        assert_eq!(difference(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#).as_deref(), Some(""));
        assert_eq!(difference(r#"{"a":"\u00e4"}"#, r#"{"a":"ä"}"#).as_deref(), Some("a"));
        assert_eq!(difference(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#).as_deref(), Some("a"));
    }

    #[test]
    fn leaves_out_what_a_server_sets_and_nothing_else() {
        let sent = r#"{"id":"x","resourceType":"Patient","contained":[{"id":"c"}],"active":true}"#;
        let read = r#"{"resourceType":"Patient","id":"y","meta":{"versionId":"1","lastUpdated":"2"},
            "contained":[{"id":"c"}],"active":true}"#;

        assert_eq!(Json::parse(sent).as_sent(), Json::parse(read).as_sent());
        let other = read.replace(r#""id":"c""#, r#""id":"d""#);
        assert_ne!(Json::parse(sent).as_sent(), Json::parse(&other).as_sent());
    }
}
