//! JSON patches (RFC 6902) as Velero's rules write them and its library applies them.
//!
//! In come operations whose values are text; a value is put into JSON as Velero does it: what looks like a number, a truth,
//! null, a list or a mapping is that, everything else is text, and text in quotes stays text. What goes beyond the RFC: an
//! index below zero counts from the end, and a `test` that fails leaves the object as it was without being a fault. What
//! copies add is bounded, since each of them can double an object.

use serde_json::{Map, Value};

use crate::yaml;

/// Most bytes that the copies of one patch may add to an object, the API server's own limit.
const COPIED_MAX: usize = 3 << 20;

/// Deepest nesting that an operation may make; API objects are parsed to a depth of 128.
const DEEPEST: usize = 500;

/// A list of operations.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonPatch {
    operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
struct Operation {
    kind: Kind,
    path: String,
    from: String,
    value: Value,
    /// The value as written, where it is a number: numbers are tested by their digits.
    digits: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

/// Why a patch does not change an object.
enum Stop {
    /// A test failed.
    Test,
    /// It cannot be applied.
    Fault(String),
}

impl JsonPatch {
    /// Adds an operation.
    pub(super) fn push(
        &mut self,
        operation: &str,
        from: &str,
        path: &str,
        value: &str,
    ) -> Result<(), String> {
        let kind = match operation {
            "add" => Kind::Add,
            "remove" => Kind::Remove,
            "replace" => Kind::Replace,
            "move" => Kind::Move,
            "copy" => Kind::Copy,
            "test" => Kind::Test,
            "" => return Err("a patch has no operation".to_owned()),
            other => {
                return Err(format!(
                    "operation {other:?} is unknown; write add, remove, replace, move, copy or test, in small letters"
                ));
            }
        };
        if path.is_empty() {
            return Err(format!("a patch ({operation}) has no path"));
        }
        if matches!(kind, Kind::Move | Kind::Copy) && from.is_empty() {
            return Err(format!("a patch ({operation} to {path}) has no from"));
        }
        let unusual = |text: &str| text.contains(['"', '\\']) || text.contains(char::is_control);
        if unusual(path) || unusual(from) {
            return Err(format!(
                "path {path:?} or from {from:?} holds a quote, backslash or control character"
            ));
        }
        let json = json_of(value);
        let mut parsed: Value = serde_json::from_str(&json).map_err(|_| {
            format!(
                "value {value:?} of path {path} does not give JSON ({}); put a number or text with quotes, backslashes \
                 or line ends into JSON form, such as \"\\\"text\\\"\"",
                json.chars().take(80).collect::<String>()
            )
        })?;
        let digits = parsed.is_number().then_some(json);
        yaml::without_fractions(&mut parsed);
        self.operations.push(Operation {
            kind,
            path: path.to_owned(),
            from: from.to_owned(),
            value: parsed,
            digits,
        });
        Ok(())
    }

    /// Whether an object passes all operations, which are tests.
    pub(super) fn holds(&self, object: &Map<String, Value>) -> bool {
        // Nothing but tests: nothing changes, so nothing is copied.
        let mut object = Value::Object(object.clone());
        let mut copied = 0;
        self.operations
            .iter()
            .all(|operation| operation.apply(&mut object, &mut copied).is_ok())
    }

