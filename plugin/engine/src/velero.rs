//! A running Velero, driven through its API objects.
//!
//! In come the same requests that engine `direct` takes; out go Backup, Restore, DeleteBackupRequest and DownloadRequest
//! objects, and what came of them. Whether a Velero is there for a location is decided in [`choice`], what is submitted in
//! [`submit`] (both pure), everything is checked before it is submitted in [`check`], waited for in [`follow`], read back
//! in [`fetch`] and deleted in [`delete`]. Later code may rely on: nothing is submitted that Velero is known to refuse or
//! to understand otherwise, a wait says how the run ended and never only that it ended, and whoever stops waiting stops
//! nothing.

pub mod check;
pub mod choice;
pub mod delete;
mod download;
mod error;
pub mod fetch;
pub mod follow;
pub mod left_out;
pub mod retain;
pub mod schedule;
mod signed_url;
pub mod submit;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use velero_model::{
    api_object::{BackupStorageLocation, Run},
    resource::ApiKind,
};

pub use self::{
    choice::{Choice, Wanted},
    error::VeleroError,
};
use crate::api::{ApiClient, ApiError, ListRequest, object_path};

/// Kinds of Velero's API objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Backups.
    Backup,
    /// Restores.
    Restore,
    /// BackupStorageLocations.
    BackupStorageLocation,
    /// DeleteBackupRequests.
    DeleteBackupRequest,
    /// DownloadRequests.
    DownloadRequest,
    /// Schedules.
    Schedule,
}

impl Kind {
    /// The kind's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "Backup",
            Self::Restore => "Restore",
            Self::BackupStorageLocation => "BackupStorageLocation",
            Self::DeleteBackupRequest => "DeleteBackupRequest",
            Self::DownloadRequest => "DownloadRequest",
            Self::Schedule => "Schedule",
        }
    }

    fn api(self) -> ApiKind {
        ApiKind {
            group: "velero.io".to_owned(),
            version: "v1".to_owned(),
            plural: format!("{}s", self.word().to_ascii_lowercase()),
            kind: self.word().to_owned(),
            namespaced: true,
        }
    }
}

/// Velero's objects in one namespace of one cluster.
#[derive(Clone)]
pub struct Velero {
    api: ApiClient,
    namespace: String,
}

impl Velero {
    /// The Velero whose objects live in `namespace`. Nothing is asked yet.
    pub fn new(api: ApiClient, namespace: impl Into<String>) -> Self {
        Self {
            api,
            namespace: namespace.into(),
        }
    }

    /// The namespace of its objects.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API server that holds them.
    pub fn api(&self) -> &ApiClient {
        &self.api
    }

    fn path(&self, kind: Kind, name: &str) -> String {
        object_path(&kind.api(), Some(&self.namespace), name)
    }

    /// An object in words: `Backup velero/nightly`.
    fn what(&self, kind: Kind, name: &str) -> String {
        format!("{} {}/{name}", kind.word(), self.namespace)
    }

    /// One object as the server holds it; `None` when it is not there, or when its kind is not.
    pub(crate) async fn raw(&self, kind: Kind, name: &str) -> Result<Option<Bytes>, ApiError> {
        self.api.get(&self.path(kind, name)).await
    }

    async fn get<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>, VeleroError> {
        let Some(bytes) = self.raw(kind, name).await? else {
            return Ok(None);
        };
        let object = serde_json::from_slice(&bytes).map_err(|source| VeleroError::Object {
            what: self.what(kind, name),
            source,
        })?;
        Ok(Some(object))
    }

    /// A Backup or Restore.
    ///
    /// # Errors
    /// When the server cannot be asked, or holds something else.
    pub async fn run(&self, kind: Kind, name: &str) -> Result<Option<Run>, VeleroError> {
        self.get(kind, name).await
    }

    /// A location by name.
    ///
    /// # Errors
    /// As [`Velero::run`].
    pub async fn location(&self, name: &str) -> Result<Option<BackupStorageLocation>, VeleroError> {
        self.get(Kind::BackupStorageLocation, name).await
    }

    /// All objects of a kind. Objects that cannot be read are passed over.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn list<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, ApiError> {
        let mut pager = self.api.list(ListRequest {
            kind: kind.api(),
            namespace: Some(self.namespace.clone()),
            selector: String::new(),
            metadata_only: false,
        });
        let mut objects = Vec::new();
        while let Some(page) = pager.next().await? {
            let parsed = page
                .objects()
                .filter_map(|(raw, _)| serde_json::from_slice(raw).ok());
            objects.extend(parsed);
        }
        Ok(objects)
    }

    async fn create<T: Serialize>(&self, kind: Kind, name: &str, object: &T) -> Result<(), VeleroError> {
        let body = serde_json::to_vec(object).map_err(|source| VeleroError::Object {
            what: self.what(kind, name),
            source,
        })?;
        let path = kind.api().collection_path(Some(&self.namespace));
        match self.api.create(&path, body.into()).await {
            Ok(_) => Ok(()),
            // Its absence was looked at a moment ago, and names are not given twice: what is there now is ours.
            Err(ApiError::Ambiguous { .. }) if self.raw(kind, name).await?.is_some() => Ok(()),
            Err(error) if error.is_already_exists() => {
                let phase = self
                    .run(kind, name)
                    .await?
                    .map(|run| run.status.phase_word().to_owned());
                Err(VeleroError::Exists {
                    what: self.what(kind, name),
                    phase: phase.unwrap_or_else(|| "New".to_owned()),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A name for a request: the backup's, and something that no other request has.
fn request_name(name: &str) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    // Object names may have 253 characters, the backup's own as many.
    let kept: String = name.chars().take(200).collect();
    format!("{}-{}", kept.trim_end_matches(['.', '-']), &unique[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_under_veleros_paths() {
        assert_eq!(Kind::DeleteBackupRequest.api().plural, "deletebackuprequests");
        assert_eq!(
            object_path(&Kind::BackupStorageLocation.api(), Some("velero"), "default"),
            "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/default"
        );
    }

    #[test]
    fn names_of_requests_are_names_of_objects() {
        for name in ["nightly", &"a.".repeat(120)] {
            let request = request_name(name.trim_end_matches('.'));
            assert!(
                velero_model::name::BackupName::parse(&request).is_ok(),
                "{request}"
            );
        }
        assert_ne!(request_name("a"), request_name("a"));
    }
}
