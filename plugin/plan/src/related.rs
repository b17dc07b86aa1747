//! What an object cannot do without: the objects it pulls into a backup, each with the reason.
//!
//! In comes the raw JSON of one object; out go the names of related objects, as Velero's item actions find them, plus the
//! ClusterRole of a RoleBinding, without which a restored namespace has bindings to nothing. Only the few fields needed are
//! read, borrowed from the bytes, since this runs for every pod. Whether a related object exists and is in scope is decided
//! elsewhere.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use velero_model::resource::ApiKind;

use crate::kinds::is_built_in_group;

/// Why an object was pulled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A claim is bound to the volume.
    ClaimBoundToVolume,
    /// A pod mounts the claim.
    PodUsesClaim,
    /// A pod has the priority class.
    PodHasPriorityClass,
    /// A cluster role binding names the service account.
    BindingNamesServiceAccount,
    /// A binding that was taken names the cluster role.
    BindingNamesClusterRole,
    /// An object of the definition's kind was taken.
    DefinesCustomResource,
    /// An object in the namespace was taken.
    NamespaceOfObject,
}

impl Reason {
    /// The stable id, as in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::ClaimBoundToVolume => "claim-bound-to-volume",
            Self::PodUsesClaim => "pod-uses-claim",
            Self::PodHasPriorityClass => "pod-has-priority-class",
            Self::BindingNamesServiceAccount => "binding-names-service-account",
            Self::BindingNamesClusterRole => "binding-names-cluster-role",
            Self::DefinesCustomResource => "defines-custom-resource",
            Self::NamespaceOfObject => "namespace-of-object",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClaimBoundToVolume => "a claim that was taken is bound to it",
            Self::PodUsesClaim => "a pod that was taken mounts it",
            Self::PodHasPriorityClass => "a pod that was taken has this priority class",
            Self::BindingNamesServiceAccount => "it binds a service account that was taken",
            Self::BindingNamesClusterRole => "a binding that was taken grants it",
            Self::DefinesCustomResource => "objects of the kind that it defines were taken",
            Self::NamespaceOfObject => "an object in it was taken",
        })
    }
}

/// An object that another one needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Related {
    /// `persistentvolumes`, `clusterroles.rbac.authorization.k8s.io`.
    pub resource_group: Cow<'static, str>,
    /// Its namespace, unless cluster-scoped.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Why it comes along.
    pub reason: Reason,
}

impl Related {
    fn cluster(resource_group: &'static str, name: &str, reason: Reason) -> Self {
        Self {
            resource_group: Cow::Borrowed(resource_group),
            namespace: None,
            name: name.to_owned(),
            reason,
        }
    }
}

const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

/// The definition of a custom kind. Asked once per kind, not per object; an aggregated API has no definition, so the
/// answer may name one that does not exist.
pub fn definition_of(kind: &ApiKind) -> Option<Related> {
    (!is_built_in_group(&kind.group)).then(|| {
        Related::cluster(
            "customresourcedefinitions.apiextensions.k8s.io",
            &kind.resource_group(),
            Reason::DefinesCustomResource,
        )
    })
}

/// The namespace object of a namespace in which something was taken. Asked once per namespace.
pub fn namespace_of(namespace: &str) -> Related {
    Related::cluster("namespaces", namespace, Reason::NamespaceOfObject)
}

/// Whether objects of this kind can pull in others, so that [`direct`] is worth calling.
pub fn has_direct(kind: &ApiKind) -> bool {
    matches!(
        (kind.group.as_str(), kind.plural.as_str()),
        ("", "pods" | "persistentvolumeclaims")
            | (
                "rbac.authorization.k8s.io",
                "rolebindings" | "clusterrolebindings"
            )
    )
}

