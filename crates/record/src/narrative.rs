//! This module checks narratives: well-formed XHTML in one `div` that only formats (FHIR R4,
//! narrative, and its invariant txt-1), and finds the links in them.
//!
//! One without text is taken, against txt-2: official examples have such.

use std::ops::Range;

const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";

/// What is wrong with a narrative.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidNarrative {
    #[error("the narrative is not well-formed XHTML: {0}")]
    Malformed(String),
    #[error("the narrative must be one div element with xmlns=\"{NAMESPACE}\"")]
    Root,
    #[error("the narrative has {0}, but only formatting is allowed")]
    Forbidden(String),
}

use InvalidNarrative::{Forbidden, Malformed, Root};

/// Checks a narrative.
pub(crate) fn check(text: &str) -> Result<(), InvalidNarrative> {
    let mut tokens = Tokens { text, at: 0 };
    let mut open: Vec<&str> = Vec::new();
    let mut rooted = false;
    while let Some(token) = tokens.next()? {
        match token {
            Token::Text(run) => {
                if open.is_empty() && !run.trim().is_empty() {
                    return Err(Root);
                }
            }
            Token::Open { name, attributes, closed } => {
                if open.is_empty() && (rooted || !is_root(text, name, &attributes)) {
                    return Err(Root);
                }
                rooted = true;
                check_element(text, name, &attributes)?;
                if !closed {
                    open.push(name);
                }
            }
            Token::Close(name) => {
                if open.pop() != Some(name) {
                    return Err(Malformed(format!("</{name}> closes what is not open")));
                }
            }
        }
    }
    match open.last() {
        Some(name) => Err(Malformed(format!("<{name}> is not closed"))),
        None if !rooted => Err(Root),
        None => Ok(()),
    }
}

/// Where the values of `href` and `src` stand in a narrative that was checked.
pub(crate) fn links(text: &str) -> Vec<Range<usize>> {
    let mut tokens = Tokens { text, at: 0 };
    let mut links = Vec::new();
    while let Ok(Some(token)) = tokens.next() {
        if let Token::Open { attributes, .. } = token {
            let is_link =
                |attribute: &Attribute| matches!(&text[attribute.name.clone()], "href" | "src");
            links.extend(attributes.into_iter().filter(is_link).map(|attribute| attribute.value));
        }
    }
    links
}

fn is_root(text: &str, name: &str, attributes: &[Attribute]) -> bool {
    name == "div"
        && attributes.iter().any(|attribute| {
            &text[attribute.name.clone()] == "xmlns" && &text[attribute.value.clone()] == NAMESPACE
        })
}

fn check_element(text: &str, name: &str, attributes: &[Attribute]) -> Result<(), InvalidNarrative> {
    if !is_formatting(name) {
        return Err(Forbidden(format!("the element {name:?}")));
    }
    for (place, attribute) in attributes.iter().enumerate() {
        let attribute_name = &text[attribute.name.clone()];
        let value = text[attribute.value.clone()].trim_start();
        if attributes[..place].iter().any(|other| &text[other.name.clone()] == attribute_name) {
            return Err(Malformed(format!("<{name}> has {attribute_name} twice")));
        }
        if !is_harmless(name, attribute_name) {
            return Err(Forbidden(format!("the attribute {attribute_name:?} at {name:?}")));
        }
        let script = value.get(..11).is_some_and(|head| head.eq_ignore_ascii_case("javascript:"));
        if script && matches!(attribute_name, "href" | "src") {
            return Err(Forbidden("a script as a link".to_owned()));
        }
    }
    Ok(())
}

/// Whether an element only formats: chapters 7-11 (without section 4 of 9) and 15 of HTML 4.0,
/// links and images.
fn is_formatting(element: &str) -> bool {
    matches!(
        element,
        "a" | "abbr"
            | "acronym"
            | "address"
            | "area"
            | "b"
            | "bdo"
            | "big"
            | "blockquote"
            | "br"
            | "caption"
            | "cite"
            | "code"
            | "col"
            | "colgroup"
            | "dd"
            | "del"
            | "dfn"
            | "div"
            | "dl"
            | "dt"
            | "em"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "hr"
            | "i"
            | "img"
            | "ins"
            | "kbd"
            | "li"
            | "map"
            | "ol"
            | "p"
            | "pre"
            | "q"
            | "samp"
            | "small"
            | "span"
            | "strong"
            | "sub"
            | "sup"
            | "table"
            | "tbody"
            | "td"
            | "tfoot"
            | "th"
            | "thead"
            | "tr"
            | "tt"
            | "ul"
            | "var"
    )
}

