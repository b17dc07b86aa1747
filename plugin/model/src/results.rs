//! Velero's `results.gz`: errors and warnings by namespace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Both halves of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// What makes a run PartiallyFailed.
    pub errors: Messages,
    /// What does not.
    pub warnings: Messages,
}

/// Messages by where they belong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// About the tool itself.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub velero: Vec<String>,
    /// About cluster-scoped objects.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub cluster: Vec<String>,
    /// About objects of a namespace.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub namespaces: BTreeMap<String, Vec<String>>,
}

/// Go writes `null` for lists and maps that were never made.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Messages {
    /// Files a message under its namespace, or under the cluster.
    pub fn push(&mut self, namespace: Option<&str>, message: String) {
        match namespace {
            Some(namespace) => self
                .namespaces
                .entry(namespace.to_owned())
                .or_default()
                .push(message),
            None => self.cluster.push(message),
        }
    }

    /// All messages, those about the tool first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.velero
            .iter()
            .chain(&self.cluster)
            .chain(self.namespaces.values().flatten())
            .map(String::as_str)
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn veleros_file_is_read_with_its_nulls() {
        let text = r#"{"errors":{"namespaces":{"shop":["a","b"]},"cluster":null},"warnings":{}}"#;
        let results: Results = serde_json::from_str(text).unwrap();
        assert_eq!(results.errors.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(results.warnings.is_empty());
    }
}
