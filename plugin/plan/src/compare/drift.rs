//! What has become of an object since it was stored.
//!
//! In come two states of an object, the earlier one on the left; out goes [`Drift`]: where they differ, and whether they are
//! one object or two of the same name. An object that was deleted and made anew, by a restore or by hand, has another UID;
//! what its cluster assigned to it then ([`MADE_ANEW`]) does not count either, while in one object a changed node port does.

use serde_json::Value;
use velero_model::resource::ApiKind;

use super::{Difference, LIVE_VS_BACKUP, MADE_ANEW, SAME_OBJECT, Secrets, compare_with};

/// Where two states of an object differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    /// The paths that differ.
    pub differences: Vec<Difference>,
    /// Whether the right one is another object of the same name.
    pub recreated: bool,
}

/// Compares two states of an object. With `everything` every path counts.
pub fn drift(kind: &ApiKind, left: &Value, right: &Value, everything: bool, secrets: Secrets) -> Drift {
    let uid = |object: &'_ Value| object["metadata"]["uid"].as_str().map(str::to_owned);
    let recreated = matches!((uid(left), uid(right)), (Some(left), Some(right)) if left != right);
    let table = match (everything, recreated) {
        (true, _) => LIVE_VS_BACKUP,
        (false, true) => &MADE_ANEW,
        (false, false) => SAME_OBJECT,
    };
    Drift {
        differences: compare_with(kind, left, right, table, secrets).differences,
        recreated,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    fn paths(kind: &ApiKind, left: &Value, right: &Value, everything: bool) -> (Vec<String>, bool) {
        let drift = drift(kind, left, right, everything, Secrets::Masked);
        let paths = drift.differences.into_iter().map(|difference| difference.path);
        (paths.collect(), drift.recreated)
    }

    fn service(uid: &str, version: &str, port: u32) -> Value {
        json!({ "metadata": { "name": "web", "uid": uid, "resourceVersion": version, "creationTimestamp": uid },
            "spec": { "clusterIP": uid, "ports": [{ "port": 80, "nodePort": port }] }, "status": { "at": version } })
    }

    #[test]
    fn in_one_object_only_what_is_counted_does_not_count() {
        let services = kind("v1", "services", "Service", true).api;
        let (before, after) = (service("a", "1", 30001), service("a", "2", 30002));
        assert_eq!(
            paths(&services, &before, &after, false),
            (vec!["spec.ports[0].nodePort".into()], false)
        );
        let all = ["metadata.resourceVersion", "spec.ports[0].nodePort", "status.at"];
        assert_eq!(
            paths(&services, &before, &after, true),
            (all.map(String::from).into(), false)
        );
    }

    #[test]
    fn what_a_new_object_is_given_does_not_count() {
        let services = kind("v1", "services", "Service", true).api;
        let (before, after) = (service("a", "1", 30001), service("b", "2", 30002));
        assert_eq!(paths(&services, &before, &after, false), (Vec::new(), true));
        assert!(paths(&services, &before, &after, true).0.len() > 4);
        let widgets = kind("x.io/v1", "widgets", "Widget", true).api;
        let (mut before, mut after) = (service("a", "1", 1), service("b", "2", 1));
        before["spec"] = json!({ "size": 1 });
        after["spec"] = json!({ "size": 2 });
        // The status of a custom resource does not come back with a restore.
        assert_eq!(
            paths(&widgets, &before, &after, false),
            (vec!["spec.size".into()], true)
        );
    }

    #[test]
    fn objects_without_uid_are_one() {
        let maps = kind("v1", "configmaps", "ConfigMap", true).api;
        let (left, right) = (
            json!({"data": {"a": "1"}}),
            json!({"metadata": {"uid": "b"}, "data": {"a": "1"}}),
        );
        assert_eq!(
            paths(&maps, &left, &right, false),
            (vec!["metadata.uid".into()], false)
        );
    }
}
