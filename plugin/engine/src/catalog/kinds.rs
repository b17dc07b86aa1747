//! The kinds of a backup as if discovery had found them, so that users' words work without a cluster.
//!
//! An index knows group, version, plural, kind and scope; the short names are those that Kubernetes' own kinds have had
//! for years. Custom kinds have none here.

use backup_plan::kinds::{DiscoveredKind, NEEDED_VERBS};
use velero_model::{
    index::Directory,
    item::Head,
    resource::{ApiKind, split_resource_group},
};

/// Resource and its short names, as `kubectl api-resources` prints them.
const SHORT_NAMES: [(&str, &[&str]); 31] = [
    ("certificatesigningrequests.certificates.k8s.io", &["csr"]),
    ("componentstatuses", &["cs"]),
    ("configmaps", &["cm"]),
    ("cronjobs.batch", &["cj"]),
    ("customresourcedefinitions.apiextensions.k8s.io", &["crd", "crds"]),
    ("daemonsets.apps", &["ds"]),
    ("deployments.apps", &["deploy"]),
    ("endpoints", &["ep"]),
    ("events", &["ev"]),
    ("events.events.k8s.io", &["ev"]),
    ("horizontalpodautoscalers.autoscaling", &["hpa"]),
    ("ingresses.networking.k8s.io", &["ing"]),
    ("limitranges", &["limits"]),
    ("namespaces", &["ns"]),
    ("networkpolicies.networking.k8s.io", &["netpol"]),
    ("nodes", &["no"]),
    ("persistentvolumeclaims", &["pvc"]),
    ("persistentvolumes", &["pv"]),
    ("poddisruptionbudgets.policy", &["pdb"]),
    ("pods", &["po"]),
    ("priorityclasses.scheduling.k8s.io", &["pc"]),
    ("replicasets.apps", &["rs"]),
    ("replicationcontrollers", &["rc"]),
    ("resourcequotas", &["quota"]),
    ("serviceaccounts", &["sa"]),
    ("services", &["svc"]),
    ("statefulsets.apps", &["sts"]),
    ("storageclasses.storage.k8s.io", &["sc"]),
    ("ipaddresses.networking.k8s.io", &["ip"]),
    ("volumeattributesclasses.storage.k8s.io", &["vac"]),
    ("volumesnapshots.snapshot.storage.k8s.io", &["vs"]),
];

/// The kinds that a backup holds.
pub fn kinds_from_directory(directory: &Directory) -> Vec<DiscoveredKind> {
    directory
        .kinds
        .iter()
        .map(|count| discovered(&count.kind))
        .collect()
}

/// One kind with the words that name it.
pub(super) fn discovered(kind: &ApiKind) -> DiscoveredKind {
    let resource_group = kind.resource_group();
    let short_names = SHORT_NAMES
        .iter()
        .find(|(known, _)| *known == resource_group)
        .map_or(&[][..], |(_, names)| names);
    DiscoveredKind {
        verbs: NEEDED_VERBS.map(String::from).to_vec(),
        short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
        singular: kind.kind.to_lowercase(),
        preferred: true,
        categories: Vec::new(),
        is_held: true,
        api: kind.clone(),
    }
}

/// The kind of an object, from its place in an archive and its own words.
pub(super) fn kind_of(resource_group: &str, namespaced: bool, head: Option<&Head<'_>>) -> ApiKind {
    let (plural, group) = split_resource_group(resource_group);
    let api_version = head
        .and_then(|head| head.api_version.as_deref())
        .unwrap_or_default();
    ApiKind {
        group: group.to_owned(),
        version: api_version.rsplit('/').next().unwrap_or_default().to_owned(),
        plural: plural.to_owned(),
        kind: head
            .and_then(|head| head.kind.as_deref())
            .unwrap_or_default()
            .to_owned(),
        namespaced,
    }
}

#[cfg(test)]
mod tests {
    use backup_plan::resource_names::resolve;
    use velero_model::index::KindCount;

    use super::*;

    fn kind(group: &str, plural: &str, kind: &str) -> KindCount {
        let kind = ApiKind {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced: true,
        };
        KindCount { kind, count: 1 }
    }

    #[test]
    fn users_words_name_the_kinds_of_a_backup() {
        let kinds = vec![
            kind("", "services", "Service"),
            kind("apps", "deployments", "Deployment"),
            kind("serving.knative.dev", "services", "Service"),
            kind("shop.example.com", "orders", "Order"),
        ];
        let kinds = kinds_from_directory(&Directory {
            kinds,
            ..Directory::default()
        });
        for (word, expected) in [
            ("svc", "services"),
            ("deploy", "deployments.apps"),
            ("Deployment", "deployments.apps"),
            ("services.serving.knative.dev", "services.serving.knative.dev"),
            ("order", "orders.shop.example.com"),
        ] {
            assert_eq!(
                resolve(word, &kinds).unwrap()[0].api.resource_group(),
                expected,
                "{word}"
            );
        }
        assert!(resolve("po", &kinds).is_err());
    }
}
