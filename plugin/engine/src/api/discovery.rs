//! What kinds an API server serves, also when a part of it is dead.
//!
//! Two requests of aggregated discovery, side by side; where a server does not know that form, one request a group. A group that
//! cannot be read is kept by name with its reason: a backup that lacks it must say so. kube's own discovery fails as a
//! whole when one group does, so it is not used.

use std::collections::BTreeSet;

use backup_plan::kinds::DiscoveredKind;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};
use velero_model::resource::ApiKind;

use super::{
    client::{ApiClient, Call},
    error::ApiError,
};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Kinds of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Every kind of every served version, in the server's order of groups.
    pub kinds: Vec<DiscoveredKind>,
    /// Groups that could not be read.
    pub failed_groups: Vec<FailedGroup>,
}

/// A group version that discovery could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedGroup {
    /// `metrics.k8s.io/v1beta1`.
    pub group_version: String,
    /// Why.
    pub reason: String,
}

impl ApiClient {
    /// Asks what the cluster serves.
    ///
    /// # Errors
    /// When the server cannot be reached or knows no discovery at all. A dead group is no error.
    pub async fn discover(&self) -> Result<Discovery, ApiError> {
        let mut discovery = Discovery::default();
        let roots = ["/api", "/apis"].map(|root| async move {
            let call = Call {
                accept: AGGREGATED,
                ..Call::get(root)
            };
            Ok::<_, ApiError>((root, self.call(call).await?))
        });
        for (root, body) in futures::future::try_join_all(roots).await? {
            match serde_json::from_slice::<APIGroupDiscoveryList>(&body) {
                Ok(list) if is_aggregated(&body) => add_aggregated(&mut discovery, list),
                _ => self.add_by_group(&mut discovery, root, &body).await?,
            }
        }
        Ok(discovery)
    }

    async fn add_by_group(
        &self,
        discovery: &mut Discovery,
        root: &str,
        body: &Bytes,
    ) -> Result<(), ApiError> {
        let parse = |_| ApiError::Parse {
            what: format!("GET {root}"),
            expected: "list of API groups",
        };
        let versions: Vec<(String, bool)> = if root == "/api" {
            vec![("v1".to_owned(), true)]
        } else {
            let groups: APIGroupList = serde_json::from_slice(body).map_err(parse)?;
            groups
                .groups
                .into_iter()
                .flat_map(|group| {
                    let preferred = group.preferred_version.map(|version| version.group_version);
                    group.versions.into_iter().map(move |version| {
                        let is_preferred = preferred.as_ref() == Some(&version.group_version);
                        (version.group_version, is_preferred)
                    })
                })
                .collect()
        };
        for (group_version, preferred) in versions {
            let path = format!("{root}/{group_version}");
            let list = match self.get(&path).await {
                Ok(Some(body)) => serde_json::from_slice::<APIResourceList>(&body)
                    .map_err(|_| "it answers no resource list".to_owned()),
                Ok(None) => Err("it is announced but not served".to_owned()),
                Err(error @ (ApiError::Unreachable { .. } | ApiError::Config { .. })) => return Err(error),
                Err(error) => Err(error.server_message()),
            };
            match list {
                Ok(list) => add_resource_list(discovery, &group_version, preferred, list),
                Err(reason) => discovery.failed_groups.push(FailedGroup {
                    group_version,
                    reason,
                }),
            }
        }
        Ok(())
    }
}

fn is_aggregated(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_slice::<Kind>(body).is_ok_and(|list| list.kind == "APIGroupDiscoveryList")
}

fn add_aggregated(discovery: &mut Discovery, list: APIGroupDiscoveryList) {
    for group in list.items {
        let name = group
            .metadata
            .and_then(|metadata| metadata.name)
            .unwrap_or_default();
        // The first version is the preferred one, but a kind may live only in a later one; the plan sorts that out.
        for (position, version) in group.versions.into_iter().enumerate() {
            let version_name = version.version.unwrap_or_default();
            if version.freshness.as_deref() == Some("Stale") {
                discovery.failed_groups.push(FailedGroup {
                    group_version: group_version(&name, &version_name),
                    reason: "the API server behind it does not answer; see `kubectl get apiservices`".into(),
                });
            }
            for resource in version.resources {
                discovery
                    .kinds
                    .extend(from_aggregated(&name, &version_name, position == 0, resource));
            }
        }
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn from_aggregated(
    group: &str,
    version: &str,
    preferred: bool,
    resource: APIResourceDiscovery,
) -> Option<DiscoveredKind> {
    Some(DiscoveredKind {
        api: ApiKind {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: resource.resource?,
            kind: resource.response_kind?.kind?,
            namespaced: resource.scope.as_deref() == Some("Namespaced"),
        },
        verbs: resource.verbs,
        short_names: resource.short_names,
        singular: resource.singular_resource.unwrap_or_default(),
        preferred,
        categories: resource.categories,
        is_held: false,
    })
}

fn add_resource_list(discovery: &mut Discovery, group_version: &str, preferred: bool, list: APIResourceList) {
    let (group, version) = group_version.rsplit_once('/').unwrap_or(("", group_version));
    let mut seen = BTreeSet::new();
    for resource in list.resources {
        if resource.name.contains('/') || !seen.insert(resource.name.clone()) {
            continue;
        }
        discovery.kinds.push(DiscoveredKind {
            api: ApiKind {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: resource.name,
                kind: resource.kind,
                namespaced: resource.namespaced,
            },
            verbs: resource.verbs,
            short_names: resource.short_names.unwrap_or_default(),
            singular: resource.singular_name,
            preferred,
            categories: resource.categories.unwrap_or_default(),
            is_held: false,
        });
    }
}
