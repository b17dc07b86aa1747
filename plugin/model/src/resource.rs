//! What kind of object something is: group, version, plural resource and kind, in Kubernetes' own words.
//!
//! Comes in from discovery or from the paths of an archive; goes out as the folder names of the tarball, the keys of
//! `resource-list.json` and the URLs of the API server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One kind of object as an API server serves it, or as an archive names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKind {
    /// API group, empty for the core group.
    pub group: String,
    /// Version without the group, `v1`.
    pub version: String,
    /// Lower-case plural, `deployments`.
    pub plural: String,
    /// Kind, `Deployment`.
    pub kind: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

impl ApiKind {
    /// `group/version`, or just the version for the core group: the `apiVersion` of the objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, `pods`: the folder name in an archive and the word a user types.
    pub fn resource_group(&self) -> String {
        resource_group(&self.plural, &self.group)
    }

    /// `apps/v1/Deployment`, `v1/Pod`: the key in Velero's `resource-list.json`.
    pub fn list_key(&self) -> String {
        format!("{}/{}", self.api_version(), self.kind)
    }

    /// Path of the collection below the API server's root, without a query: `/apis/apps/v1/namespaces/shop/deployments`.
    /// A namespace given for a cluster-scoped kind is ignored.
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{api_version}/{}", self.plural),
        }
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource_group())
    }
}

/// Joins a plural and a group as Velero writes them: `deployments.apps`, `pods`.
pub fn resource_group(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// Splits `deployments.apps` into plural and group; the group of `pods` is empty.
pub fn split_resource_group(resource_group: &str) -> (&str, &str) {
    resource_group.split_once('.').unwrap_or((resource_group, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_keys_are_kubernetes_own() {
        let deployment = ApiKind {
            group: "apps".into(),
            version: "v1".into(),
            plural: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: true,
        };
        assert_eq!(
            deployment.collection_path(Some("shop")),
            "/apis/apps/v1/namespaces/shop/deployments"
        );
        assert_eq!(deployment.collection_path(None), "/apis/apps/v1/deployments");
        assert_eq!(deployment.list_key(), "apps/v1/Deployment");
        let node = ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "nodes".into(),
            kind: "Node".into(),
            namespaced: false,
        };
        assert_eq!(node.collection_path(Some("shop")), "/api/v1/nodes");
        assert_eq!(node.resource_group(), "nodes");
        assert_eq!(
            split_resource_group("crds.apiextensions.k8s.io"),
            ("crds", "apiextensions.k8s.io")
        );
    }
}