    /// The object after all operations, or as it was if a test failed.
    pub(super) fn apply(&self, object: &Map<String, Value>) -> Result<Value, String> {
        let mut changed = Value::Object(object.clone());
        let mut copied = 0;
        for operation in &self.operations {
            match operation.apply(&mut changed, &mut copied) {
                Ok(()) => {}
                Err(Stop::Test) => return Ok(Value::Object(object.clone())),
                Err(Stop::Fault(fault)) => return Err(fault),
            }
        }
        Ok(changed)
    }
}

/// Velero's way from text to JSON.
fn json_of(value: &str) -> String {
    if let Some(inner) = value.strip_prefix('"').filter(|_| value.ends_with('"')) {
        return format!("\"{}\"", inner.strip_suffix('"').unwrap_or(inner));
    }
    let is_json = value == "null"
        || value.eq_ignore_ascii_case("true")
        || value.eq_ignore_ascii_case("false")
        || value.starts_with(['{', '['])
        || is_number_in_go(value);
    if is_json && !value.is_empty() {
        value.to_owned()
    } else {
        format!("\"{value}\"")
    }
}

/// What Go's `ParseFloat` takes; not all of it is a number in JSON.
fn is_number_in_go(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    if matches!(unsigned.as_str(), "inf" | "infinity" | "nan") {
        return unsigned != "nan" || !text.starts_with(['+', '-']);
    }
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return digits.split_once('p').is_some_and(|(mantissa, exponent)| {
            let is_hex = |char: char| char.is_ascii_hexdigit() || char == '.' || char == '_';
            !mantissa.is_empty() && mantissa.chars().all(is_hex) && exponent.parse::<i32>().is_ok()
        });
    }
    let starts = unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.');
    // Underscores may stand between digits.
    let is_digit = |part: Option<char>| part.is_some_and(|char| char.is_ascii_digit());
    let mut parts = unsigned.split('_').peekable();
    let mut separates = true;
    while let Some(part) = parts.next() {
        if let Some(next) = parts.peek() {
            separates &= is_digit(part.chars().next_back()) && is_digit(next.chars().next());
        }
    }
    starts && separates && unsigned.replace('_', "").parse::<f64>().is_ok_and(f64::is_finite)
}

impl Operation {
    /// `copied` counts the bytes that the copies so far have added.
    fn apply(&self, document: &mut Value, copied: &mut usize) -> Result<(), Stop> {
        match self.kind {
            Kind::Add => add(document, &self.path, self.value.clone()),
            Kind::Remove => remove(document, &self.path).map(drop),
            Kind::Replace => self.replace(document),
            Kind::Move => {
                let value = remove(document, &self.from)?;
                add(document, &self.path, value)
            }
            Kind::Copy => {
                let value = get(document, &self.from)?
                    .cloned()
                    .ok_or_else(|| missing("from", &self.from))?;
                *copied += value.to_string().len();
                if *copied > COPIED_MAX {
                    return Err(Stop::Fault(format!(
                        "the copies up to {} come to more than {} MiB",
                        self.path,
                        COPIED_MAX >> 20
                    )));
                }
                add(document, &self.path, value)
            }
            Kind::Test => self.test(document),
        }
    }

    fn replace(&self, document: &mut Value) -> Result<(), Stop> {
        let (parent, key) = parent(document, &self.path)?;
        match parent {
            Value::Object(fields) if key.is_empty() || fields.contains_key(&key) => {
                fields.insert(key, self.value.clone());
                Ok(())
            }
            Value::Array(items) => {
                let index = index(&key, items.len()).ok_or_else(|| missing("path", &self.path))?;
                match items.get_mut(index) {
                    Some(item) => *item = self.value.clone(),
                    None => return Err(missing("path", &self.path)),
                }
                Ok(())
            }
            _ => Err(missing("path", &self.path)),
        }
    }

    fn test(&self, document: &mut Value) -> Result<(), Stop> {
        let found = get(document, &self.path)?.filter(|value| !value.is_null());
        let holds = match (found, &self.value) {
            (None, Value::Null) => true,
            (None, _) | (_, Value::Null) => false,
            (Some(Value::Number(number)), Value::Number(_)) => {
                self.digits.as_deref() == Some(&number.to_string())
            }
            (Some(found), value) => found == value,
        };
        if holds { Ok(()) } else { Err(Stop::Test) }
    }
}

fn missing(what: &str, path: &str) -> Stop {
    Stop::Fault(format!("the object has no {path} ({what} of a patch)"))
}

