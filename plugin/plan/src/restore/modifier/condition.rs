//! When a rule applies: kind, namespace, name, labels and values of an object.
//!
//! Patterns are compiled when the rules are read. An index beyond the end of a list does not match; Velero takes it for a
//! fault of the object.

use std::fmt::Write as _;

use regex::Regex;
use serde_json::{Map, Value};

use super::json_patch::JsonPatch;
use crate::selector::{LabelSelector, Selector};

/// The conditions of a rule; all must hold.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    /// Empty means all. A cluster-scoped object is in none and matches.
    namespaces: Vec<Regex>,
    group_resource: Regex,
    name: Option<Regex>,
    labels: Option<Selector>,
    values: Vec<JsonPatch>,
}

impl Conditions {
    /// Compiles the conditions of a rule.
    pub(super) fn new(
        namespaces: Vec<String>,
        group_resource: &str,
        name: &str,
        labels: Option<&LabelSelector>,
        values: &[(String, String)],
    ) -> Result<Self, String> {
        if group_resource.is_empty() {
            return Err(
                "conditions need a groupResource, such as deployments.apps or persistentvolumeclaims"
                    .to_owned(),
            );
        }
        // Beside a lone `*` the other patterns say nothing.
        let namespaces = if namespaces.iter().any(|pattern| pattern == "*") {
            Vec::new()
        } else {
            namespaces
        };
        let globs = namespaces.iter().map(|pattern| {
            glob(pattern, None).map_err(|problem| format!("pattern {pattern:?} in namespaces: {problem}"))
        });
        let values = values.iter().map(|(path, value)| {
            if path.is_empty() {
                return Err("a match has no path".to_owned());
            }
            let mut test = JsonPatch::default();
            test.push("test", "", path, value)?;
            Ok(test)
        });
        let regex = |pattern: &str| {
            Regex::new(pattern).map_err(|error| format!("resourceNameRegex {pattern:?}: {error}"))
        };
        Ok(Self {
            namespaces: globs.collect::<Result<_, _>>()?,
            group_resource: glob(group_resource, Some('.'))
                .map_err(|problem| format!("groupResource {group_resource:?}: {problem}"))?,
            name: (!name.is_empty()).then(|| regex(name)).transpose()?,
            labels: labels
                .map(Selector::try_from)
                .transpose()
                .map_err(|error| format!("labelSelector: {error}"))?,
            values: values.collect::<Result<_, String>>()?,
        })
    }

    /// Whether they hold for an object.
    pub(super) fn matches(&self, resource_group: &str, object: &Map<String, Value>) -> bool {
        let metadata = object.get("metadata");
        let text = |key: &str| {
            let value = metadata.and_then(|metadata| metadata.get(key));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let namespace = text("namespace");
        let is_in_namespace = namespace.is_empty()
            || self.namespaces.is_empty()
            || self.namespaces.iter().any(|pattern| pattern.is_match(namespace));
        is_in_namespace
            && self.group_resource.is_match(resource_group)
            && self
                .name
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(text("name")))
            && self
                .labels
                .as_ref()
                .is_none_or(|selector| selects(selector, metadata))
            && self.values.iter().all(|test| test.holds(object))
    }
}

fn selects(selector: &Selector, metadata: Option<&Value>) -> bool {
    let labels = metadata.and_then(|metadata| metadata.get("labels")?.as_object());
    let labels = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    selector.matches_labels(&labels)
}

/// A pattern of the library that Velero uses, as a regular expression: `*` stops at the separator, `**` does not.
fn glob(pattern: &str, separator: Option<char>) -> Result<Regex, String> {
    let one = separator.map_or(".".to_owned(), |char| {
        format!("[^{}]", regex::escape(&char.to_string()))
    });
    let mut expression = "(?s)^(?:".to_owned();
    let mut chars = pattern.chars().peekable();
    let mut depth = 0;
    while let Some(char) = chars.next() {
        match char {
            '*' if chars.next_if_eq(&'*').is_some() => expression.push_str(".*"),
            '*' => {
                expression.push_str(&one);
                expression.push('*');
            }
            '?' => expression.push_str(&one),
            '[' => class(&mut chars, &mut expression)?,
            '{' => {
                depth += 1;
                expression.push_str("(?:");
            }
            ',' if depth > 0 => expression.push('|'),
            '}' if depth > 0 => {
                depth -= 1;
                expression.push(')');
            }
            '\\' => expression.extend(chars.next().map(|char| regex::escape(&char.to_string()))),
            char => expression.push_str(&regex::escape(&char.to_string())),
        }
    }
    // Braces that are left open end with the pattern.
    expression.extend(std::iter::repeat_n(')', depth));
    expression.push_str(")$");
    Regex::new(&expression).map_err(|error| error.to_string())
}

/// `[abc]`, `[!abc]` or `[a-z]`, never both forms in one.
fn class(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    expression: &mut String,
) -> Result<(), String> {
    let open = || "a '[' is not closed".to_owned();
    let is_not = chars.next_if_eq(&'!').is_some();
    let first = chars.next().ok_or_else(open)?;
    let mut items = String::new();
    if chars.next_if_eq(&'-').is_some() {
        let last = chars.next().ok_or_else(open)?;
        if last < first {
            return Err(format!("the range {first}-{last} is empty"));
        }
        // Writing to a string cannot fail.
        let _ = write!(items, "{}-{}", escaped(first), escaped(last));
        if chars.next() != Some(']') {
            return Err("a range such as [a-z] must be closed after it".to_owned());
        }
    } else {
        let mut next = Some(first);
        loop {
            match next.ok_or_else(open)? {
                ']' => break,
                '\\' => items.push_str(&escaped(chars.next().ok_or_else(open)?)),
                char => items.push_str(&escaped(char)),
            }
            next = chars.next();
        }
    }
    if items.is_empty() {
        return Err("'[]' is empty".to_owned());
    }
    let _ = write!(expression, "[{}{items}]", if is_not { "^" } else { "" });
    Ok(())
}

/// A character inside a class of a regular expression.
fn escaped(char: char) -> String {
    format!("\\x{{{:x}}}", u32::from(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_velero() {
        for (pattern, text, expected) in [
            ("*", "pods", true),
            ("*", "deployments.apps", false),
            ("**", "deployments.apps", true),
            ("*.apps", "deployments.apps", true),
            ("deployments.*", "deployments.apps", true),
            ("*.*", "networkpolicies.networking.k8s.io", false),
            ("*.**", "networkpolicies.networking.k8s.io", true),
            ("{pods,*.apps}", "statefulsets.apps", true),
            ("{pods,*.apps", "pods", true),
            ("pod?", "pods", true),
            ("pods?apps", "pods.apps", false),
            ("pod[st]", "pods", true),
            ("pod[!s]", "pods", false),
            ("pod[a-s]", "pods", true),
            ("pod\\*", "pods", false),
            ("a,b}", "a,b}", true),
            ("pods", "pods2", false),
        ] {
            assert_eq!(
                glob(pattern, Some('.')).unwrap().is_match(text),
                expected,
                "{pattern} {text}"
            );
        }
        for pattern in ["[", "[]", "[a", "[z-a]", "[a-zA-Z]", "[!]"] {
            assert!(glob(pattern, Some('.')).is_err(), "{pattern}");
        }
    }
}
