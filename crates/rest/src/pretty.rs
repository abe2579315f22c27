//! This module writes JSON for people (`_pretty=true`; FHIR R4, http, 3.1.0.1.11): values stay to the letter.

/// The same JSON with a line per member and item.
pub(crate) fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut bytes = json.iter().copied().filter(|byte| !byte.is_ascii_control()).peekable();
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b' ' => {}
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if_eq(&b' ').is_some() {}
                if let Some(close) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                out.push(byte);
                in_string = true;
            }
            _ => out.push(byte),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_a_line_and_values_stay_to_the_letter() {
        let json = br#"{"a":1.00,"b":[],"c":[{"d":"x, {\"y\\":[\"]"} , null],"e":{ },"f":"\\"}"#;
        let text = String::from_utf8(pretty(json)).expect("it was text");
        let expected =
            "{\n  \"a\": 1.00,\n  \"b\": [],\n  \"c\": [\n    {\n      \"d\": \"x, {\\\"y\\\\\"";
        assert!(text.starts_with(expected), "{text}");
        let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let sound = br#"{"a":1.00,"b":[],"c":[{"d":"x, {\"y\":[\"]"},null],"e":{},"f":"\\"}"#;
        let shown = pretty(sound);
        assert_eq!(read(&shown), read(sound));
        assert!(read(&shown).is_some());
        assert_eq!(shown.split(|byte| *byte == b'\n').count(), 13);
    }
}
