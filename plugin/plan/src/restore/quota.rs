//! Whether the objects of a restore fit into quotas that count objects.
//!
//! In come a ResourceQuota of the cluster and how many objects are to be made in its namespace; out goes each resource for
//! which there is not enough left. A dry run cannot tell: each of its objects is the only one it sees.

use std::collections::BTreeMap;

use serde_json::Value;
use velero_model::resource::ApiKind;

/// Kinds that a quota also counts under their bare names.
const BARE: [&str; 8] = [
    "pods",
    "services",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "services.nodeports",
];

/// A resource of which there is not enough left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The quota's word for it: `count/deployments.apps`.
    pub resource: String,
    /// How many there may be.
    pub hard: u64,
    /// How many there are.
    pub used: u64,
    /// How many are to be made.
    pub wanted: u64,
}

/// The words under which quotas count an object.
pub fn counted_as(kind: &ApiKind, body: &Value) -> Vec<String> {
    let group = kind.resource_group();
    let mut words = vec![format!("count/{group}")];
    if BARE.contains(&group.as_str()) {
        words.push(group.clone());
    }
    if group == "services" {
        match body["spec"]["type"].as_str() {
            Some("NodePort") => words.push("services.nodeports".to_owned()),
            Some("LoadBalancer") => {
                words.extend(["services.nodeports", "services.loadbalancers"].map(str::to_owned));
            }
            _ => {}
        }
    }
    words
}

/// What does not fit. `wanted` counts the objects to be made by the words of [`counted_as`]. Quotas with scopes count only
/// some objects of a kind and are passed over.
pub fn shortfalls(quota: &Value, wanted: &BTreeMap<String, u64>) -> Vec<Shortfall> {
    let spec = &quota["spec"];
    let has_scopes = spec["scopes"].as_array().is_some_and(|scopes| !scopes.is_empty())
        || spec
            .get("scopeSelector")
            .is_some_and(|selector| !selector.is_null());
    if has_scopes {
        return Vec::new();
    }
    let hard = spec["hard"].as_object().into_iter().flatten();
    hard.filter_map(|(resource, hard)| {
        let wanted = *wanted.get(resource)?;
        let hard = whole(hard)?;
        let used = whole(&quota["status"]["used"][resource]).unwrap_or(0);
        (hard.saturating_sub(used) < wanted).then(|| Shortfall {
            resource: resource.clone(),
            hard,
            used,
            wanted,
        })
    })
    .collect()
}

/// A quantity that is a whole number.
fn whole(quantity: &Value) -> Option<u64> {
    let text = match quantity {
        Value::String(text) => text.as_str(),
        number => return number.as_u64(),
    };
    let (digits, scale) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1000),
        None => (
            text.strip_suffix('M').unwrap_or(text),
            if text.ends_with('M') { 1_000_000 } else { 1 },
        ),
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    #[test]
    fn only_what_does_not_fit_is_told() {
        let wanted: BTreeMap<String, u64> = [("configmaps", 5), ("count/deployments.apps", 2), ("pods", 3)]
            .into_iter()
            .map(|(word, count)| (word.to_owned(), count))
            .collect();
        for (hard, used, expected) in [
            (json!({"configmaps": "6"}), json!({"configmaps": "1"}), None),
            (
                json!({"configmaps": "6"}),
                json!({"configmaps": "2"}),
                Some(("configmaps", 6, 2, 5)),
            ),
            (
                json!({"configmaps": "1k"}),
                json!({"configmaps": "998"}),
                Some(("configmaps", 1000, 998, 5)),
            ),
            (
                json!({"count/deployments.apps": 1}),
                json!({}),
                Some(("count/deployments.apps", 1, 0, 2)),
            ),
            (json!({"requests.cpu": "1"}), json!({}), None),
            (json!({"secrets": "0"}), json!({}), None),
            (json!({"pods": "many"}), json!({}), None),
        ] {
            let quota = json!({"spec": {"hard": hard}, "status": {"used": used}});
            let found: Vec<_> = shortfalls(&quota, &wanted)
                .into_iter()
                .map(|short| (short.resource, short.hard, short.used, short.wanted))
                .collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(word, hard, used, wanted)| (word.to_owned(), hard, used, wanted))
                .collect();
            assert_eq!(found, expected, "{quota}");
        }
        let scoped = json!({"spec": {"hard": {"pods": "0"}, "scopes": ["BestEffort"]}});
        assert!(shortfalls(&scoped, &wanted).is_empty());
    }

    #[test]
    fn objects_are_counted_under_every_word_of_a_quota() {
        let words = |version: &str, plural: &str, body: &Value| {
            counted_as(&kind(version, plural, "X", true).api, body)
        };
        assert_eq!(
            words("v1", "configmaps", &json!({})),
            ["count/configmaps", "configmaps"]
        );
        assert_eq!(
            words("apps/v1", "deployments", &json!({})),
            ["count/deployments.apps"]
        );
        assert_eq!(
            words("v1", "services", &json!({"spec": {"type": "LoadBalancer"}})),
            [
                "count/services",
                "services",
                "services.nodeports",
                "services.loadbalancers"
            ]
        );
    }
}
