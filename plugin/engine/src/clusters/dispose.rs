//! A choice: one StorageDisposition beside the cluster, made for its UID.
//!
//! The name follows from the cluster's name and UID, so that the same choice made twice is one object and a cluster that
//! is built anew under an old name meets nothing of the old one. A choice that is to expire is made anew, because it
//! expires after its creation; any other is changed in place, so that there is no moment without one.

use std::time::Duration;

use backup_plan::disposition::name_of;
use serde_json::{Value, json};
use velero_model::api::{
    ACCEPTED, BackupStorage, ClusterRef, FinalBackup, GROUP, StorageDisposition, StorageDispositionSpec,
    VERSION, WhenLocked,
};

use super::{Clusters, ClustersError, Found, disposition_kind};
use crate::api::{ApiError, object_path};

/// Between two looks at what has become of a choice.
const POLL: Duration = Duration::from_millis(200);

/// Tries against somebody who changes the same object.
const TRIES: u32 = 10;

/// What somebody wants to become of a cluster's backup storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Kept or deleted.
    pub storage: BackupStorage,
    /// How long what is kept stays, as a Go duration.
    pub retain_for: Option<String>,
    /// Whether a last backup is taken.
    pub final_backup: bool,
    /// Whether the cluster goes although object locks keep something.
    pub when_locked: WhenLocked,
    /// How long the choice holds, as a Go duration.
    pub expires_after: Option<String>,
}

/// The object that holds a choice.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// As the server has it.
    pub object: StorageDisposition,
    /// Whether it had to be written.
    pub is_new: bool,
}

/// What has become of a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It counts, also while our server is away.
    Accepted,
    /// It does not count, and why.
    Rejected(String),
    /// Nobody has answered yet.
    Unanswered,
}

impl Wish {
    /// The object's spec for this cluster.
    fn spec(&self, found: &Found) -> StorageDispositionSpec {
        let cluster = &found.cluster;
        StorageDispositionSpec {
            cluster_ref: ClusterRef {
                group: cluster.group.clone(),
                kind: cluster.kind.clone(),
                name: cluster.name.clone(),
                uid: cluster.uid.clone(),
            },
            backup_storage: self.storage,
            retain_for: self.retain_for.clone(),
            final_backup: if self.final_backup {
                FinalBackup::Required
            } else {
                FinalBackup::Skip
            },
            when_locked: self.when_locked,
            expires_after: self.expires_after.clone(),
        }
    }
}

/// The name of the object that holds the choice for a cluster.
fn object_name(found: &Found) -> String {
    let uid: String = found.cluster.uid.chars().take(8).collect();
    let name: String = found.cluster.name.chars().take(200).collect();
    format!("{name}-{uid}")
}

impl Clusters {
    /// Writes a choice; one that stands already, in every word, is left as it is.
    ///
    /// # Errors
    /// [`ClustersError::Refused`] with the server's words, [`ClustersError::NotInstalled`].
    pub async fn choose(&self, found: &Found, wish: &Wish) -> Result<Chosen, ClustersError> {
        let kind = disposition_kind();
        let namespace = Some(found.cluster.namespace.as_str());
        let name = object_name(found);
        let path = object_path(&kind, namespace, &name);
        let collection = kind.collection_path(namespace);
        let spec = wish.spec(found);
        let body = |resource_version: Option<String>| {
            json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "StorageDisposition",
                "metadata": {
                    "name": name, "namespace": found.cluster.namespace, "resourceVersion": resource_version,
                },
                "spec": spec,
            })
        };
        let what = || {
            format!(
                "{} of the backup storage of {} cannot be chosen",
                wish.storage.word(),
                name_of(&found.cluster)
            )
        };
        for _ in 0..TRIES {
            let standing = self.read_choice(&path).await?;
            let written = match standing {
                Some(object) if object.spec == spec && spec.expires_after.is_none() => {
                    return Ok(Chosen {
                        object,
                        is_new: false,
                    });
                }
                Some(object) if spec.expires_after.is_none() => {
                    let body = body(object.metadata.resource_version);
                    self.api.replace(&path, body.to_string().into()).await
                }
                Some(object) => {
                    let options = json!({ "preconditions": { "uid": object.metadata.uid } });
                    let deleted = self.api.delete_with(&path, options.to_string().into()).await;
                    match deleted {
                        Err(error) if !error.is_conflict() => Err(error),
                        _ => continue,
                    }
                }
                None => {
                    let created = self.api.create(&collection, body(None).to_string().into()).await;
                    match created {
                        // The collection itself is unknown.
                        Err(error) if error.is_not_found() => return Err(ClustersError::NotInstalled),
                        other => other,
                    }
                }
            };
            match written {
                Ok(answer) => {
                    return Ok(Chosen {
                        object: parse(&path, &answer)?,
                        is_new: true,
                    });
                }
                Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => {}
                Err(error) => return Err(ClustersError::of_write(what(), error)),
            }
        }
        Err(ClustersError::Busy {
            what: format!("storagedisposition {name}"),
        })
    }

    /// Waits until a choice is accepted or rejected, at most so long. What counts is what the floor policy reads: the
    /// annotation on the cluster.
    ///
    /// # Errors
    /// When the server cannot be asked, or the cluster is gone.
    pub async fn wait_for_acceptance(
        &self,
        found: &Found,
        chosen: &Chosen,
        at_most: Duration,
    ) -> Result<Acceptance, ClustersError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let name = chosen.object.metadata.name.clone().unwrap_or_default();
        let namespace = Some(found.cluster.namespace.as_str());
        let path = object_path(&disposition_kind(), namespace, &name);
        let wanted = format!(
            "{}/{}",
            chosen.object.spec.backup_storage.word(),
            found.cluster.uid
        );
        loop {
            let cluster = self
                .get(&found.kind, &found.cluster.namespace, &found.cluster.name)
                .await?;
            let Some(cluster) = cluster.filter(|now| now.cluster.uid == found.cluster.uid) else {
                return Err(ClustersError::Gone {
                    what: name_of(&found.cluster),
                });
            };
            let is_accepted = cluster.cluster.annotation(ACCEPTED) == Some(wanted.as_str());
            let rejection = self
                .read_choice(&path)
                .await?
                .and_then(|object| rejection(&object));
            if let Some(reason) = rejection {
                return Ok(Acceptance::Rejected(reason));
            }
            if is_accepted {
                return Ok(Acceptance::Accepted);
            }
            if tokio::time::Instant::now() + POLL > deadline {
                return Ok(Acceptance::Unanswered);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn read_choice(&self, path: &str) -> Result<Option<StorageDisposition>, ClustersError> {
        match self.api.get(path).await? {
            Some(body) => Ok(Some(parse(path, &body)?)),
            None => Ok(None),
        }
    }
}

fn parse(path: &str, body: &[u8]) -> Result<StorageDisposition, ClustersError> {
    serde_json::from_slice(body).map_err(|_| {
        ApiError::Parse {
            what: format!("GET {path}"),
            expected: "StorageDisposition",
        }
        .into()
    })
}

/// Why the reconciler does not accept this generation of the object, if it has said so.
fn rejection(object: &StorageDisposition) -> Option<String> {
    let status = object.status.as_ref()?;
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Accepted")?;
    let is_current =
        condition.observed_generation.or(status.observed_generation) == object.metadata.generation;
    (is_current && condition.status == "False").then(|| condition.message.clone())
}

/// The object as a document, without what only the server's bookkeeping needs.
impl Chosen {
    /// For `-o json`.
    pub fn document(&self) -> Value {
        let mut value = serde_json::to_value(&self.object).unwrap_or_default();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        value
    }
}
