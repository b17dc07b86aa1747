//! `cluster`: the backups of whole clusters, guarded against the deletion of their cluster.
//!
//! In comes a cluster by name, out go its protection, the choice about its backups, and what a deletion would be
//! answered. The rules are those of the gate itself (plan crate); here the facts are brought together and shown.

mod carry_out;
mod choose;
mod protect;
mod recover;
mod status;

use backup_engine::{
    clusters::{Clusters, Found},
    location::Location,
};
use velero_model::api::PROTECTED;

use crate::{
    exit::{Exit, Failure},
    request::{ClusterRequest, ClusterWord},
    session::Session,
};

pub(crate) async fn run(session: &Session, request: ClusterRequest) -> Result<Exit, Failure> {
    match request {
        ClusterRequest::Protect { cluster, place } => protect::run(session, &cluster, place.as_ref()).await,
        ClusterRequest::Recover(recovery) => Box::pin(recover::run(session, &recovery)).await,
        ClusterRequest::CarryOut { name } => carry_out::run(session, &name).await,
        ClusterRequest::Unprotect { cluster } => protect::end(session, &cluster).await,
        ClusterRequest::Choose { cluster, wish } => choose::run(session, &cluster, &wish).await,
        ClusterRequest::Status {
            name,
            kinds,
            namespace,
            is_everywhere,
        } => {
            let scope = status::Scope {
                name,
                kinds,
                namespace,
                is_everywhere,
            };
            status::run(session, scope).await
        }
    }
}

/// The management cluster, and the cluster that a word means in it.
async fn find(session: &Session, word: &ClusterWord) -> Result<(Clusters, Found), Failure> {
    let api = session.api().await?;
    let namespace = word
        .namespace
        .clone()
        .unwrap_or_else(|| api.default_namespace().to_owned());
    let clusters = Clusters::new(api);
    let mut candidates = Vec::new();
    let mut is_served = false;
    for kind in &word.kinds {
        let Some(kind) = session.unless_interrupted(clusters.kind(kind)).await? else {
            continue;
        };
        is_served = true;
        candidates.extend(
            session
                .unless_interrupted(clusters.get(&kind, &namespace, &word.name))
                .await?,
        );
    }
    if !is_served {
        return Err(no_management_cluster());
    }
    let found = pick(candidates, &word.name, &namespace)?;
    Ok((clusters, found))
}

fn no_management_cluster() -> Failure {
    Failure::NotFound(
        "this is no management cluster: it serves neither clusters of Cluster API nor TanzuKubernetesClusters; choose \
         another --context"
            .to_owned(),
    )
}

/// The one that is meant. Tanzu gives a TanzuKubernetesCluster a Cluster of the same name: the one that is protected is
/// meant, and of two that are or are not the owner, which takes the other along.
fn pick(mut candidates: Vec<Found>, name: &str, namespace: &str) -> Result<Found, Failure> {
    if candidates.iter().any(|found| found.cluster.is_protected()) {
        candidates.retain(|found| found.cluster.is_protected());
    }
    let owner = candidates.iter().position(|one| {
        candidates
            .iter()
            .all(|other| other.cluster.uid == one.cluster.uid || other.cluster.is_controlled_by(&one.cluster))
    });
    match owner {
        Some(position) => Ok(candidates.swap_remove(position)),
        None if candidates.is_empty() => Err(Failure::NotFound(format!(
            "there is no cluster {name} in namespace {namespace}; `kubectl backup cluster status -A` shows all"
        ))),
        None => Err(Failure::Usage(format!(
            "several kinds have a cluster {name} in namespace {namespace}; say which is meant with --kind cluster or --kind \
             tanzukubernetescluster"
        ))),
    }
}

/// Where the backups of a protected cluster are: the location by its name or URL, and the folder in it.
fn recorded(found: &Found) -> Option<(&str, &str)> {
    found.cluster.annotation(PROTECTED)?.rsplit_once(':')
}

/// The recorded place as a location, if its name is known here.
async fn storage(session: &Session, found: &Found) -> Result<Option<Location>, Failure> {
    let Some((word, prefix)) = recorded(found) else {
        return Ok(None);
    };
    Ok(Some(session.location_named(word).await?.below(prefix)))
}

/// `cluster/prod`, for `-o name`.
fn short(found: &Found) -> String {
    format!("{}/{}", found.cluster.kind.to_lowercase(), found.cluster.name)
}

#[cfg(test)]
mod tests {
    use backup_plan::disposition::{Cluster, Owner};
    use velero_model::{api::FINALIZER, resource::ApiKind};

    use super::*;

    fn found(kind: &str, uid: &str) -> Found {
        Found {
            kind: ApiKind {
                group: "g".into(),
                version: "v1".into(),
                plural: "p".into(),
                kind: kind.into(),
                namespaced: true,
            },
            cluster: Cluster {
                kind: kind.into(),
                name: "prod".into(),
                uid: uid.into(),
                ..Cluster::default()
            },
        }
    }

    #[test]
    fn of_two_kinds_the_protected_one_or_the_owner_is_meant() {
        let tanzu = || found("TanzuKubernetesCluster", "t");
        let owned = || {
            let mut found = found("Cluster", "c");
            found.cluster.owners.push(Owner {
                uid: "t".into(),
                is_controller: true,
            });
            found
        };
        let protected = |mut found: Found| {
            found.cluster.finalizers.push(FINALIZER.into());
            found
        };
        let table = [
            (vec![found("Cluster", "c")], Some("c")),
            (vec![owned(), tanzu()], Some("t")),
            (vec![protected(owned()), tanzu()], Some("c")),
            (vec![protected(owned()), protected(tanzu())], Some("t")),
            (vec![found("Cluster", "c"), tanzu()], None),
            (vec![], None),
        ];
        for (number, (candidates, expected)) in table.into_iter().enumerate() {
            let picked = pick(candidates, "prod", "team-a");
            assert_eq!(
                picked.ok().map(|found| found.cluster.uid).as_deref(),
                expected,
                "case {number}"
            );
        }
    }
}
