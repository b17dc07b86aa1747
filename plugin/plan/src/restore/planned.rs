//! What is going to happen to one object, as a value that can be printed and compared.
//!
//! The plan of a restore is a list of these in the order of the waves. Whatever decides about an object while a plan is made
//! decides about it in the restore too; the entry keeps the decision, its reason, what differs, and whether the API server
//! was asked about it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::order::Wave;
use crate::compare;

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedAction {
    /// Made.
    Create,
    /// There already, and the same.
    Unchanged,
    /// There already, different, and left alone.
    Leave,
    /// The backup's fields are applied to it.
    Update,
    /// It becomes what the backup holds.
    Replace,
    /// It is deleted and made anew.
    Recreate,
    /// A service account gets what it lacks.
    Complete,
    /// Left out by a rule.
    Skip,
    /// Cannot be restored.
    Refuse,
}

impl PlannedAction {
    /// All of them, in the order of the columns of a table.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Update,
        Self::Replace,
        Self::Recreate,
        Self::Complete,
        Self::Unchanged,
        Self::Leave,
        Self::Skip,
        Self::Refuse,
    ];

    /// The word, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Unchanged => "unchanged",
            Self::Leave => "leave",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Recreate => "recreate",
            Self::Complete => "complete",
            Self::Skip => "skip",
            Self::Refuse => "refuse",
        }
    }

    /// Whether the object is written.
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Replace | Self::Recreate | Self::Complete
        )
    }
}

/// Whether the API server was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// Nothing is to be written.
    #[default]
    NotNeeded,
    /// The very write was sent as a dry run and accepted.
    DryRun,
    /// The write was sent as a dry run and accepted, but for this part of it.
    DryRunOnly(String),
    /// It cannot be asked now, for this reason.
    NotPossible(String),
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDifference {
    /// `spec.ports[0].nodePort`.
    pub path: String,
    /// The backup's value, absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Value>,
    /// The cluster's value, absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Value>,
}

/// Longest value that a plan shows as it is.
const VALUE: usize = 4096;

impl From<compare::Difference> for PlannedDifference {
    fn from(difference: compare::Difference) -> Self {
        Self {
            path: difference.path,
            backup: difference.left.map(shortened),
            live: difference.right.map(shortened),
        }
    }
}

fn shortened(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => value.to_string(),
        _ => return value,
    };
    if text.len() <= VALUE {
        return value;
    }
    let start: String = text.chars().take(VALUE / 8).collect();
    Value::from(format!("{start}... ({} characters)", text.chars().count()))
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// The wave.
    pub wave: Wave,
    /// The place of its kind inside the wave.
    pub step: u8,
    /// `apiVersion` in the backup.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `deployments.apps`.
    pub resource: String,
    /// Namespace in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name in the cluster.
    pub name: String,
    /// What is done.
    pub action: PlannedAction,
    /// The rule that leaves it out, or why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it differs from the object that exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<PlannedDifference>,
    /// What else a person should hear about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether the API server was asked.
    pub checked: Checked,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_those_of_the_document() {
        for action in PlannedAction::ALL {
            assert_eq!(json!(action), action.word());
        }
        assert_eq!(json!(Checked::DryRun), "dry-run");
        assert_eq!(
            json!(Checked::NotPossible(
                "its namespace comes with the restore".into()
            )),
            json!({"not-possible": "its namespace comes with the restore"})
        );
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let difference = PlannedDifference::from(compare::Difference {
            path: "data.a".into(),
            left: Some(Value::from("x".repeat(5000))),
            right: Some(json!(3)),
        });
        let text = difference.backup.unwrap();
        assert!(
            text.as_str().unwrap().ends_with("... (5000 characters)"),
            "{text}"
        );
        assert_eq!(difference.live, Some(json!(3)));
    }
}
