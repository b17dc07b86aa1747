//! The second stage for clusters that Cluster API makes from a ClusterClass: whether the parts of a cluster may be taken down
//! yet.
//!
//! The gate decides whether a deletion begins at all. Once it has begun, Cluster API asks its `BeforeClusterDelete` hook
//! before it touches machines; for other clusters nobody asks. The finalizer says it all: it is there as long as the work on
//! the backups, a last backup among it, is not proven done. Same cluster, same answer, without a clock.

use super::cluster::Cluster;
use super::message::name_of;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeforeDelete {
    /// Go on.
    Go,
    /// Not yet; in words.
    Wait(String),
}

/// Whether Cluster API may take the cluster down.
pub fn before_delete(cluster: &Cluster) -> BeforeDelete {
    if !cluster.has_finalizer() || cluster.is_marked_as_moved() {
        return BeforeDelete::Go;
    }
    BeforeDelete::Wait(format!(
        "{} keeps its machines until its backups are taken care of as was chosen: kubectl backup cluster status {} -n {}",
        name_of(cluster),
        cluster.name,
        cluster.namespace
    ))
}

#[cfg(test)]
mod tests {
    use velero_model::api::{DELETE_FOR_MOVE, FINALIZER, PROTECTED};

    use super::*;

    #[test]
    fn the_finalizer_alone_holds_it() {
        let cluster = |finalizers: &[&str], annotations: &[&str]| Cluster {
            kind: "Cluster".into(),
            namespace: "team-a".into(),
            name: "prod".into(),
            finalizers: finalizers.iter().map(|name| (*name).to_owned()).collect(),
            annotations: annotations
                .iter()
                .map(|key| ((*key).to_owned(), "main:team-a/prod".to_owned()))
                .collect(),
            ..Cluster::default()
        };
        let table = [
            (cluster(&[], &[]), true),
            (cluster(&["cluster.cluster.x-k8s.io"], &[PROTECTED]), true),
            (cluster(&[FINALIZER], &[PROTECTED]), false),
            (cluster(&["other", FINALIZER], &[]), false),
            (cluster(&[FINALIZER], &[DELETE_FOR_MOVE]), true),
        ];
        for (number, (cluster, goes)) in table.into_iter().enumerate() {
            let answer = before_delete(&cluster);
            assert_eq!(answer == BeforeDelete::Go, goes, "row {number}: {answer:?}");
        }
    }
}
