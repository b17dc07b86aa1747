//! Resource modifiers, as Velero 1.18 reads them: rules that change objects on their way into the cluster.
//!
//! In comes the YAML of a ConfigMap or file; out go [`Modifiers`], or the first fault with the number of its rule. What
//! Velero finds out per object (a pattern that does not compile, a patch that is no JSON) is found out here, before anything
//! is written. Then objects go in one by one: every rule is matched against the object as it came in, and the rules that
//! match are applied one after another. Where a matching rule cannot be applied to an object, the object is reported and not
//! written; Velero reports it too, and writes it without the change.

mod condition;
mod json_patch;
mod merge_keys;
mod merge_patch;
mod read;
mod strategic;

use serde_json::{Map, Value};

use condition::Conditions;
use json_patch::JsonPatch;

use crate::yaml;

/// Why modifiers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModifierError {
    /// The text is no YAML, or not of the form of modifiers.
    #[error("{0}; the form is described at https://velero.io/docs/v1.18/restore-resource-modifiers/")]
    Document(String),
    /// A rule has a fault.
    #[error("rule {rule}: {problem}")]
    Rule {
        /// Its number, from 1.
        rule: usize,
        /// What is wrong, and where in the rule.
        problem: String,
    },
}

/// Checked rules.
#[derive(Debug, Clone)]
pub struct Modifiers {
    rules: Vec<Rule>,
    source: String,
}

#[derive(Debug, Clone)]
struct Rule {
    conditions: Conditions,
    patches: Patches,
}

/// What a rule does; only one kind may be given.
#[derive(Debug, Clone)]
enum Patches {
    Json(JsonPatch),
    Merge(Vec<Value>),
    Strategic(Vec<Map<String, Value>>),
}

/// What the rules did to one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modified {
    /// Numbers of the rules that matched it, from 1.
    pub applied: Vec<usize>,
    /// Rules that matched and could not be applied.
    pub problems: Vec<String>,
}

impl Modifiers {
    /// Reads and checks modifiers.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(text: &str) -> Result<Self, ModifierError> {
        let document = yaml::parse(text, true).map_err(ModifierError::Document)?;
        Ok(Self {
            rules: read::rules(&document)?,
            source: text.to_owned(),
        })
    }

    /// How many rules there are; at least one.
    #[allow(
        clippy::len_without_is_empty,
        reason = "without a rule there are no modifiers"
    )]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The text that they were read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Applies the rules to an object of a kind (`deployments.apps`), which carries the namespace of the backup.
    pub fn apply(&self, resource_group: &str, object: &mut Map<String, Value>) -> Modified {
        let matching: Vec<(usize, &Rule)> = (1..)
            .zip(&self.rules)
            .filter(|(_, rule)| rule.conditions.matches(resource_group, object))
            .collect();
        let mut modified = Modified::default();
        for (number, rule) in matching {
            modified.applied.push(number);
            match rule.patches.apply(object) {
                Ok(changed) => *object = changed,
                Err(problem) => modified
                    .problems
                    .push(format!("rule {number} of the resource modifiers: {problem}")),
            }
        }
        modified
    }
}

impl Patches {
    fn apply(&self, object: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let changed = match self {
            Self::Json(patch) => patch.apply(object)?,
            Self::Merge(patches) => {
                let mut changed = Value::Object(object.clone());
                for patch in patches {
                    merge_patch::merge(&mut changed, patch.clone());
                }
                changed
            }
            Self::Strategic(patches) => strategic::apply(object, patches)?,
        };
        match changed {
            Value::Object(changed)
                if changed
                    .get("kind")
                    .and_then(Value::as_str)
                    .is_some_and(|kind| !kind.is_empty()) =>
            {
                Ok(changed)
            }
            _ => Err("what it leaves is no object with a kind".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
