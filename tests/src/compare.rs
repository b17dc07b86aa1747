//! Two snapshots, object by object and field by field.
//!
//! What a comparison passes over is a fixed table of paths, each with its reason; everything else that differs is a
//! difference. The comparison says which entries of the table it needed, so that an entry that nothing needs any more
//! can fail a test instead of hiding a fault one day.

mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

pub use self::table::{AT_REST, Ignored, RESTORED};
use crate::snapshot::{ObjectKey, Snapshot};

/// How long controllers may be busy after a restore.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// One thing that is not the same on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Whose.
    pub key: ObjectKey,
    /// Where, from the top of the object; empty when the whole object is on one side only.
    pub path: Vec<String>,
    /// On the left side, if anything.
    pub left: Option<Value>,
    /// On the right side, if anything.
    pub right: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<Value>| {
            value.as_ref().map_or_else(
                || "nothing".to_owned(),
                |value| value.to_string().chars().take(120).collect(),
            )
        };
        write!(
            formatter,
            "{}{}: {} became {}",
            self.key,
            printed(&self.path),
            side(&self.left),
            side(&self.right)
        )
    }
}

/// `.metadata.labels["velero.io/backup-name"]`
fn printed(path: &[impl AsRef<str>]) -> String {
    let plain = |part: &str| {
        part.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '*')
    };
    let part = |part: &str| {
        if plain(part) {
            format!(".{part}")
        } else {
            format!("[{part:?}]")
        }
    };
    path.iter().map(|name| part(name.as_ref())).collect()
}

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// Objects that stand on both sides.
    pub compared: usize,
    /// What is not the same and stands in no table.
    pub differences: Vec<Difference>,
    used: BTreeSet<usize>,
    table: &'static [Ignored],
}

impl Comparison {
    /// The entries of the table that this comparison could have done without.
    pub fn unused(&self) -> Vec<&'static Ignored> {
        let unused = |(position, entry)| (!self.used.contains(&position)).then_some(entry);
        self.table.iter().enumerate().filter_map(unused).collect()
    }

    /// Fails with all differences if there are any.
    #[track_caller]
    pub fn assert_same(&self) {
        let lines: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        assert!(
            lines.is_empty(),
            "{} differences in {} objects:\n{}",
            lines.len(),
            self.compared,
            lines.join("\n")
        );
    }
}

/// Compares all objects of two snapshots; paths in `table` may differ.
pub fn compare(left: &Snapshot, right: &Snapshot, table: &'static [Ignored]) -> Comparison {
    let mut comparison = Comparison {
        compared: 0,
        differences: Vec::new(),
        used: BTreeSet::new(),
        table,
    };
    let keys: BTreeSet<&ObjectKey> = left.keys().chain(right.keys()).collect();
    for key in keys {
        let (left, right) = (left.get(key), right.get(key));
        let mut found = Vec::new();
        if left.is_some() && right.is_some() {
            comparison.compared += 1;
            walk(&mut Vec::new(), left, right, &mut found);
        } else {
            found.push((Vec::new(), left.cloned(), right.cloned()));
        }
        for (path, left, right) in found {
            match table.iter().position(|entry| entry.covers(&key.resource, &path)) {
                Some(position) => {
                    comparison.used.insert(position);
                }
                None => comparison.differences.push(Difference {
                    key: key.clone(),
                    path,
                    left,
                    right,
                }),
            }
        }
    }
    comparison
}

