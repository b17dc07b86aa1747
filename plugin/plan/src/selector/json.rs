//! The LabelSelector object of the API, as `velero-backup.json` carries it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Condition, Requirement, Selector, SelectorError};

/// `metav1.LabelSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// `matchLabels`: each pair must hold.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub match_labels: BTreeMap<String, String>,
    /// `matchExpressions`: each expression must hold.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// `key`.
    pub key: String,
    /// `operator`: `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// `values`, empty for the last two operators.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub values: Vec<String>,
}

fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<&Selector> for LabelSelector {
    fn from(selector: &Selector) -> Self {
        let mut json = Self::default();
        for requirement in selector.requirements() {
            let key = requirement.key();
            let (operator, values) = match requirement.condition() {
                Condition::Equals(value) if !json.match_labels.contains_key(key) => {
                    json.match_labels.insert(key.to_owned(), value.clone());
                    continue;
                }
                // A second value for one key can never match; as an expression it is at least not lost.
                Condition::Equals(value) => ("In", vec![value.clone()]),
                Condition::NotEquals(value) => ("NotIn", vec![value.clone()]),
                Condition::In(values) => ("In", values.iter().cloned().collect()),
                Condition::NotIn(values) => ("NotIn", values.iter().cloned().collect()),
                Condition::Exists => ("Exists", Vec::new()),
                Condition::DoesNotExist => ("DoesNotExist", Vec::new()),
            };
            json.match_expressions.push(LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values,
            });
        }
        json
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(json: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in &json.match_labels {
            requirements.push(Requirement::new(key, Condition::Equals(value.clone()))?);
        }
        for expression in &json.match_expressions {
            requirements.push(requirement(expression)?);
        }
        Ok(Self::new(requirements))
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let refuse = |reason| SelectorError::Requirement {
        key: expression.key.clone(),
        operator: expression.operator.clone(),
        reason,
    };
    let values = expression.values.iter().cloned().collect();
    let condition = match expression.operator.as_str() {
        "In" | "NotIn" if expression.values.is_empty() => return Err(refuse("needs at least one value")),
        "In" => Condition::In(values),
        "NotIn" => Condition::NotIn(values),
        "Exists" | "DoesNotExist" if !expression.values.is_empty() => return Err(refuse("takes no values")),
        "Exists" => Condition::Exists,
        "DoesNotExist" => Condition::DoesNotExist,
        _ => return Err(refuse("the operator must be In, NotIn, Exists or DoesNotExist")),
    };
    Requirement::new(&expression.key, condition)
}
