//! This module tests the JSON reader: to the letter, within its limits, never panicking.

use proptest::prelude::*;

use super::*;

fn fault(text: &[u8]) -> (Fault, usize, usize) {
    let error = Document::parse(text).expect_err("it is refused");
    (error.fault, error.position.line, error.position.column)
}

fn minified(text: &str) -> String {
    let document = Document::parse(text.as_bytes()).expect("it is taken");
    let mut writer = Minifier::new(Vec::new(), &[]);
    writer.value(document.root());
    String::from_utf8(writer.out).expect("what is written is text")
}

#[test]
fn names_the_place_and_the_fault() {
    let unexpected = |found, expected| Fault::Unexpected { found, expected };
    let cases: &[(&[u8], Fault, usize, usize)] = &[
        (b"", Fault::Ended { expected: "a value" }, 1, 1),
        (b"\n  x", unexpected('x', "a value"), 2, 3),
        ("{\"ü\": ü}".as_bytes(), unexpected('ü', "a value"), 1, 7),
        (b"[1,]", unexpected(']', "a value"), 1, 4),
        (b"{\"a\":1,}", unexpected('}', "a name in quotes"), 1, 8),
        (b"{\"a\" 1}", unexpected('1', "a colon"), 1, 6),
        (b"{\"a\":1 \"b\":2}", unexpected('"', "a comma or the end of the object"), 1, 8),
        (b"[1 2]", unexpected('2', "a comma or the end of the array"), 1, 4),
        (b"{} x", Fault::Trailing, 1, 4),
        (b"01", Fault::Trailing, 1, 2),
        (b"-", Fault::Ended { expected: "a digit" }, 1, 2),
        (b"1.e5", unexpected('e', "a digit"), 1, 3),
        (b"tru", unexpected('t', "a value"), 1, 1),
        (b"\"a", Fault::Ended { expected: "the closing quote of a string" }, 1, 3),
        (b"\"a\nb\"", Fault::ControlCharacter, 1, 3),
        (b"\"\\x\"", unexpected('x', "an escape that JSON knows"), 1, 3),
        (b"\"\\u12g4\"", unexpected('g', "a hexadecimal digit"), 1, 6),
        (b"\"\\ud800\"", Fault::LoneSurrogate, 1, 2),
        (b"\"\\ud800\\u0041\"", Fault::LoneSurrogate, 1, 2),
        (b"\"\\udc00\"", Fault::LoneSurrogate, 1, 2),
        (b"{\"a\":1,\n\"a\":2}", Fault::Duplicate { name: "a".into() }, 2, 1),
        (b"{\"a\":1,\"\\u0061\":2}", Fault::Duplicate { name: "a".into() }, 1, 8),
        (b"\xef\xbb\xbf{}", Fault::ByteOrderMark, 1, 1),
        (b"{\"a\":\n\"\xff\"}", Fault::Encoding, 2, 2),
    ];
    for (text, expected, line, column) in cases {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(fault(text), (expected.clone(), *line, *column), "{shown}");
    }
}