/// Compares with what `now` gives, again and again while there are differences and controllers may still be busy. Gives
/// the last comparison.
pub fn compare_settled(
    before: &Snapshot,
    mut now: impl FnMut() -> Result<Snapshot>,
    table: &'static [Ignored],
) -> Result<Comparison> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let comparison = compare(before, &now()?, table);
        if comparison.differences.is_empty() || Instant::now() > deadline {
            return Ok(comparison);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

type Found = (Vec<String>, Option<Value>, Option<Value>);

/// Collects the deepest paths that differ. A map that is on one side only is walked too, so that an entry for one label
/// also covers an object that had no labels before.
fn walk(path: &mut Vec<String>, left: Option<&Value>, right: Option<&Value>, found: &mut Vec<Found>) {
    let mut below = |path: &mut Vec<String>, name: String, left: Option<&Value>, right: Option<&Value>| {
        path.push(name);
        walk(path, left, right, found);
        path.pop();
    };
    match (left, right) {
        (left, right) if left == right => {}
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            for name in left
                .keys()
                .chain(right.keys().filter(|name| !left.contains_key(*name)))
            {
                below(path, name.clone(), left.get(name), right.get(name));
            }
        }
        (Some(Value::Object(only)), None) if !only.is_empty() => {
            only.iter()
                .for_each(|(name, value)| below(path, name.clone(), Some(value), None));
        }
        (None, Some(Value::Object(only))) if !only.is_empty() => {
            only.iter()
                .for_each(|(name, value)| below(path, name.clone(), None, Some(value)));
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) if left.len() == right.len() => {
            for (position, (left, right)) in left.iter().zip(right).enumerate() {
                below(path, position.to_string(), Some(left), Some(right));
            }
        }
        (left, right) => found.push((path.clone(), left.cloned(), right.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot(resource: &str, object: Value) -> Snapshot {
        Snapshot::from([(ObjectKey::namespaced(resource, "shop", "a"), object)])
    }

    fn paths(resource: &str, left: Value, right: Value, table: &'static [Ignored]) -> Vec<String> {
        let comparison = compare(&snapshot(resource, left), &snapshot(resource, right), table);
        comparison
            .differences
            .iter()
            .map(|difference| printed(&difference.path))
            .collect()
    }

    #[test]
    fn finds_the_one_field_that_changed() {
        for (left, right, path) in [
            (json!({"a": 1}), json!({"a": 2}), ".a"),
            (json!({"a": {"b": 1}}), json!({"a": {}}), ".a.b"),
            (json!({"a": {}}), json!({}), ".a"),
            (json!({"a": null}), json!({}), ".a"),
            (json!({"a": [1, 2]}), json!({"a": [1, 3]}), ".a.1"),
            (json!({"a": [1, 2]}), json!({"a": [1]}), ".a"),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), ".a.0 .a.1"),
            (json!({"a": "1"}), json!({"a": 1}), ".a"),
            (json!({"b": 1}), json!({"b": {"c": 1}}), ".b"),
        ] {
            assert_eq!(paths("configmaps", left, right, &[]).join(" "), path);
        }
    }

    #[test]
    fn an_entry_covers_its_path_and_nothing_beside_it() {
        let left = json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"clusterIP": "10.0.0.1", "type": "ClusterIP"}});
        let right = json!({"metadata": {"name": "a", "uid": "2", "labels": {"velero.io/backup-name": "b", "mine": "1"}},
            "spec": {"clusterIP": "10.0.0.2", "type": "ClusterIP"}});
        assert_eq!(
            paths("services", left.clone(), right.clone(), RESTORED),
            [".metadata.labels.mine"]
        );
        assert_eq!(
            paths("configmaps", left, right, RESTORED),
            [".metadata.labels.mine", ".spec.clusterIP"]
        );
    }

    #[test]
    fn a_missing_object_is_a_difference_and_a_remade_one_is_not() {
        let empty = Snapshot::new();
        let gone = compare(&snapshot("configmaps", json!({})), &empty, RESTORED);
        assert_eq!((gone.compared, gone.differences.len()), (0, 1));
        let remade = compare(&snapshot("events", json!({})), &empty, RESTORED);
        assert_eq!(
            (remade.differences.len(), remade.unused().len()),
            (0, RESTORED.len() - 1)
        );
    }

    #[test]
    fn says_which_entries_nothing_needed() {
        let left = snapshot("configmaps", json!({"metadata": {"uid": "1"}}));
        let right = snapshot("configmaps", json!({"metadata": {"uid": "2"}}));
        let unused = compare(&left, &right, RESTORED).unused();
        assert!(!unused.iter().any(|entry| entry.path == ["metadata", "uid"]));
        assert!(unused.iter().any(|entry| entry.path == ["status"]));
    }
}
