//! YAML as Velero reads it: the library it uses knows the rules of YAML 1.1, where `yes` is a truth and `0644` an octal
//! number.
//!
//! In comes text; out goes its first document as JSON. Quoted text is text, plain text is resolved as go-yaml 2 does. Doubled
//! keys are an error where asked for, else the later one wins. What aliases repeat is bounded, so that a few lines cannot
//! grow into gigabytes.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// Most values in a document, those that aliases repeat included. A ConfigMap has at most 1 MiB.
const MOST_VALUES: usize = 1 << 20;

/// Deepest nesting.
const DEEPEST: usize = 200;

/// Reads the first document; empty text is null.
///
/// # Errors
/// What is wrong, with its line where it has one.
pub(crate) fn parse(text: &str, doubled_keys_are_errors: bool) -> Result<Value, String> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        values: 0,
        strict: doubled_keys_are_errors,
    };
    loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(Value::Null),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => return reader.value(event, line, 0),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    values: usize,
    strict: bool,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), String> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn value(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Value, String> {
        self.count(1, line)?;
        if depth > DEEPEST {
            return Err(format!("line {line}: nested too deeply"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref(), line)?),
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(depth)?),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or_else(|| format!("line {line}: an anchor contains itself"))?;
                self.count(size(&value), line)?;
                return Ok(value);
            }
            _ => return Err(format!("line {line}: a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn count(&mut self, values: usize, line: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MOST_VALUES {
            return Err(format!("line {line}: aliases make the document too large"));
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            items.push(self.value(event, line, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut fields = Map::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(fields));
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.value(event, line, depth + 1)?;
            let (event, _) = self.next()?;
            let value = self.value(event, line, depth + 1)?;
            if merges {
                self.merge(&mut fields, value, line)?;
            } else {
                self.set(&mut fields, key_text(&key, line)?, value, line)?;
            }
        }
    }

    fn merge(&self, fields: &mut Map<String, Value>, value: Value, line: usize) -> Result<(), String> {
        let sources = match value {
            Value::Array(sources) => sources,
            source => vec![source],
        };
        // The first of several has the last word.
        for source in sources.into_iter().rev() {
            let Value::Object(source) = source else {
                return Err(format!("line {line}: << takes a mapping or a list of mappings"));
            };
            for (key, value) in source {
                self.set(fields, key, value, line)?;
            }
        }
        Ok(())
    }

    fn set(
        &self,
        fields: &mut Map<String, Value>,
        key: String,
        value: Value,
        line: usize,
    ) -> Result<(), String> {
        if self.strict && fields.contains_key(&key) {
            return Err(format!("line {line}: {key} is set twice"));
        }
        fields.insert(key, value);
        Ok(())
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

fn key_text(key: &Value, line: usize) -> Result<String, String> {
    match key {
        Value::Null => Err(format!("line {line}: a key is null")),
        Value::Array(_) | Value::Object(_) => Err(format!("line {line}: a key is a list or mapping")),
        key => Ok(as_text(key).into_owned()),
    }
}

/// A scalar where text is expected: numbers and truths are written out again, in Go's form.
pub(crate) fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        Value::Number(number) if number.is_f64() => go_float(number.as_f64().unwrap_or_default()).into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    }
}

/// As Go's `FormatFloat(value, 'g', -1, 32)`.
#[allow(
    clippy::cast_possible_truncation,
    reason = "Velero formats it as a single-precision number"
)]
fn go_float(value: f64) -> String {
    let value = value as f32;
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, String> {
    let tag = tag.map(ToString::to_string);
    let tag = tag.as_deref().map(|tag| {
        tag.trim_start_matches("tag:yaml.org,2002:")
            .trim_start_matches('!')
    });
    let is_plain = style == ScalarStyle::Plain;
    match tag {
        None if is_plain => resolve(text, line),
        Some("int" | "float" | "bool" | "null") => {
            let value = resolve(text, line)?;
            let fits = match tag {
                Some("int") => value.is_i64() || value.is_u64(),
                Some("float") => value.is_number(),
                Some("bool") => value.is_boolean(),
                _ => value.is_null(),
            };
            if fits {
                Ok(value)
            } else {
                Err(format!("line {line}: {text} is not of the type of its tag"))
            }
        }
        _ => Ok(text.into()),
    }
}

/// What a plain scalar means.
fn resolve(text: &str, line: usize) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(true.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(false.into());
        }
        _ => {}
    }
    let lower = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    if lower == ".inf" || lower == ".nan" {
        return Err(format!(
            "line {line}: {text} is no number that JSON has; quote it"
        ));
    }
    let number = match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-') if !is_timestamp(text) => number(&text.replace('_', "")),
        Some(b'.') => text
            .parse()
            .ok()
            .filter(|_| is_float(text))
            .and_then(Number::from_f64),
        _ => None,
    };
    Ok(number.map_or_else(|| text.into(), Value::Number))
}