#[test]
fn keeps_to_its_limits() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let wide = |members: usize| {
        let members: Vec<String> = (0..members).map(|n| format!("\"n{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let named = |len: usize| format!("{{\"{}\":1}}", "n".repeat(len));
    assert!(Document::parse(deep(limits::MAX_JSON_DEPTH).as_bytes()).is_ok());
    assert!(Document::parse(wide(limits::MAX_MEMBERS).as_bytes()).is_ok());
    assert!(Document::parse(named(limits::MAX_NAME_BYTES).as_bytes()).is_ok());
    assert_eq!(fault(deep(limits::MAX_JSON_DEPTH + 1).as_bytes()).0, Fault::TooDeep);
    assert_eq!(fault(wide(limits::MAX_MEMBERS + 1).as_bytes()).0, Fault::TooManyMembers);
    assert_eq!(fault(named(limits::MAX_NAME_BYTES + 1).as_bytes()).0, Fault::NameTooLong);

    let many = format!("[{}0]", "0,".repeat(limits::MAX_JSON_VALUES));
    assert_eq!(fault(many.as_bytes()).0, Fault::TooManyValues);
}

#[test]
fn writes_strings_and_numbers_to_the_letter() {
    for (text, expected) in [
        (" { } ", "{}"),
        ("[ 1.50 , -0.0e+5 ,\t1E400 ]", "[1.50,-0.0e+5,1E400]"),
        (
            "{\n \"a\\u00e4\" : \"\\/\\u0041 \\ud83d\\ude00 ü\"\r\n}",
            "{\"a\\u00e4\":\"\\/\\u0041 \\ud83d\\ude00 ü\"}",
        ),
        ("{\"a\":[ ],\"b\":[{ },null, true,false]}", "{\"a\":[],\"b\":[{},null,true,false]}"),
    ] {
        assert_eq!(minified(text), expected);
        assert_eq!(minified(expected), expected);
    }
}

#[test]
fn tells_where_wanted_parts_are_written() {
    let text = "{ \"a\" : \"one\", \"b\" : [ \"two\" , \"th\\u0072ee\" ] }";
    let document = Document::parse(text.as_bytes()).unwrap();
    let part = |found: &str| text.find(found).map(|at| at..at + found.len()).unwrap();
    let wanted = [part("ne"), part("two"), part("th\\u0072")];

    let mut writer = Minifier::new(b"xx".to_vec(), &wanted);
    writer.value(document.root());

    let written = String::from_utf8(writer.out).unwrap();
    let found: Vec<&str> = writer.placed.iter().map(|(_, place)| &written[place.clone()]).collect();
    assert_eq!(found, ["ne", "two", "th\\u0072"]);
}

#[test]
fn finds_parts_of_escaped_strings_in_the_source() {
    let text = r#"["a\n\u00e4\ud83d\ude00bc", "plain"]"#;
    let document = Document::parse(text.as_bytes()).unwrap();
    let strings: Vec<Value<'_>> = document.root().children().collect();

    let decoded = strings[0].string().unwrap();
    let at = decoded.find("😀b").unwrap();
    assert_eq!(&text[strings[0].source_of(at..at + 5)], r"\ud83d\ude00b");
    assert_eq!(&text[strings[1].source_of(1..3)], "la");
}

#[test]
fn finds_members_and_lineage() {
    let text = r#"{"a":{"b":[1,{"c\u0064":2}]},"e":3}"#;
    let document = Document::parse(text.as_bytes()).unwrap();
    let inner = document.root().member("a").and_then(|a| a.member("b")).unwrap();
    let last = inner.children().last().and_then(|object| object.member("cd")).unwrap();
    assert_eq!(last.text(), "2");
    let lineage: Vec<String> = last.lineage().iter().map(|v| v.name().into_owned()).collect();
    assert_eq!(lineage, ["", "a", "b", "", "cd"]);
    assert!(document.root().member("b").is_none());
    assert_eq!(document.root().at(text.find('2').unwrap()).text(), "2");
}

/// Some JSON, with all that a text of it can have.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Into::into),
        ".*".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".*", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same_and_takes_no_space(value in json(), pretty: bool) {
        let compact = serde_json::to_string(&value).unwrap();
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { compact.clone() };
        prop_assert_eq!(minified(&text), compact);
    }

    #[test]
    fn takes_what_serde_json_takes(text in r#"[\[\]{}:,"\\ \n0-9eE.+\-truefalsnbx/]{0,24}"#) {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let ours = Document::parse(text.as_bytes());
        match (ours, theirs) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            (Err(InvalidJson { fault: Fault::Duplicate { .. }, .. }), Ok(_)) => {}
            // A number that no f64 holds is JSON nevertheless.
            (Ok(_), Err(error)) if error.to_string().contains("out of range") => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} {theirs:?}"),
        }
    }

    #[test]
    fn strings_mean_what_serde_json_says(text in ".*", escaped: bool) {
        let source = if escaped {
            let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{}\"", units.concat())
        } else {
            serde_json::to_string(&text).unwrap()
        };
        let document = Document::parse(source.as_bytes()).unwrap();
        prop_assert_eq!(document.root().string().unwrap(), text);
    }

    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = Document::parse(&bytes);
    }
}
