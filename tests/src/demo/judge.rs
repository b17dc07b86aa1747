//! What was there before against what is there now.
//!
//! In come two snapshots made by code that shares nothing with the product; out come counts and differences. A
//! difference counts when controllers have had their time and it is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use anyhow::Result;
use serde_json::Value;

use super::screen::Screen;
use crate::cluster::Cluster;
use crate::compare::{Comparison, Ignored, RESTORED, compare_settled};
use crate::snapshot::{self, ObjectKey, Snapshot};

/// Differences that are printed, of perhaps very many.
const SHOWN: usize = 20;

/// What differs from cluster to cluster, beyond [`RESTORED`].
const ELSEWHERE: [Ignored; 2] = [
    Ignored {
        resources: &["configmaps"],
        path: &["data", "ca.crt"],
        why: "every cluster has a certificate authority of its own",
    },
    Ignored {
        resources: &["secrets"],
        path: &["data", "ca.crt"],
        why: "every cluster has a certificate authority of its own",
    },
];

static OTHER_CLUSTER: LazyLock<Vec<Ignored>> =
    LazyLock::new(|| RESTORED.iter().copied().chain(ELSEWHERE).collect());

/// All comparisons of one demo.
#[derive(Debug, Default)]
pub(super) struct Judge {
    parts: Vec<String>,
    differences: usize,
    needed: BTreeSet<usize>,
}

impl Judge {
    /// The paths that comparisons pass over, each with its reason.
    pub(super) fn print_table(screen: &Screen) {
        screen.line("The comparison passes over these paths and no others:");
        for entry in OTHER_CLUSTER.iter() {
            screen.line(&format!("  {entry}"));
        }
    }

    /// Compares the same cluster.
    pub(super) fn restored(
        &mut self,
        screen: &Screen,
        what: &str,
        before: &Snapshot,
        now: impl FnMut() -> Result<Snapshot>,
    ) -> Result<()> {
        self.judge(screen, what, before, now, RESTORED)
    }

    /// Compares with another cluster.
    pub(super) fn moved(
        &mut self,
        screen: &Screen,
        what: &str,
        before: &Snapshot,
        now: impl FnMut() -> Result<Snapshot>,
    ) -> Result<()> {
        self.judge(screen, what, before, now, OTHER_CLUSTER.as_slice())
    }

    fn judge(
        &mut self,
        screen: &Screen,
        what: &str,
        before: &Snapshot,
        now: impl FnMut() -> Result<Snapshot>,
        table: &'static [Ignored],
    ) -> Result<()> {
        let comparison = compare_settled(before, now, table)?;
        self.take(screen, what, &comparison, table);
        Ok(())
    }

    fn take(&mut self, screen: &Screen, what: &str, comparison: &Comparison, table: &'static [Ignored]) {
        let (compared, differences) = (comparison.compared, comparison.differences.len());
        let objects = if compared == 1 { "object" } else { "objects" };
        screen.line(&format!(
            "-> compared {compared} {objects} {what}: {differences} differences"
        ));
        for difference in comparison.differences.iter().take(SHOWN) {
            screen.line(&format!("   {difference}"));
        }
        if differences > SHOWN {
            screen.line(&format!("   ... {} more", differences - SHOWN));
        }
        let unused = comparison.unused();
        let used = |(position, entry): (usize, &Ignored)| (!unused.contains(&entry)).then_some(position);
        self.needed.extend(table.iter().enumerate().filter_map(used));
        self.parts.push(format!("{compared} {objects} {what}"));
        self.differences += differences;
    }

    /// Entries of the tables that no comparison needed.
    pub(super) fn unused(&self) -> Vec<&'static Ignored> {
        let unused = |(position, entry)| (!self.needed.contains(&position)).then_some(entry);
        OTHER_CLUSTER.iter().enumerate().filter_map(unused).collect()
    }

    /// Counts something that was compared otherwise.
    pub(super) fn count(&mut self, what: &str, differences: usize) {
        self.parts.push(what.to_owned());
        self.differences += differences;
    }

    /// What was compared and what came of it.
    pub(super) fn verdict(&self) -> (String, usize) {
        let line = format!(
            "compared {}: {} differences",
            self.parts.join(", "),
            self.differences
        );
        (line, self.differences)
    }
}

