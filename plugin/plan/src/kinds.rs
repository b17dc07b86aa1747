//! Which of the kinds that an API server serves are worth listing, and in which order.
//!
//! In comes what discovery found, every group and version; out goes [`KindChoice`]: each set of objects exactly once, in
//! a fixed order, and every other entry with the rule that left it out. Subresources are no objects and are dropped
//! without a word.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use velero_model::resource::ApiKind;

use crate::rule::Rule;

/// One kind in one version, as discovery describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredKind {
    /// Group, version, plural, kind and scope.
    pub api: ApiKind,
    /// `verbs`.
    pub verbs: Vec<String>,
    /// `shortNames`: `deploy`.
    pub short_names: Vec<String>,
    /// `singularName`, empty where the server gives none.
    pub singular: String,
    /// Whether this is the group's preferred version.
    pub preferred: bool,
    /// `categories`: `all`.
    pub categories: Vec<String>,
    /// Whether the backup that is looked at holds objects of it: a word means such a kind before any other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held: bool,
}

/// The verbs without which an object cannot be backed up and brought back.
pub const NEEDED_VERBS: [&str; 3] = ["list", "create", "get"];

/// Kinds that two groups serve from the same storage: plural, group to take, other group.
const COHABITING: [(&str, &str, &str); 6] = [
    ("deployments", "apps", "extensions"),
    ("daemonsets", "apps", "extensions"),
    ("replicasets", "apps", "extensions"),
    ("ingresses", "networking.k8s.io", "extensions"),
    ("networkpolicies", "networking.k8s.io", "extensions"),
    ("events", "", "events.k8s.io"),
];

const BUILT_IN_GROUPS: [&str; 24] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Kinds whose objects come and go by themselves, or change every few seconds.
const RESTLESS: [&str; 3] = ["events", "events.events.k8s.io", "leases.coordination.k8s.io"];

/// Whether objects of the kind come, go and change by themselves, so that two looks at them never agree.
pub fn is_restless(kind: &ApiKind) -> bool {
    RESTLESS.contains(&kind.resource_group().as_str())
}

/// Whether the API server itself defines the group, so that its kinds have no CustomResourceDefinition.
pub fn is_built_in_group(group: &str) -> bool {
    BUILT_IN_GROUPS.contains(&group)
}

/// The other group that serves the same objects, as `plural.group`.
pub fn cohabitant(kind: &ApiKind) -> Option<String> {
    COHABITING
        .iter()
        .find(|(plural, ..)| *plural == kind.plural)
        .and_then(|(plural, taken, other)| {
            let partner = match kind.group.as_str() {
                group if group == *taken => *other,
                group if group == *other => *taken,
                _ => return None,
            };
            Some(velero_model::resource::resource_group(plural, partner))
        })
}

/// What to list and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindChoice {
    /// Kinds to list, in order.
    pub taken: Vec<DiscoveredKind>,
    /// Everything else with its rule, sorted.
    pub skipped: Vec<(ApiKind, Rule)>,
}

/// Chooses among all kinds of all groups and versions. The order of the input decides only between versions of which none
/// is preferred; servers list versions by priority.
pub fn choose(discovered: &[DiscoveredKind]) -> KindChoice {
    let mut choice = KindChoice::default();
    let mut versions: BTreeMap<(&str, &str), Vec<&DiscoveredKind>> = BTreeMap::new();
    for kind in discovered.iter().filter(|kind| !kind.api.plural.contains('/')) {
        versions
            .entry((&kind.api.group, &kind.api.plural))
            .or_default()
            .push(kind);
    }
    let mut taken = Vec::new();
    for candidates in versions.values() {
        let Some(best) = candidates
            .iter()
            .min_by_key(|kind| (!missing_verbs(kind).is_empty(), !kind.preferred))
        else {
            continue;
        };
        for other in candidates.iter().filter(|other| !std::ptr::eq(**other, *best)) {
            let rule = match missing_verbs(other) {
                verbs if verbs.is_empty() => Rule::OtherVersion {
                    taken_as: best.api.api_version(),
                },
                verbs => Rule::VerbMissing { verbs },
            };
            choice.skipped.push((other.api.clone(), rule));
        }
        match missing_verbs(best) {
            verbs if verbs.is_empty() => taken.push(*best),
            verbs => choice
                .skipped
                .push((best.api.clone(), Rule::VerbMissing { verbs })),
        }
    }
    let names: BTreeSet<String> = taken.iter().map(|kind| kind.api.resource_group()).collect();
    for kind in taken {
        match cohabitant(&kind.api).filter(|partner| names.contains(partner) && yields(&kind.api)) {
            Some(taken_as) => choice
                .skipped
                .push((kind.api.clone(), Rule::Cohabiting { taken_as })),
            None => choice.taken.push(kind.clone()),
        }
    }
    choice.taken.sort_by(|a, b| order(&a.api).cmp(&order(&b.api)));
    choice.skipped.sort();
    choice
}

fn missing_verbs(kind: &DiscoveredKind) -> Vec<String> {
    NEEDED_VERBS
        .iter()
        .filter(|needed| !kind.verbs.iter().any(|verb| verb == *needed))
        .map(|verb| (*verb).to_owned())
        .collect()
}

fn yields(kind: &ApiKind) -> bool {
    COHABITING
        .iter()
        .any(|(plural, _, other)| *plural == kind.plural && *other == kind.group)
}

