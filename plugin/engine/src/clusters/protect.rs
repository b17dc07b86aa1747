//! Protection: the annotation that says where a cluster's backups are, the finalizer that holds the cluster, the label
//! that brings its namespace under the gate's rule; and the end of it.
//!
//! The namespace comes first and the cluster in one patch, so that a cluster is never half protected. Every patch names
//! the state that it was made from, and is made again from the next one when somebody else was quicker.

use serde_json::{Value, json};
use velero_model::api::{AT_STAKE, FINALIZER, HOLDS_CLUSTERS, PROTECTED, SOURCE, StorageFacts};

use backup_plan::disposition::name_of;

use super::{Clusters, ClustersError, Found};
use crate::api::{ApiError, PatchKind};

/// How often a patch is made anew because the object has changed.
const TRIES: u32 = 10;

/// What protecting changed.
#[derive(Debug, Clone)]
pub struct Protection {
    /// The cluster as it is now.
    pub found: Found,
    /// Whether there was anything to do on it.
    pub is_new: bool,
    /// Why the namespace bears no label, if it bears none.
    pub unlabelled: Option<String>,
}

impl Clusters {
    /// Protects a cluster whose backups are in `place` (`LOCATION:PREFIX`) and say of themselves that they come from `source`,
    /// where that is known; or repairs what is missing of its protection.
    ///
    /// # Errors
    /// [`ClustersError::Elsewhere`] when it is protected in another place and nothing of that is missing,
    /// [`ClustersError::Dying`], [`ClustersError::Refused`].
    pub async fn protect(
        &self,
        mut found: Found,
        place: &str,
        source: Option<&str>,
    ) -> Result<Protection, ClustersError> {
        let unlabelled = self.label(&found.cluster.namespace).await?;
        let mut is_new = false;
        for _ in 0..TRIES {
            let cluster = &found.cluster;
            let lacks_source = source.is_some() && cluster.annotation(SOURCE) != source;
            if let Some(recorded) = cluster.annotation(PROTECTED)
                && cluster.has_finalizer()
                && !lacks_source
            {
                if recorded != place && !is_new {
                    return Err(ClustersError::Elsewhere {
                        what: name_of(cluster),
                        recorded: recorded.to_owned(),
                        name: cluster.name.clone(),
                        namespace: cluster.namespace.clone(),
                    });
                }
                return Ok(Protection {
                    found,
                    is_new,
                    unlabelled,
                });
            }
            if cluster.is_dying() {
                return Err(ClustersError::Dying {
                    what: name_of(cluster),
                });
            }
            is_new = true;
            let place = cluster.annotation(PROTECTED).unwrap_or(place);
            let mut finalizers = cluster.finalizers.clone();
            if !cluster.has_finalizer() {
                finalizers.push(FINALIZER.to_owned());
            }
            let source = source.or_else(|| cluster.annotation(SOURCE));
            let patch =
                json!({ "annotations": { PROTECTED: place, SOURCE: source }, "finalizers": finalizers });
            found = self.change(found, patch, "protect").await?;
        }
        Err(ClustersError::Busy {
            what: name_of(&found.cluster),
        })
    }

    /// Takes all marks of protection off a cluster. Its backups are not touched.
    ///
    /// # Errors
    /// [`ClustersError::Refused`] without the right to decide.
    pub async fn unprotect(&self, mut found: Found) -> Result<Found, ClustersError> {
        for _ in 0..TRIES {
            let cluster = &found.cluster;
            if !cluster.is_protected() {
                return Ok(found);
            }
            let others = cluster
                .finalizers
                .iter()
                .filter(|finalizer| *finalizer != FINALIZER);
            let finalizers: Vec<&String> = others.collect();
            let patch = json!({ "annotations": { PROTECTED: null, SOURCE: null, AT_STAKE: null }, "finalizers": finalizers });
            found = self.change(found, patch, "unprotect").await?;
        }
        Err(ClustersError::Busy {
            what: name_of(&found.cluster),
        })
    }

    /// Records what is at stake on the cluster. `false` where that is somebody else's to write.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn record(&self, found: &Found, facts: &StorageFacts) -> Result<bool, ClustersError> {
        let text = serde_json::to_string(facts).unwrap_or_default();
        let patch = json!({ "metadata": { "uid": found.cluster.uid, "annotations": { AT_STAKE: text } } });
        match self.patch(&found.path(), &patch).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_forbidden() || error.is_invalid() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the label off a namespace that holds no protected cluster any more. Whether that worked changes nothing: a
    /// label too many only makes the gate look.
    pub async fn unlabel(&self, namespace: &str) {
        let patch = json!({ "metadata": { "labels": { HOLDS_CLUSTERS: null } } });
        if let Err(error) = self
            .patch(&format!("/api/v1/namespaces/{namespace}"), &patch)
            .await
        {
            tracing::info!("namespace {namespace} keeps its label: {error}");
        }
    }

    /// Labels a namespace; gives the reason where that is not ours to do.
    async fn label(&self, namespace: &str) -> Result<Option<String>, ClustersError> {
        let patch = json!({ "metadata": { "labels": { HOLDS_CLUSTERS: "undecided" } } });
        match self
            .patch(&format!("/api/v1/namespaces/{namespace}"), &patch)
            .await
        {
            Ok(()) => Ok(None),
            Err(error) if error.is_forbidden() => Ok(Some(error.server_message())),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes metadata from the state that `found` is; gives the state after it, or the newer one that stood in the way.
    async fn change(&self, found: Found, metadata: Value, verb: &str) -> Result<Found, ClustersError> {
        let cluster = &found.cluster;
        let mut patch = json!({ "metadata": metadata });
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.insert(
                "resourceVersion".to_owned(),
                cluster.resource_version.clone().into(),
            );
            metadata.insert("uid".to_owned(), cluster.uid.clone().into());
        }
        match self.patch(&found.path(), &patch).await {
            Ok(()) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                return Err(ClustersError::of_write(
                    format!("cannot {verb} {}", name_of(cluster)),
                    error,
                ));
            }
        }
        let now = self.get(&found.kind, &cluster.namespace, &cluster.name).await?;
        now.filter(|now| now.cluster.uid == cluster.uid)
            .ok_or_else(|| ClustersError::Gone {
                what: name_of(cluster),
            })
    }

    async fn patch(&self, path: &str, patch: &Value) -> Result<(), ApiError> {
        let body = patch.to_string().into();
        self.api.patch(path, &PatchKind::Merge, body).await.map(drop)
    }
}