/// The objects of a cluster that were not there when it was new.
pub(super) fn added_since(cluster: &Cluster, clean: &BTreeSet<ObjectKey>) -> Result<Snapshot> {
    let mut snapshot = snapshot::of_cluster(cluster)?;
    snapshot.retain(|key, _| !clean.contains(key));
    Ok(snapshot)
}

/// The objects of one namespace, read anew.
pub(super) fn namespace(cluster: &Cluster, name: &str) -> Result<Snapshot> {
    Ok(snapshot::in_namespace(&snapshot::of_cluster(cluster)?, name))
}

/// A namespace's objects as they must look under its new name.
pub(super) fn renamed(snapshot: &Snapshot, from: &str, to: &str) -> Snapshot {
    let mut renamed = BTreeMap::new();
    for (key, object) in snapshot {
        let (mut key, mut object) = (key.clone(), object.clone());
        if key.namespace.is_some() {
            key.namespace = Some(to.to_owned());
            replace(&mut object, "/metadata/namespace", from, to);
        } else if key.resource == "namespaces" {
            to.clone_into(&mut key.name);
            replace(&mut object, "/metadata/name", from, to);
            // The server sets this label to the name.
            replace(
                &mut object,
                "/metadata/labels/kubernetes.io~1metadata.name",
                from,
                to,
            );
        }
        renamed.insert(key, object);
    }
    renamed
}

fn replace(object: &mut Value, pointer: &str, from: &str, to: &str) {
    if let Some(value) = object.pointer_mut(pointer).filter(|value| *value == from) {
        *value = to.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compare::compare;

    #[test]
    fn a_renamed_namespace_differs_in_nothing_but_its_name() {
        let snapshot = Snapshot::from([
            (
                ObjectKey::cluster_scoped("namespaces", "a"),
                json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a", "team": "a"}}}),
            ),
            (
                ObjectKey::namespaced("configmaps", "a", "x"),
                json!({"metadata": {"name": "x", "namespace": "a"}, "data": {"namespace": "a"}}),
            ),
        ]);
        let renamed = renamed(&snapshot, "a", "b");
        let expected = Snapshot::from([
            (
                ObjectKey::cluster_scoped("namespaces", "b"),
                json!({"metadata": {"name": "b", "labels": {"kubernetes.io/metadata.name": "b", "team": "a"}}}),
            ),
            (
                ObjectKey::namespaced("configmaps", "b", "x"),
                json!({"metadata": {"name": "x", "namespace": "b"}, "data": {"namespace": "a"}}),
            ),
        ]);
        assert_eq!(renamed, expected);
    }

    #[test]
    fn a_difference_reaches_the_verdict() {
        let object = |colour: &str| {
            let key = ObjectKey::namespaced("configmaps", "a", "x");
            Snapshot::from([(
                key,
                json!({"metadata": {"name": "x", "uid": colour}, "data": {"colour": colour}}),
            )])
        };
        let mut judge = Judge::default();
        for (colour, differences) in [("blue", 0), ("green", 1)] {
            let comparison = compare(&object("blue"), &object(colour), RESTORED);
            judge.take(&Screen::new(), "in the test", &comparison, RESTORED);
            assert_eq!(judge.verdict().1, differences);
        }
        let line = judge.verdict().0;
        assert_eq!(
            line,
            "compared 1 object in the test, 1 object in the test: 1 differences"
        );
        let uid = |entry: &&Ignored| entry.path == ["metadata", "uid"];
        assert!(!judge.unused().iter().any(uid), "the entry for uids was needed");
    }

    #[test]
    fn the_table_for_another_cluster_holds_the_one_for_the_same() {
        assert!(OTHER_CLUSTER.starts_with(RESTORED));
    }
}