/// What one object pulls in by its own fields. Service accounts are looked up in a [`BindingIndex`], definitions and
/// namespaces by [`definition_of`] and [`namespace_of`].
///
/// # Errors
/// When the object's fields have other types than Kubernetes gives them.
pub fn direct(kind: &ApiKind, raw: &[u8]) -> Result<Vec<Related>, serde_json::Error> {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => Ok(of_pod(&serde_json::from_slice(raw)?)),
        ("", "persistentvolumeclaims") => Ok(of_claim(&serde_json::from_slice(raw)?)),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            let binding: Binding<'_> = serde_json::from_slice(raw)?;
            Ok(binding.cluster_role().map(cluster_role).into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn cluster_role(name: &str) -> Related {
    Related::cluster(CLUSTER_ROLES, name, Reason::BindingNamesClusterRole)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: PodSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow)]
    priority_class_name: Cow<'a, str>,
    #[serde(borrow)]
    volumes: Option<Vec<Volume<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    persistent_volume_claim: Option<ClaimSource<'a>>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSource<'a> {
    #[serde(borrow)]
    claim_name: Cow<'a, str>,
}

fn of_pod(pod: &Pod<'_>) -> Vec<Related> {
    let claim = |name: String| Related {
        resource_group: Cow::Borrowed("persistentvolumeclaims"),
        namespace: Some(pod.metadata.namespace.clone().into_owned()),
        name,
        reason: Reason::PodUsesClaim,
    };
    let mut related = Vec::new();
    for volume in pod.spec.volumes.iter().flatten() {
        if let Some(source) = &volume.persistent_volume_claim {
            related.push(claim(source.claim_name.clone().into_owned()));
        } else if volume.ephemeral.is_some() {
            related.push(claim(format!("{}-{}", pod.metadata.name, volume.name)));
        }
    }
    if !pod.spec.priority_class_name.is_empty() {
        related.push(Related::cluster(
            "priorityclasses.scheduling.k8s.io",
            &pod.spec.priority_class_name,
            Reason::PodHasPriorityClass,
        ));
    }
    related
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim<'a> {
    #[serde(borrow)]
    spec: ClaimSpec<'a>,
    #[serde(borrow)]
    status: ClaimStatus<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSpec<'a> {
    #[serde(borrow)]
    volume_name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimStatus<'a> {
    #[serde(borrow)]
    phase: Cow<'a, str>,
}

fn of_claim(claim: &Claim<'_>) -> Vec<Related> {
    if claim.status.phase != "Bound" || claim.spec.volume_name.is_empty() {
        return Vec::new();
    }
    vec![Related::cluster(
        "persistentvolumes",
        &claim.spec.volume_name,
        Reason::ClaimBoundToVolume,
    )]
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Binding<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    role_ref: RoleRef<'a>,
    #[serde(borrow)]
    subjects: Option<Vec<Subject<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoleRef<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subject<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
}

impl Binding<'_> {
    fn cluster_role(&self) -> Option<&str> {
        (self.role_ref.kind == "ClusterRole" && !self.role_ref.name.is_empty())
            .then_some(&*self.role_ref.name)
    }
}

/// Which cluster role bindings name which service account. Built once from all cluster role bindings.
#[derive(Debug, Clone, Default)]
pub struct BindingIndex {
    /// Binding and, if it grants one, cluster role.
    bindings: Vec<(String, Option<String>)>,
    subjects: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
}

impl BindingIndex {
    /// Adds one ClusterRoleBinding.
    ///
    /// # Errors
    /// When its fields have other types than Kubernetes gives them.
    pub fn add(&mut self, raw: &[u8]) -> Result<(), serde_json::Error> {
        let binding: Binding<'_> = serde_json::from_slice(raw)?;
        let position = self.bindings.len();
        for subject in binding
            .subjects
            .iter()
            .flatten()
            .filter(|subject| subject.kind == "ServiceAccount")
        {
            let of_account = self
                .subjects
                .entry(subject.namespace.clone().into_owned())
                .or_default()
                .entry(subject.name.clone().into_owned())
                .or_default();
            if of_account.last() != Some(&position) {
                of_account.push(position);
            }
        }
        self.bindings.push((
            binding.metadata.name.clone().into_owned(),
            binding.cluster_role().map(str::to_owned),
        ));
        Ok(())
    }

