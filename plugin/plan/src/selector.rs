//! Label selectors in kubectl's text form and in the API's JSON form.
//!
//! In comes what a user typed after `-l` or `--or-selector`; out goes a checked [`Selector`] that matches labels, prints
//! the one canonical text that the API's `labelSelector` parameter takes, and converts from and to the LabelSelector
//! object of `velero-backup.json`. Later code may rely on: keys and values are valid by Kubernetes' rules, values of a
//! set are sorted and unique, and `parse(selector.to_string())` gives the same selector.

mod json;
mod parse;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

pub use json::{LabelSelector, LabelSelectorRequirement};

/// Why a text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The grammar asks for something else at this place.
    #[error(
        "label selector \"{text}\": found {found}, expected {expected}; write for example \"app=shop,tier in (web,db),!canary\""
    )]
    Syntax {
        /// The whole text.
        text: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// `<` and `>` are for node affinity and field values, not for listing by label.
    #[error("label selector \"{text}\": \"{operator}\" is not supported; use =, !=, in, notin, KEY or !KEY")]
    Comparison {
        /// The whole text.
        text: String,
        /// `<` or `>`, or the API's `Gt` and `Lt`.
        operator: String,
    },
    /// The key is no qualified name.
    #[error("label key \"{key}\": {reason}")]
    Key {
        /// The key.
        key: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The value is no label value.
    #[error("label value \"{value}\" of key \"{key}\": {reason}")]
    Value {
        /// Its key.
        key: String,
        /// The value.
        value: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// An API selector has an operator with the wrong number of values, or an unknown operator.
    #[error("label selector requirement \"{key} {operator}\": {reason}")]
    Requirement {
        /// The key.
        key: String,
        /// The operator as written.
        operator: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `--or-selector` has an empty alternative.
    #[error(
        "or-selector \"{text}\": an alternative is empty and would match everything; write \"a=b or c=d\""
    )]
    EmptyAlternative {
        /// The whole text.
        text: String,
    },
}

/// What one requirement asks of the label with its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// `key=value`.
    Equals(String),
    /// `key!=value`; a missing label matches.
    NotEquals(String),
    /// `key in (a,b)`.
    In(BTreeSet<String>),
    /// `key notin (a,b)`; a missing label matches.
    NotIn(BTreeSet<String>),
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: String,
    condition: Condition,
}

impl Requirement {
    /// Checks key and values by Kubernetes' rules.
    ///
    /// # Errors
    /// When the key is no qualified name, a value is no label value, or a set is empty.
    pub fn new(key: &str, condition: Condition) -> Result<Self, SelectorError> {
        check_key(key).map_err(|reason| SelectorError::Key {
            key: key.to_owned(),
            reason,
        })?;
        let values: Vec<&String> = match &condition {
            Condition::Equals(value) | Condition::NotEquals(value) => vec![value],
            Condition::In(values) | Condition::NotIn(values) if values.is_empty() => {
                return Err(SelectorError::Requirement {
                    key: key.to_owned(),
                    operator: "in, notin".to_owned(),
                    reason: "needs at least one value",
                });
            }
            Condition::In(values) | Condition::NotIn(values) => values.iter().collect(),
            Condition::Exists | Condition::DoesNotExist => Vec::new(),
        };
        for value in values {
            check_value(value).map_err(|reason| SelectorError::Value {
                key: key.to_owned(),
                value: value.clone(),
                reason,
            })?;
        }
        Ok(Self {
            key: key.to_owned(),
            condition,
        })
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is asked of it.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    fn matches(&self, value: Option<&str>) -> bool {
        match &self.condition {
            Condition::Equals(wanted) => value == Some(wanted),
            Condition::NotEquals(refused) => value != Some(refused),
            Condition::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Condition::NotIn(refused) => !value.is_some_and(|value| refused.contains(value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let joined =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.condition {
            Condition::Equals(value) => write!(f, "{key}={value}"),
            Condition::NotEquals(value) => write!(f, "{key}!={value}"),
            Condition::In(values) => write!(f, "{key} in ({})", joined(values)),
            Condition::NotIn(values) => write!(f, "{key} notin ({})", joined(values)),
            Condition::Exists => f.write_str(key),
            Condition::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// A label selector: all requirements must hold. The empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// A selector of these requirements, in canonical order.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort();
        requirements.dedup();
        Self { requirements }
    }

    /// Reads kubectl's text form.
    ///
    /// # Errors
    /// Names the place in the text, or the key or value that Kubernetes would refuse.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::selector(text)
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object whose labels are found by `label` is selected. Nothing is copied.
    pub fn matches<'a>(&self, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether an object with these labels is selected.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(&|key| labels.get(key).map(String::as_str))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// Several selectors of which one must match: `--or-selector "a=b or c=d"`. The empty list matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrSelector {
    alternatives: Vec<Selector>,
}

impl OrSelector {
    /// From alternatives, as `velero-backup.json` lists them.
    pub fn new(alternatives: Vec<Selector>) -> Self {
        Self { alternatives }
    }

    /// Reads `a=b or c=d`. The word `or` counts only between blanks and outside parentheses.
    ///
    /// # Errors
    /// As [`Selector::parse`], and when an alternative is empty.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let alternatives = split_alternatives(text)
            .into_iter()
            .map(|part| match Selector::parse(part)? {
                selector if selector.is_empty() => Err(SelectorError::EmptyAlternative {
                    text: text.to_owned(),
                }),
                selector => Ok(selector),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Whether there is no alternative, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// The alternatives in the order given.
    pub fn alternatives(&self) -> &[Selector] {
        &self.alternatives
    }

    /// Whether one alternative selects an object whose labels are found by `label`.
    pub fn matches<'a>(&self, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.is_empty() || self.alternatives.iter().any(|selector| selector.matches(label))
    }
}

impl FromStr for OrSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for OrSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.alternatives.iter().map(Selector::to_string).collect();
        f.write_str(&texts.join(" or "))
    }
}

fn split_alternatives(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' | b'\t' if depth == 0 && at >= start => {
                let rest = &text[at + 1..];
                if let Some(after) = rest
                    .strip_prefix("or")
                    .filter(|after| after.starts_with([' ', '\t']))
                {
                    parts.push(&text[start..at]);
                    start = text.len() - after.len();
                }
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_subdomain(text: &str) -> bool {
    let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 253
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(lower)
                && bytes.last().is_some_and(lower)
                && bytes.iter().all(|byte| lower(byte) || *byte == b'-')
        })
}

/// Kubernetes' `IsQualifiedName`.
fn check_key(key: &str) -> Result<(), &'static str> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, _)) if !is_dns_subdomain(prefix) => {
            return Err("the part before \"/\" must be a DNS subdomain of at most 253 characters");
        }
        Some((_, name)) if name.contains('/') => return Err("has more than one \"/\""),
        Some((_, name)) => name,
    };
    if name.is_empty() || name.len() > 63 {
        return Err("the name must have 1 to 63 characters");
    }
    if !is_name(name) {
        return Err(
            "must consist of letters, digits, \"-\", \"_\" or \".\" and start and end with a letter or digit",
        );
    }
    Ok(())
}

/// Kubernetes' `IsValidLabelValue`.
fn check_value(value: &str) -> Result<(), &'static str> {
    if value.len() > 63 {
        return Err("must have at most 63 characters");
    }
    if !value.is_empty() && !is_name(value) {
        return Err(
            "must be empty or consist of letters, digits, \"-\", \"_\" or \".\" and start and end with a letter or digit",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