/// Velero's order of collection: pods, claims and volumes close together, then core, then groups by name, `extensions`
/// last.
fn order(kind: &ApiKind) -> (u8, u8, &str, &str) {
    let class = match kind.group.as_str() {
        "" => 0,
        "extensions" => 2,
        _ => 1,
    };
    let position = match (class, kind.plural.as_str()) {
        (0, "pods") => 0,
        (0, "persistentvolumeclaims") => 1,
        (0, "persistentvolumes") => 2,
        _ => 3,
    };
    (class, position, &kind.group, &kind.plural)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `kind("apps/v1", "deployments", "Deployment", true)` with all verbs, preferred.
    pub(crate) fn kind(api_version: &str, plural: &str, kind: &str, namespaced: bool) -> DiscoveredKind {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        DiscoveredKind {
            api: ApiKind {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                kind: kind.into(),
                namespaced,
            },
            verbs: ["create", "delete", "get", "list", "patch", "update", "watch"]
                .map(String::from)
                .to_vec(),
            short_names: Vec::new(),
            singular: kind.to_lowercase(),
            preferred: true,
            categories: Vec::new(),
            is_held: false,
        }
    }

    fn names(choice: &KindChoice) -> Vec<String> {
        choice
            .taken
            .iter()
            .map(|kind| format!("{}/{}", kind.api.api_version(), kind.api.plural))
            .collect()
    }

    #[test]
    fn order_is_fixed() {
        let choice = choose(&[
            kind(
                "extensions/v1beta1",
                "podsecuritypolicies",
                "PodSecurityPolicy",
                false,
            ),
            kind("shop.example.com/v1", "orders", "Order", true),
            kind("v1", "configmaps", "ConfigMap", true),
            kind("apps/v1", "deployments", "Deployment", true),
            kind("v1", "persistentvolumes", "PersistentVolume", false),
            kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
            kind("v1", "pods", "Pod", true),
            kind("v1", "pods/status", "Pod", true),
        ]);
        assert_eq!(
            names(&choice),
            [
                "v1/pods",
                "v1/persistentvolumeclaims",
                "v1/persistentvolumes",
                "v1/configmaps",
                "apps/v1/deployments",
                "shop.example.com/v1/orders",
                "extensions/v1beta1/podsecuritypolicies",
            ]
        );
        assert!(choice.skipped.is_empty());
    }

    #[test]
    fn one_version_is_taken_and_the_rest_is_named() {
        let mut v1 = kind(
            "autoscaling/v1",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            true,
        );
        v1.preferred = false;
        let v2 = kind(
            "autoscaling/v2",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            true,
        );
        let mut only_beta = kind("networking.k8s.io/v1beta1", "ipaddresses", "IPAddress", false);
        only_beta.preferred = false;
        let mut review = kind(
            "authorization.k8s.io/v1",
            "subjectaccessreviews",
            "SubjectAccessReview",
            false,
        );
        review.verbs = vec!["create".into()];
        let choice = choose(&[v1.clone(), v2, only_beta, review.clone()]);
        assert_eq!(
            names(&choice),
            [
                "autoscaling/v2/horizontalpodautoscalers",
                "networking.k8s.io/v1beta1/ipaddresses"
            ]
        );
        assert_eq!(
            choice.skipped,
            [
                (
                    review.api,
                    Rule::VerbMissing {
                        verbs: vec!["list".into(), "get".into()]
                    }
                ),
                (
                    v1.api,
                    Rule::OtherVersion {
                        taken_as: "autoscaling/v2".into()
                    }
                ),
            ]
        );
    }

    #[test]
    fn a_kind_served_twice_is_taken_once() {
        let mut all = Vec::new();
        for (plural, taken, other) in COHABITING {
            all.push(kind(&format!("{other}/v1"), plural, "X", true));
            let taken = if taken.is_empty() {
                "v1".to_owned()
            } else {
                format!("{taken}/v1")
            };
            all.push(kind(&taken, plural, "X", true));
        }
        let choice = choose(&all);
        assert_eq!(choice.taken.len(), COHABITING.len());
        assert!(
            choice
                .taken
                .iter()
                .all(|kind| !["extensions", "events.k8s.io"].contains(&kind.api.group.as_str()))
        );
        assert!(choice.skipped.iter().all(|(_, rule)| rule.id() == "cohabiting"));
        let alone = choose(&[kind("events.k8s.io/v1", "events", "Event", true)]);
        assert_eq!(names(&alone), ["events.k8s.io/v1/events"]);
    }

    proptest! {
        #[test]
        fn every_kind_is_taken_or_named_whatever_the_order(
            mut all in proptest::collection::vec(
                ("(apps|batch|extensions|x\\.io|events\\.k8s\\.io)/v[12]", "(deployments|events|jobs|xs)", any::<bool>(), any::<bool>()),
                0..12,
            )
        ) {
            all.sort();
            all.dedup_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1));
            let mut kinds: Vec<_> = all.iter().map(|(version, plural, preferred, listed)| {
                let mut kind = kind(version, plural, "X", true);
                kind.preferred = *preferred;
                if !listed { kind.verbs.retain(|verb| verb != "list"); }
                kind
            }).collect();
            let choice = choose(&kinds);
            prop_assert_eq!(choice.taken.len() + choice.skipped.len(), kinds.len());
            let mut groups: Vec<_> = choice.taken.iter().map(|kind| kind.api.resource_group()).collect();
            groups.sort();
            groups.dedup();
            prop_assert_eq!(groups.len(), choice.taken.len());
            if kinds.iter().filter(|kind| kind.preferred).count() == kinds.len() {
                return Ok(());
            }
            kinds.retain(|kind| kind.preferred);
            let forward = choose(&kinds);
            let mut seen = std::collections::BTreeSet::new();
            if kinds.iter().all(|kind| seen.insert(kind.api.resource_group())) {
                kinds.reverse();
                prop_assert_eq!(choose(&kinds), forward);
            }
        }
    }
}