/// Whether an attribute of an element neither acts nor loads anything but an image.
fn is_harmless(element: &str, attribute: &str) -> bool {
    let everywhere = matches!(
        attribute,
        "title"
            | "style"
            | "class"
            | "id"
            | "ID"
            | "lang"
            | "xml:lang"
            | "xml:space"
            | "dir"
            | "accesskey"
            | "tabindex"
            | "span"
            | "width"
            | "align"
            | "valign"
            | "char"
            | "charoff"
            | "abbr"
            | "axis"
            | "headers"
            | "scope"
            | "rowspan"
            | "colspan"
    );
    everywhere
        || attribute.starts_with("xmlns")
        || match element {
            "a" => matches!(
                attribute,
                "charset"
                    | "type"
                    | "name"
                    | "href"
                    | "hreflang"
                    | "rel"
                    | "rev"
                    | "shape"
                    | "coords"
                    | "target"
            ),
            "img" => matches!(
                attribute,
                "src" | "alt" | "longdesc" | "height" | "usemap" | "ismap" | "border"
            ),
            "area" => matches!(attribute, "shape" | "coords" | "href" | "nohref" | "alt"),
            "blockquote" | "q" => attribute == "cite",
            "map" => attribute == "name",
            "pre" => attribute == "space",
            "table" => matches!(
                attribute,
                "summary" | "border" | "frame" | "rules" | "cellspacing" | "cellpadding"
            ),
            "td" | "th" => attribute == "nowrap",
            _ => false,
        }
}

/// The reading of one narrative.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

enum Token<'t> {
    Open { name: &'t str, attributes: Vec<Attribute>, closed: bool },
    Close(&'t str),
    Text(&'t str),
}

/// Where an attribute stands in the text; the value without its quotes.
struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
}

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Result<Option<Token<'t>>, InvalidNarrative> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if let Some(comment) = rest.strip_prefix("<!--") {
            let end = comment.find("--").filter(|&end| comment[end..].starts_with("-->"));
            let end = end.ok_or_else(|| Malformed("a comment has no end".to_owned()))?;
            self.at += end + 7;
            return Ok(Some(Token::Text("")));
        }
        if let Some(data) = rest.strip_prefix("<![CDATA[") {
            let end = data.find("]]>");
            let end = end.ok_or_else(|| Malformed("a CDATA section has no end".to_owned()))?;
            self.at += end + 12;
            return Ok(Some(Token::Text(&data[..end])));
        }
        if rest.starts_with("</") {
            self.at += 2;
            let name = self.name()?;
            let name = &self.text[name];
            self.skip_space();
            self.expect('>', "the end of a closing tag")?;
            return Ok(Some(Token::Close(name)));
        }
        if rest.starts_with('<') {
            self.at += 1;
            return self.tag().map(Some);
        }
        let run = &rest[..rest.find('<').unwrap_or(rest.len())];
        check_entities(run)?;
        self.at += run.len();
        Ok(Some(Token::Text(run)))
    }

    /// Reads an opening tag from its name on.
    fn tag(&mut self) -> Result<Token<'t>, InvalidNarrative> {
        let name = self.name()?;
        let name = &self.text[name];
        let mut attributes = Vec::new();
        loop {
            let spaced = self.skip_space();
            let rest = &self.text[self.at..];
            if rest.starts_with("/>") || rest.starts_with('>') {
                let closed = rest.starts_with('/');
                self.at += if closed { 2 } else { 1 };
                return Ok(Token::Open { name, attributes, closed });
            }
            if !spaced {
                return Err(self.malformed("the end of a tag"));
            }
            attributes.push(self.attribute()?);
        }
    }

    fn attribute(&mut self) -> Result<Attribute, InvalidNarrative> {
        let name = self.name()?;
        self.skip_space();
        self.expect('=', "an equals sign after the name of an attribute")?;
        self.skip_space();
        let quote = self.text[self.at..].chars().next().filter(|quote| matches!(quote, '"' | '\''));
        let quote = quote.ok_or_else(|| self.malformed("a quoted value"))?;
        self.at += 1;
        let rest = &self.text[self.at..];
        let len = rest.find(quote).ok_or_else(|| Malformed("a value has no end".to_owned()))?;
        if rest[..len].contains('<') {
            return Err(Malformed("'<' in the value of an attribute".to_owned()));
        }
        check_entities(&rest[..len])?;
        let value = self.at..self.at + len;
        self.at += len + 1;
        Ok(Attribute { name, value })
    }

    /// Reads the name of an element or attribute.
    fn name(&mut self) -> Result<Range<usize>, InvalidNarrative> {
        let rest = &self.text[self.at..];
        let belongs = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_' | '-' | '.');
        let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let begins = |c: char| c.is_alphabetic() || c == '_';
        if !rest.starts_with(begins) {
            return Err(self.malformed("a name"));
        }
        let name = self.at..self.at + len;
        self.at += len;
        Ok(name)
    }

    /// Whether there was any.
    fn skip_space(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let space = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.at += space;
        space > 0
    }

    fn expect(&mut self, expected: char, what: &str) -> Result<(), InvalidNarrative> {
        if !self.text[self.at..].starts_with(expected) {
            return Err(self.malformed(what));
        }
        self.at += expected.len_utf8();
        Ok(())
    }

    fn malformed(&self, expected: &str) -> InvalidNarrative {
        Malformed(match self.text[self.at..].chars().next() {
            Some(found) => format!("{found:?} where {expected} should be"),
            None => format!("it ends where {expected} should be"),
        })
    }
}

