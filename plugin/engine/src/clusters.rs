//! Clusters of Cluster API and Tanzu whose backup storage is protected, and the choices about it.
//!
//! In come kinds, namespaces and names; out go the facts that the rules in the plan crate decide with, and writes: the
//! marks of protection, the choice as a StorageDisposition. Nothing here decides. Only metadata of clusters is read, so
//! that every version of every kind will do.

mod dispose;
mod error;
mod protect;
mod receipts;
mod stake;
pub mod work;
mod workload;

use backup_plan::disposition::{Cluster, Kind};
use serde::Deserialize;
use serde_json::Value;
use velero_model::{
    api::{GROUP, StorageDisposition, VERSION},
    resource::ApiKind,
};

pub use self::{
    dispose::{Acceptance, Chosen, Wish},
    error::ClustersError,
    protect::Protection,
    receipts::WorkSeen,
    stake::{Stake, stake},
    workload::Workload,
};
use crate::api::{ApiClient, ApiError, ListRequest, object_path};

/// Clusters behind one API server, which is that of their management cluster.
#[derive(Clone)]
pub struct Clusters {
    api: ApiClient,
}

/// A cluster and the kind under which the server has it.
#[derive(Debug, Clone)]
pub struct Found {
    /// For paths.
    pub kind: ApiKind,
    /// For decisions.
    pub cluster: Cluster,
}

impl Found {
    fn path(&self) -> String {
        object_path(&self.kind, Some(&self.cluster.namespace), &self.cluster.name)
    }
}

impl Clusters {
    /// Of the management cluster behind `api`.
    pub fn new(api: ApiClient) -> Self {
        Self { api }
    }

    /// The kind in the version that the server prefers; `None` where it does not serve the kind.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn kind(&self, kind: &Kind) -> Result<Option<ApiKind>, ClustersError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            preferred_version: Preferred,
        }
        #[derive(Deserialize)]
        struct Preferred {
            version: String,
        }
        let path = format!("/apis/{}", kind.group);
        let Some(body) = self.api.get(&path).await? else {
            return Ok(None);
        };
        let group: Group = serde_json::from_slice(&body).map_err(|_| ApiError::Parse {
            what: format!("GET {path}"),
            expected: "API group",
        })?;
        Ok(Some(ApiKind {
            group: kind.group.clone(),
            version: group.preferred_version.version,
            plural: kind.plural.clone(),
            kind: kind.kind.clone(),
            namespaced: true,
        }))
    }

    /// One cluster.
    ///
    /// # Errors
    /// When the server cannot be asked or answers with no object.
    pub async fn get(
        &self,
        kind: &ApiKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Found>, ClustersError> {
        let path = object_path(kind, Some(namespace), name);
        match self.api.get(&path).await? {
            Some(body) => Ok(Some(read(kind, &body)?)),
            None => Ok(None),
        }
    }

    /// All clusters of a kind, in one namespace or in all.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn list(&self, kind: &ApiKind, namespace: Option<&str>) -> Result<Vec<Found>, ClustersError> {
        let mut found = Vec::new();
        let mut pages = self.api.list(ListRequest {
            kind: kind.clone(),
            namespace: namespace.map(str::to_owned),
            selector: String::new(),
            metadata_only: true,
        });
        while let Some(page) = pages.next().await? {
            for (raw, _) in page.objects() {
                found.push(read(kind, raw)?);
            }
        }
        Ok(found)
    }

    /// All choices in one namespace or in all.
    ///
    /// # Errors
    /// [`ClustersError::NotInstalled`] where the server does not know StorageDispositions.
    pub async fn dispositions(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<StorageDisposition>, ClustersError> {
        let mut found = Vec::new();
        let mut pages = self.api.list(ListRequest {
            kind: disposition_kind(),
            namespace: namespace.map(str::to_owned),
            selector: String::new(),
            metadata_only: false,
        });
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(found),
                Err(error) if error.is_not_found() => return Err(ClustersError::NotInstalled),
                Err(error) => return Err(error.into()),
            };
            for (raw, _) in page.objects() {
                found.push(serde_json::from_slice(raw).map_err(|_| ApiError::Parse {
                    what: "list of storagedispositions.kubectl-backup.io".to_owned(),
                    expected: "StorageDisposition",
                })?);
            }
        }
    }

    /// Whom the server takes us for.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn whoami(&self) -> Result<String, ClustersError> {
        let review =
            serde_json::json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let body = self.api.create(path, review.to_string().into()).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name = answer
            .pointer("/status/userInfo/username")
            .and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| {
            ApiError::Parse {
                what: format!("POST {path}"),
                expected: "SelfSubjectReview",
            }
            .into()
        })
    }
}

/// StorageDispositions on the server.
fn disposition_kind() -> ApiKind {
    ApiKind {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        plural: "storagedispositions".to_owned(),
        kind: "StorageDisposition".to_owned(),
        namespaced: true,
    }
}

fn read(kind: &ApiKind, raw: &[u8]) -> Result<Found, ClustersError> {
    let parsed = str::from_utf8(raw)
        .ok()
        .and_then(|json| Cluster::read(&kind.group, &kind.kind, json).ok());
    let cluster = parsed.ok_or_else(|| ApiError::Parse {
        what: format!("GET {}", kind.resource_group()),
        expected: "object with metadata",
    })?;
    Ok(Found {
        kind: kind.clone(),
        cluster,
    })
}
