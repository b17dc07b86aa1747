//! Where two objects differ.
//!
//! In come two objects of one kind and a table of paths that do not count; out goes [`Comparison`]: each path that differs
//! with both values, and which entries of the table were needed. The tables are fixed and printable, so that "0 differences"
//! has a meaning that anybody can read, and an entry that nothing needs can be found and removed. Values of Secrets are
//! not shown unless that is asked for, only their length and the start of their hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Write as _,
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

use crate::hash::sha256_start;

mod drift;
mod ignored;

pub use drift::{Drift, drift};
pub use ignored::{IgnoredPath, Kinds, LIVE_VS_BACKUP, MADE_ANEW, RESTORED, SAME_OBJECT};

/// One path with two values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// `spec.ports[0].nodePort`; keys that are no plain word stand as `["a/b"]`.
    pub path: String,
    /// The value on the left, absent if there is none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "a_value"
    )]
    pub left: Option<Value>,
    /// The value on the right, absent if there is none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "a_value"
    )]
    pub right: Option<Value>,
}

/// `null` is a value, and not the same as none.
fn a_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), Value::to_string)
        };
        write!(f, "{}: {} != {}", self.path, text(&self.left), text(&self.right))
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// The paths that differ, in the order of the left object's keys.
    pub differences: Vec<Difference>,
    /// Positions in the table of the entries that hid a difference.
    pub used: BTreeSet<usize>,
}

impl Comparison {
    /// Whether nothing differs but what the table names.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Whether a comparison shows what Secrets hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// Only length and hash.
    #[default]
    Masked,
    /// Everything: somebody has asked for it.
    Shown,
}

/// Compares two objects of a kind. Paths in `table` do not count; values of Secrets are masked.
pub fn compare(kind: &ApiKind, left: &Value, right: &Value, table: &[IgnoredPath]) -> Comparison {
    compare_with(kind, left, right, table, Secrets::Masked)
}

/// As [`compare`], with a choice about the values of Secrets.
pub fn compare_with(
    kind: &ApiKind,
    left: &Value,
    right: &Value,
    table: &[IgnoredPath],
    secrets: Secrets,
) -> Comparison {
    let entries = table
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kinds.contains(kind, left));
    let mut walk = Walk {
        ignored: entries.map(|(position, entry)| (entry.path, position)).collect(),
        masks: secrets == Secrets::Masked && kind.group.is_empty() && kind.plural == "secrets",
        found: Comparison::default(),
    };
    walk.values(&mut Path::default(), Some(left), Some(right));
    walk.found
}

/// The text of a path, and the same with `[*]` in place of each position, as tables write it.
#[derive(Default)]
struct Path {
    exact: String,
    pattern: String,
}

impl Path {
    fn within<T>(&mut self, step: &Step<'_>, visit: impl FnOnce(&mut Self) -> T) -> T {
        let (exact, pattern) = (self.exact.len(), self.pattern.len());
        match step {
            Step::Key(key) => {
                let text = key_text(key, exact == 0);
                self.exact.push_str(&text);
                self.pattern.push_str(&text);
            }
            Step::Position(position) => {
                // Writing to a string cannot fail.
                let _ = write!(self.exact, "[{position}]");
                self.pattern.push_str("[*]");
            }
        }
        let result = visit(self);
        self.exact.truncate(exact);
        self.pattern.truncate(pattern);
        result
    }
}

enum Step<'a> {
    Key(&'a str),
    Position(usize),
}

fn key_text(key: &str, is_first: bool) -> String {
    let is_plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte));
    match (is_plain, is_first) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[{}]", Value::from(key)),
    }
}

struct Walk {
    ignored: BTreeMap<&'static str, usize>,
    masks: bool,
    found: Comparison,
}

/// Maps of which an empty one and none are the same to Kubernetes.
const EMPTY_IS_NONE: [&str; 3] = [
    "metadata.labels",
    "metadata.annotations",
    "metadata.ownerReferences",
];

impl Walk {
    fn values(&mut self, path: &mut Path, left: Option<&Value>, right: Option<&Value>) {
        if left == right {
            return;
        }
        if let Some(position) = self.ignored.get(path.pattern.as_str()) {
            self.found.used.insert(*position);
            return;
        }
        let empty = Map::new();
        match (left, right) {
            (Some(Value::Array(left)), Some(Value::Array(right))) => self.lists(path, left, right),
            (Some(Value::Object(left)), Some(Value::Object(right))) => self.maps(path, left, right),
            // What only one side has is reported field by field, so that entries of the table below it count.
            (Some(Value::Object(left)), None) if !left.is_empty() => self.maps(path, left, &empty),
            (None, Some(Value::Object(right))) if !right.is_empty() => self.maps(path, &empty, right),
            (Some(only), None) | (None, Some(only)) if is_nothing(only, path) => {}
            _ => self.report(path, left, right),
        }
    }

    fn maps(&mut self, path: &mut Path, left: &Map<String, Value>, right: &Map<String, Value>) {
        let only_right = right.keys().filter(|key| !left.contains_key(*key));
        for key in left.keys().chain(only_right) {
            path.within(&Step::Key(key), |path| {
                self.values(path, left.get(key), right.get(key));
            });
        }
    }

    fn lists(&mut self, path: &mut Path, left: &[Value], right: &[Value]) {
        for position in 0..left.len().max(right.len()) {
            path.within(&Step::Position(position), |path| {
                self.values(path, left.get(position), right.get(position));
            });
        }
    }

    fn report(&mut self, path: &Path, left: Option<&Value>, right: Option<&Value>) {
        let masks = self.masks && is_secret(&path.exact);
        let shown =
            |value: Option<&Value>| value.map(|value| if masks { mask(value) } else { value.clone() });
        self.found.differences.push(Difference {
            path: path.exact.clone(),
            left: shown(left),
            right: shown(right),
        });
    }
}

fn is_nothing(value: &Value, path: &Path) -> bool {
    let is_empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Null => true,
        _ => false,
    };
    is_empty && EMPTY_IS_NONE.contains(&path.pattern.as_str())
}

/// Values of a Secret that may show its content: the data, and the annotation in which `kubectl apply` keeps a copy.
fn is_secret(path: &str) -> bool {
    let is_public = ["metadata", "type", "immutable", "apiVersion", "kind"]
        .iter()
        .any(|public| {
            path.strip_prefix(public)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
    !is_public || path == "metadata" || path.starts_with("metadata.annotations")
}

fn mask(value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let start = sha256_start(&text, 4);
    Value::from(format!(
        "<{} characters, sha256 {start}...>",
        text.chars().count()
    ))
}

#[cfg(test)]
mod tests;