/// Whether each `&` begins a reference to a character, by number or by one of XML's five names:
/// names of HTML are not known to XML.
fn check_entities(text: &str) -> Result<(), InvalidNarrative> {
    for (at, _) in text.match_indices('&') {
        let rest = &text[at + 1..];
        let name = &rest[..rest.find(';').unwrap_or(0)];
        let number = match (name.strip_prefix("#x"), name.strip_prefix('#')) {
            (Some(hex), _) => u32::from_str_radix(hex, 16).ok(),
            (None, Some(decimal)) => decimal.parse().ok(),
            (None, None) => None,
        };
        let known = matches!(name, "lt" | "gt" | "amp" | "quot" | "apos");
        if !known && number.and_then(char::from_u32).is_none() {
            let shown: String = rest.chars().take(10).collect();
            return Err(Malformed(format!("\"&{shown}\" is no character that XML knows")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn div(content: &str) -> String {
        format!("<div xmlns=\"{NAMESPACE}\">{content}</div>")
    }

    #[test]
    fn takes_formatting() {
        for content in [
            "text",
            "<p>a<br/>b &amp; c &#160; &#xA0;</p>",
            "<table class='t' border=\"1\"><tr><td colspan=\"2\">x</td></tr></table>",
            "<a href=\"#x\">y</a><!-- comment --><![CDATA[ <x> ]]>",
            "<img src=\"#pic\" alt=\"picture\"/>",
            "<p >spaced</p >",
        ] {
            assert_eq!(check(&div(content)), Ok(()), "{content}");
        }
        assert_eq!(check(&format!(" {} ", div("x"))), Ok(()));
    }

    #[test]
    fn refuses_what_is_not_xhtml() {
        for text in [
            "",
            "text",
            "<div>no namespace</div>",
            "<p xmlns=\"http://www.w3.org/1999/xhtml\">x</p>",
            &div("x").repeat(2),
            &format!("{}x", div("x")),
        ] {
            assert_eq!(check(text), Err(Root), "{text}");
        }
        for content in [
            "<p>",
            "</p>",
            "<p></b>",
            "a & b",
            "&nbsp;",
            "&reg;",
            "<br",
            "<p a=1>x</p>",
            "<p class='x>x</p>",
            "<!-- x",
            "<p class='x' class='y'>x</p>",
            "<1>x</1>",
            "&#0xZ;",
            "<p title='a<b'>x</p>",
            "<?php x ?>",
            "<!DOCTYPE html>",
        ] {
            assert!(matches!(check(&div(content)), Err(Malformed(_))), "{content}");
        }
    }

    #[test]
    fn refuses_what_acts() {
        for content in [
            "<script>x</script>",
            "<form>x</form>",
            "<iframe src='x'/>",
            "<p onclick='x'>x</p>",
            "<a href=' JavaScript:x()'>x</a>",
            "<link href='x'/>",
            "<object>x</object>",
        ] {
            assert!(matches!(check(&div(content)), Err(Forbidden(_))), "{content}");
        }
    }

    #[test]
    fn finds_links_and_images() {
        let text = div("<a href='Patient/1'>x</a><img alt='y' src=\"Binary/2\"/><a name='z'/>");
        let found: Vec<&str> = links(&text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["Patient/1", "Binary/2"]);
    }
}
