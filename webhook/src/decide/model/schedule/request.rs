//! Requests as the API server would send them.

use backup_plan::disposition::Cluster;
use serde_json::Value;
use serde_json::value::RawValue;
use velero_model::api::StorageDisposition;

use super::super::fleet::NAMESPACE;
use crate::review::{Answer, GroupVersionKind, GroupVersionResource, Operation, Request, UserInfo};

pub(super) fn answered(answer: Option<Answer>) -> Answer {
    answer.expect("nothing in the simulation waits")
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn request(user: &str, operation: Operation, group: &str, resource: &str) -> Request {
    Request {
        uid: "review".to_owned(),
        operation,
        kind: GroupVersionKind::default(),
        resource: GroupVersionResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
        },
        sub_resource: None,
        name: String::new(),
        namespace: Some(NAMESPACE.to_owned()),
        user_info: UserInfo {
            username: user.to_owned(),
            ..UserInfo::default()
        },
        dry_run: false,
        object: None,
        old_object: None,
    }
}

pub(super) fn cluster_request(
    user: &str,
    operation: Operation,
    cluster: &Cluster,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Request {
    let plural = format!("{}s", cluster.kind.to_lowercase());
    Request {
        name: cluster.name.clone(),
        old_object: old.map(raw),
        object: new.map(raw),
        ..request(user, operation, &cluster.group, &plural)
    }
}

pub(super) fn object_request(
    user: &str,
    name: &str,
    old: Option<&StorageDisposition>,
    new: Option<&Value>,
) -> Request {
    let operation = match (old.is_some(), new.is_some()) {
        (false, _) => Operation::Create,
        (true, true) => Operation::Update,
        (true, false) => Operation::Delete,
    };
    let old = old.map(|old| serde_json::to_value(old).unwrap());
    Request {
        name: name.to_owned(),
        old_object: old.as_ref().map(raw),
        object: new.map(raw),
        ..request(user, operation, "kubectl-backup.io", "storagedispositions")
    }
}