/// A day stays text, also where its parts would make a number with underscores.
fn is_timestamp(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && text.as_bytes().get(4) == Some(&b'-')
}

fn number(text: &str) -> Option<Number> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let has_sign = digits.starts_with(['+', '-']);
    if !has_sign {
        if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
            return Some(number.into());
        }
        if sign.is_empty()
            && !text.starts_with('+')
            && let Ok(number) = u64::from_str_radix(digits, radix)
        {
            return Some(number.into());
        }
    }
    let float = text.parse().ok().filter(|_| is_float(text));
    float.and_then(Number::from_f64)
}

/// Whole numbers lose their fraction, as they do when Go writes them.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(crate) fn without_fractions(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < 9.0e15 {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_fractions),
        Value::Object(fields) => fields.values_mut().for_each(without_fractions),
        _ => {}
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_text_means_what_it_means_to_velero() {
        for (text, expected) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("0644", json!(420)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("-12", json!(-12)),
            ("+12", json!(12)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.50", json!(1.5)),
            ("1.0", json!(1.0)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("089", json!(89.0)),
            ("1.2.3", json!("1.2.3")),
            ("2024-01-02", json!("2024-01-02")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("'5'", json!("5")),
            ("\"yes\"", json!("yes")),
            ("!!str 5", json!("5")),
            ("{a: [1, b]}", json!({"a": [1, "b"]})),
            ("5: x\nyes: a\n1.5: z", json!({"5": "x", "true": "a", "1.5": "z"})),
            (
                "a: &x {b: 1}\nc: {<<: *x, d: 2}",
                json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
            ),
            ("a: 1\n---\nb: 2", json!({"a": 1})),
            ("", json!(null)),
            ("a: |\n  x: 1\n  y\n", json!({"a": "x: 1\ny\n"})),
        ] {
            assert_eq!(parse(text, true), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "a: 1\na: 2",
            "a: [",
            "a: b: c",
            "[a]: 1",
            "a: .nan",
            "a: &x [*x]",
            "? {a: b}\n: c",
        ] {
            assert!(parse(text, true).is_err(), "{text}");
        }
        assert_eq!(parse("a: 1\na: 2", false), Ok(json!({"a": 2})));
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for names in [b"ab", b"bc", b"cd", b"de", b"ef", b"fg", b"gh", b"hi"] {
            let (before, name) = (char::from(names[0]), char::from(names[1]));
            let nine = vec![format!("*{before}"); 9].join(",");
            bomb = format!("{bomb}{name}: &{name} [{nine}]\n");
        }
        assert!(parse(&bomb, true).unwrap_err().contains("too large"));
        assert!(parse(&"[".repeat(10_000), true).is_err());
    }

    #[test]
    fn numbers_become_text_as_in_go() {
        for (number, expected) in [
            (json!(5), "5"),
            (json!(true), "true"),
            (json!(1.5), "1.5"),
            (json!(0.1), "0.1"),
            (json!(0.000_01), "1e-05"),
            (json!(1e30), "1e+30"),
            (json!(1e6), "1e+06"),
            (json!(100_000.5), "100000.5"),
            (json!(1.0), "1"),
            (json!("x"), "x"),
        ] {
            assert_eq!(as_text(&number), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-c:\\-\\[\\]{}&*!|>'\" \n0-9.~<]{0,40}") {
            let _ = parse(&text, false);
        }
    }
}