    /// The bindings that name the service account, each followed by the cluster role that it grants.
    pub fn related(&self, namespace: &str, service_account: &str) -> Vec<Related> {
        let positions = self
            .subjects
            .get(namespace)
            .and_then(|accounts| accounts.get(service_account));
        let mut related = Vec::new();
        for (binding, role) in positions
            .into_iter()
            .flatten()
            .filter_map(|position| self.bindings.get(*position))
        {
            related.push(Related::cluster(
                CLUSTER_ROLE_BINDINGS,
                binding,
                Reason::BindingNamesServiceAccount,
            ));
            related.extend(role.as_deref().map(cluster_role));
        }
        related
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    fn found(api: &ApiKind, object: &serde_json::Value) -> Vec<String> {
        let related = direct(api, object.to_string().as_bytes()).unwrap();
        assert!(related.is_empty() || has_direct(api));
        texts(&related)
    }

    fn texts(related: &[Related]) -> Vec<String> {
        related
            .iter()
            .map(|one| {
                let place = one
                    .namespace
                    .as_ref()
                    .map(|namespace| format!("{namespace}/"))
                    .unwrap_or_default();
                format!("{} {place}{} {}", one.resource_group, one.name, one.reason.id())
            })
            .collect()
    }

    #[test]
    fn pods_pull_claims_and_priority_class() {
        let pods = kind("v1", "pods", "Pod", true).api;
        let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {
        "priorityClassName": "high\u{2d}er",
        "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "emptyDir": {}},
            {"name": "c", "ephemeral": {"volumeClaimTemplate": {}}},
        ]}});
        assert_eq!(
            found(&pods, &pod),
            [
                "persistentvolumeclaims shop/data pod-uses-claim",
                "persistentvolumeclaims shop/p-c pod-uses-claim",
                "priorityclasses.scheduling.k8s.io high-er pod-has-priority-class",
            ]
        );
        assert!(found(&pods, &json!({"spec": {"volumes": null}})).is_empty());
        assert!(direct(&pods, br#"{"spec": 3}"#).is_err());
    }

    #[test]
    fn only_bound_claims_pull_volumes() {
        let claims = kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true).api;
        for (phase, volume, expected) in [
            (
                "Bound",
                "pv1",
                vec!["persistentvolumes pv1 claim-bound-to-volume"],
            ),
            ("Lost", "pv1", vec![]),
            ("Bound", "", vec![]),
        ] {
            let claim = json!({"spec": {"volumeName": volume}, "status": {"phase": phase}});
            assert_eq!(found(&claims, &claim), expected, "{phase} {volume}");
        }
    }

    #[test]
    fn bindings_pull_roles_and_are_pulled_by_accounts() {
        let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [
            {"kind": "ServiceAccount", "name": "sa", "namespace": "shop"},
            {"kind": "ServiceAccount", "name": "sa", "namespace": "shop"},
            {"kind": "User", "name": "sa", "namespace": "shop"},
        ]});
        let roles = kind(
            "rbac.authorization.k8s.io/v1",
            "rolebindings",
            "RoleBinding",
            true,
        )
        .api;
        assert_eq!(
            found(&roles, &binding),
            [format!("{CLUSTER_ROLES} r binding-names-cluster-role")]
        );
        let mut index = BindingIndex::default();
        index.add(br#"{"metadata":{"name":"other"},"roleRef":{"kind":"ClusterRole","name":"x"},"subjects":null}"#).unwrap();
        index.add(binding.to_string().as_bytes()).unwrap();
        assert_eq!(
            texts(&index.related("shop", "sa")),
            [
                format!("{CLUSTER_ROLE_BINDINGS} b binding-names-service-account"),
                format!("{CLUSTER_ROLES} r binding-names-cluster-role"),
            ]
        );
        assert!(index.related("shop", "other").is_empty() && index.related("bank", "sa").is_empty());
    }

    #[test]
    fn custom_kinds_have_a_definition() {
        let order = kind("shop.example.com/v1", "orders", "Order", true).api;
        assert_eq!(definition_of(&order).unwrap().name, "orders.shop.example.com");
        assert_eq!(
            definition_of(&kind("apps/v1", "deployments", "Deployment", true).api),
            None
        );
        assert_eq!(namespace_of("shop").name, "shop");
        assert_eq!(
            serde_json::to_value(Reason::PodUsesClaim).unwrap(),
            Reason::PodUsesClaim.id()
        );
    }
}