/// `~1` is a slash and `~0` a tilde.
fn decoded(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// What holds the last part of a path, and that part.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Stop> {
    // What stands before the first slash is passed over, as in Velero.
    let mut parts = path.split('/').skip(1).peekable();
    let mut at = document;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return Ok((at, decoded(part)));
        }
        let next = match at {
            Value::Object(fields) => fields.get_mut(&decoded(part)),
            Value::Array(items) => index(part, items.len()).and_then(|index| items.get_mut(index)),
            _ => None,
        };
        at = next
            .filter(|next| next.is_object() || next.is_array())
            .ok_or_else(|| missing("path", path))?;
    }
    Err(missing("path", path))
}

/// A position in a list of `length`, which may be the one behind the last.
fn index(key: &str, length: usize) -> Option<usize> {
    let index: i64 = key.parse().ok()?;
    let index = if index < 0 {
        index.checked_add(i64::try_from(length).ok()?)?
    } else {
        index
    };
    usize::try_from(index).ok()
}

/// The value at a path, `None` where only the last part is missing.
fn get<'a>(document: &'a mut Value, path: &str) -> Result<Option<&'a Value>, Stop> {
    let (parent, key) = parent(document, path)?;
    match parent {
        Value::Object(fields) => Ok(fields.get(&key)),
        Value::Array(items) => index(&key, items.len())
            .and_then(|index| items.get(index))
            .map(Some)
            .ok_or_else(|| missing("path", path)),
        _ => Ok(None),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), Stop> {
    if path.split('/').count() + depth(&value) > DEEPEST {
        return Err(Stop::Fault(format!("{path} would be nested too deeply")));
    }
    let (parent, key) = parent(document, path)?;
    match parent {
        Value::Object(fields) => {
            fields.insert(key, value);
            Ok(())
        }
        Value::Array(items) if key == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            // Counted from the end, the end itself is a place too.
            let places = if key.starts_with('-') {
                items.len() + 1
            } else {
                items.len()
            };
            let index = index(&key, places).filter(|index| *index <= items.len());
            items.insert(index.ok_or_else(|| missing("path", path))?, value);
            Ok(())
        }
        _ => Err(missing("path", path)),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, Stop> {
    let (parent, key) = parent(document, path)?;
    let removed = match parent {
        Value::Object(fields) => fields.remove(&key),
        Value::Array(items) => index(&key, items.len())
            .filter(|index| *index < items.len())
            .map(|index| items.remove(index)),
        _ => None,
    };
    removed.ok_or_else(|| missing("path", path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(object: &Value, operations: &[(&str, &str, &str, &str)]) -> Result<Value, String> {
        let mut patch = JsonPatch::default();
        for (operation, from, path, value) in operations {
            patch.push(operation, from, path, value)?;
        }
        patch.apply(object.as_object().unwrap())
    }

    #[test]
    fn copies_cannot_fill_the_memory_nor_the_stack() {
        let object = json!({"a": "x".repeat(1000), "d": {}});
        let wide: Vec<String> = (0..60).map(|number| format!("/d/{number}")).collect();
        let wide: Vec<_> = wide
            .iter()
            .map(|path| ("copy", "/d", path.as_str(), ""))
            .collect();
        let filled = [&[("copy", "/a", "/d/a", "")], wide.as_slice()].concat();
        let fault = patched(&object, &filled).unwrap_err();
        assert!(fault.contains("more than 3 MiB"), "{fault}");
        // Each copy into the deepest place doubles the depth.
        let mut path = "/d".to_owned();
        let mut deep = Vec::new();
        for number in 0..20 {
            let inner = format!("{path}/d");
            deep.push(inner.clone());
            path.push_str(&"/d".repeat(1 << number));
        }
        let deep: Vec<_> = deep
            .iter()
            .map(|path| ("copy", "/d", path.as_str(), ""))
            .collect();
        let fault = patched(&object, &deep).unwrap_err();
        assert!(fault.contains("nested too deeply"), "{fault}");
    }

    #[test]
    fn operations_do_what_velero_does() {
        let object = json!({"a": {"b": [1, 2, 3]}, "s": "x", "n": null, "x/y": 1});
        for (operation, expected) in [
            (("add", "", "/a/c", "text"), Some(("/a/c", json!("text")))),
            (("add", "", "/a/b/-", "4"), Some(("/a/b", json!([1, 2, 3, 4])))),
            (("add", "", "/a/b/3", "4"), Some(("/a/b", json!([1, 2, 3, 4])))),
            (("add", "", "/a/b/-1", "4"), Some(("/a/b", json!([1, 2, 3, 4])))),
            (("add", "", "/a/b/-4", "0"), Some(("/a/b", json!([0, 1, 2, 3])))),
            (("add", "", "/a/b/-5", "0"), None),
            (("add", "", "/a/b/4", "4"), None),
            (("add", "", "/missing/c", "1"), None),
            (("remove", "", "/a/b/-1", ""), Some(("/a/b", json!([1, 2])))),
            (("remove", "", "/a/b/3", ""), None),
            (("remove", "", "/z", ""), None),
            (("replace", "", "/s", "true"), Some(("/s", json!(true)))),
            (("replace", "", "/z", "1"), None),
            (("replace", "", "/a/b/0", "9"), Some(("/a/b", json!([9, 2, 3])))),
            (("replace", "", "/x~1y", "2"), Some(("/x~1y", json!(2)))),
            (("move", "/a/b/0", "/s", ""), Some(("/s", json!(1)))),
            (("copy", "/a/b", "/s", ""), Some(("/s", json!([1, 2, 3])))),
            (("copy", "/z", "/s", ""), None),
            (("add", "", "/s/t", "1"), None),
            (("add", "", "a/s", "1"), Some(("/s", json!(1)))),
        ] {
            let done = patched(&object, &[operation]);
            match expected {
                Some((at, value)) => assert_eq!(done.unwrap().pointer(at), Some(&value), "{operation:?}"),
                None => assert!(done.is_err(), "{operation:?}"),
            }
        }
    }

    #[test]
    fn a_test_that_fails_changes_nothing() {
        let object = json!({"s": "x", "i": 1, "n": null});
        for (path, value, holds) in [
            ("/s", "x", true),
            ("/s", "y", false),
            ("/i", "1", true),
            ("/i", "\"1\"", false),
            ("/i", "1.0", false),
            ("/n", "null", true),
            ("/z", "null", true),
            ("/z", "", false),
        ] {
            let done = patched(&object, &[("add", "", "/done", "1"), ("test", "", path, value)]);
            assert_eq!(done.unwrap().get("done").is_some(), holds, "{path} {value}");
        }
        assert!(patched(&object, &[("test", "", "/z/z", "1")]).is_err());
    }

    #[test]
    fn values_become_json() {
        for (value, expected) in [
            ("", Some(json!(""))),
            ("text", Some(json!("text"))),
            ("5", Some(json!(5))),
            ("1e3", Some(json!(1000))),
            ("-1.50", Some(json!(-1.5))),
            ("\"5\"", Some(json!("5"))),
            ("true", Some(json!(true))),
            ("null", Some(json!(null))),
            ("Null", Some(json!("Null"))),
            ("{\"a\": 1.0}", Some(json!({"a": 1}))),
            ("[1, 2]", Some(json!([1, 2]))),
            ("a\\nb", Some(json!("a\nb"))),
            ("1.2.3", Some(json!("1.2.3"))),
            ("1e999", Some(json!("1e999"))),
            ("10Gi", Some(json!("10Gi"))),
            ("True", None),
            ("007", None),
            (".5", None),
            ("Inf", None),
            ("+5", None),
            ("0x1p4", None),
            ("1_000", None),
            ("1__0", Some(json!("1__0"))),
            ("a\"b", None),
            ("two\nlines", None),
            ("{oops", None),
        ] {
            let mut patch = JsonPatch::default();
            let read = patch
                .push("add", "", "/a", value)
                .ok()
                .map(|()| patch.operations.remove(0).value);
            assert_eq!(read, expected, "{value}");
        }
    }
}
