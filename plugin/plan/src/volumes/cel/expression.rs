//! Pieces of CEL: selectors, name patterns, volume rules, lists in annotations.
//!
//! Every function gives one expression that can stand as an operand of `&&`. Texts of users get in through [`quoted`]
//! alone.

use std::fmt::Write as _;

use velero_model::api::{PolicyAction, VolumeType};

use crate::{
    selector::{Condition, Selector},
    volumes::{NamePattern, Policy},
};

/// Whether a volume `v` is of the kinds that a policy means if it names none.
pub(super) const IS_CLAIM: &str = "(has(v.persistentVolumeClaim) || has(v.ephemeral))";

/// A CEL string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list_of<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: Vec<String> = texts.map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// Whether a policy speaks about the pod.
pub(super) fn pod(policy: &Policy) -> String {
    let mut terms = selector(policy.namespace_selector(), "variables.namespaceLabels");
    terms.extend(selector(policy.pod_selector(), "variables.labels"));
    if terms.is_empty() {
        "true".to_owned()
    } else {
        terms.join("\n&& ")
    }
}

/// What a selector asks of the labels in `map`, all of which must hold.
fn selector(selector: &Selector, map: &str) -> Vec<String> {
    selector
        .requirements()
        .iter()
        .map(|requirement| {
            let key = quoted(requirement.key());
            let has = format!("{key} in {map}");
            match requirement.condition() {
                Condition::Exists => has,
                Condition::DoesNotExist => format!("!({has})"),
                Condition::Equals(value) => format!("{has} && {map}[{key}] == {}", quoted(value)),
                Condition::NotEquals(value) => format!("!({has} && {map}[{key}] == {})", quoted(value)),
                Condition::In(values) => {
                    format!(
                        "{has} && {map}[{key}] in {}",
                        list_of(values.iter().map(String::as_str))
                    )
                }
                Condition::NotIn(values) => format!(
                    "!({has} && {map}[{key}] in {})",
                    list_of(values.iter().map(String::as_str))
                ),
            }
        })
        .collect()
}

/// Whether `name`, an expression, is one of these patterns.
fn is_named(name: &str, patterns: &[NamePattern]) -> String {
    let (globs, literals): (Vec<&NamePattern>, Vec<&NamePattern>) =
        patterns.iter().partition(|pattern| pattern.has_wildcard());
    let mut terms = Vec::new();
    if !literals.is_empty() {
        terms.push(format!(
            "{name} in {}",
            list_of(literals.into_iter().map(NamePattern::as_str))
        ));
    }
    terms.extend(
        globs
            .into_iter()
            .map(|glob| format!("{name}.matches({})", quoted(&regex(glob.as_str())))),
    );
    match terms.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(" || ")),
    }
}

/// A pattern as a regular expression for the whole name.
fn regex(glob: &str) -> String {
    let mut regex = String::from("^");
    for character in glob.chars() {
        match character {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '.' => regex.push_str("[.]"),
            // A checked pattern has nothing else that means something in a regular expression.
            c => regex.push(c),
        }
    }
    regex.push('$');
    regex
}

/// Whether a policy speaks about a volume `v` of a pod that it speaks about.
pub(super) fn volume(policy: &Policy) -> String {
    let patterns = policy.claim_names();
    let terms: Vec<String> = policy
        .types()
        .iter()
        .filter_map(|kind| {
            let (field, name) = match kind {
                VolumeType::PersistentVolumeClaim => (
                    "persistentVolumeClaim",
                    Some(is_named("v.persistentVolumeClaim.claimName", patterns)),
                ),
                VolumeType::Ephemeral => ("ephemeral", Some(is_ephemeral_named(policy.action(), patterns))),
                VolumeType::EmptyDir => ("emptyDir", None),
                VolumeType::Csi => ("csi", None),
                VolumeType::Nfs => ("nfs", None),
            };
            match (patterns.is_empty(), name) {
                (true, _) => Some(format!("has(v.{field})")),
                (false, Some(name)) => Some(format!("has(v.{field}) && {name}")),
                // What has no claim has no claim's name.
                (false, None) => None,
            }
        })
        .collect();
    match terms.as_slice() {
        [] => "false".to_owned(),
        [one] if patterns.is_empty() => one.clone(),
        several => format!("({})", several.join(" || ")),
    }
}

/// A pod that a controller makes has no name yet when it is admitted, so neither has the claim of its ephemeral volume.
/// What is not known speaks for a backup.
fn is_ephemeral_named(action: PolicyAction, patterns: &[NamePattern]) -> String {
    let is_named = is_named("(object.metadata.name + \"-\" + v.name)", patterns);
    match action {
        PolicyAction::Include => format!("(!has(object.metadata.name) || {is_named})"),
        PolicyAction::Exclude => format!("has(object.metadata.name) && {is_named}"),
    }
}

/// The label of the pod, else that of its namespace. A word that is neither `include` nor `exclude` counts as absent.
pub(super) fn label(label: &str) -> String {
    let label = quoted(label);
    format!(
        "variables.labels[?{label}].orValue(\"\") in [\"include\", \"exclude\"]\n\
         ? variables.labels[{label}] : variables.namespaceLabels[?{label}].orValue(\"\")"
    )
}

/// The names in an annotation.
pub(super) fn list(annotation: &str) -> String {
    let key = quoted(annotation);
    format!(
        "{key} in variables.annotations && variables.annotations[{key}] != \"\"\n\
         ? variables.annotations[{key}].split(\",\") : []"
    )
}
