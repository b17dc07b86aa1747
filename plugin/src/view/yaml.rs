//! JSON values as YAML, in the form that kubectl prints.
//!
//! In comes a value, out goes text that every YAML reader takes for the same value. Strings are quoted unless they are
//! certain to be read as strings by readers of YAML 1.1 and 1.2 alike; text of several lines becomes a literal block where
//! that keeps every byte. A serializer with cleverer folding is not used: what is printed here is applied to clusters.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Words that some YAML reader takes for something else than text.
const WORDS: [&str; 14] = [
    "null",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "nan",
    "inf",
    "none",
    "~",
    "undefined",
];

/// The value as a YAML document.
pub(crate) fn to_string(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(fields, 0, &mut text),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut text),
        other => {
            scalar(other, 0, &mut text);
            text.push('\n');
        }
    }
    text
}

/// One item of a list at the top level: `- ` and the value indented by two.
pub(crate) fn item(value: &Value) -> String {
    let mut text = String::new();
    sequence(std::slice::from_ref(value), 0, &mut text);
    text
}

fn mapping(fields: &Map<String, Value>, depth: usize, text: &mut String) {
    for (position, (key, value)) in fields.iter().enumerate() {
        if position > 0 {
            indent(depth, text);
        }
        string(key, None, text);
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                indent(depth + 1, text);
                mapping(fields, depth + 1, text);
            }
            // kubectl does not indent a list below its key.
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                indent(depth, text);
                sequence(items, depth, text);
            }
            other => {
                text.push(' ');
                scalar(other, depth + 1, text);
                text.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, text: &mut String) {
    for (position, value) in items.iter().enumerate() {
        if position > 0 {
            indent(depth, text);
        }
        text.push_str("- ");
        match value {
            Value::Object(fields) if !fields.is_empty() => mapping(fields, depth + 1, text),
            Value::Array(items) if !items.is_empty() => sequence(items, depth + 1, text),
            other => {
                scalar(other, depth + 1, text);
                text.push('\n');
            }
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::String(value) => string(value, Some(depth), text),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
        // JSON's null, booleans and numbers are YAML's.
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// `block`: the depth of a literal block, where one is allowed.
fn string(value: &str, block: Option<usize>, text: &mut String) {
    match block {
        Some(depth) if is_block(value) => literal(value, depth, text),
        _ if is_plain(value) => text.push_str(value),
        _ => quoted(value, text),
    }
}

fn is_plain(value: &str) -> bool {
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let ends_well = value.ends_with(|c: char| !matches!(c, ' ' | ':'));
    starts_well
        && ends_well
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " -_./:=@+()*,;%&<>$^~!?'".contains(c))
        && !value.contains(": ")
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}

/// Double quotes with JSON's escapes, which are YAML's too, and an escape for what YAML does not allow to stand alone.
fn quoted(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if must_be_escaped(c) => {
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(text, "\\x{code:02x}"),
                    code => write!(text, "\\u{code:04x}"),
                };
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn must_be_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a literal block keeps every byte: several lines, none of them with blanks at its ends that a reader could
/// count as indentation or that a person could not see.
fn is_block(value: &str) -> bool {
    let lines: Vec<&str> = value.split('\n').collect();
    value.trim_end_matches('\n').contains('\n')
        && !value.starts_with([' ', '\n'])
        && value
            .chars()
            .all(|c| c == '\n' || c == '\t' || !must_be_escaped(c))
        && lines
            .iter()
            .all(|line| !line.ends_with([' ', '\t']) && !line.starts_with('\t'))
}

fn literal(value: &str, depth: usize, text: &mut String) {
    let body = value.trim_end_matches('\n');
    text.push_str(match value.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    let kept = value.strip_suffix('\n').unwrap_or(value);
    for line in kept.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            indent(depth, text);
            text.push_str(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }

    #[test]
    fn an_object_reads_like_kubectls() {
        let object = json!({
            "apiVersion": "v1",
            "data": { "config.yaml": "a: 1\nb:\n  - c\n", "flag": "true", "empty": "", "port": "8080" },
            "kind": "ConfigMap",
            "metadata": { "annotations": {}, "name": "web", "finalizers": ["a/b"], "generation": 3 },
            "subjects": [{ "kind": "Group", "name": "system:masters" }, { "items": [] }],
        });
        let expected = "\
apiVersion: v1
data:
  config.yaml: |
    a: 1
    b:
      - c
  empty: \"\"
  flag: \"true\"
  port: \"8080\"
kind: ConfigMap
metadata:
  annotations: {}
  finalizers:
  - a/b
  generation: 3
  name: web
subjects:
- kind: Group
  name: system:masters
- items: []
";
        assert_eq!(to_string(&object), expected);
        assert_eq!(read(expected), object);
    }

    #[test]
    fn strings_stay_strings() {
        for text in [
            "yes",
            "No",
            "ON",
            "null",
            "~",
            "1",
            "1e3",
            "0x1f",
            "0o7",
            "1_000",
            "12:30:45",
            "2026-11-22",
            ".5",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "a,b",
            "|",
            ">",
            "'a'",
            "\"a\"",
            " a",
            "a ",
            "a:",
            "\t",
            "\n",
            "\n\n",
            "a\n",
            "a\nb",
            "a\nb\n",
            "a\nb\n\n\n",
            " a\nb",
            "a\n b\n",
            "a \nb",
            "a\n\n\nb",
            "\u{feff}a",
            "\u{85}",
            "\u{2028}",
            "a\\b",
            "---",
            "...",
            "=",
            "<<",
            "日本",
            "\x7f",
            "\0",
            "a\r\nb",
            "? a",
            "a\n---\nb",
            "a\n\tb",
        ] {
            let value = json!({ "key": text, text: [text, { "inner": text }] });
            assert_eq!(
                read(&to_string(&value)),
                value,
                "{text:?}:\n{}",
                to_string(&value)
            );
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ \\-:#a\n\t'\"|>{}\\[\\],&*!%@`?0-9~.]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\\-:. /\n]{0,6}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value in values()) {
            let text = to_string(&value);
            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
