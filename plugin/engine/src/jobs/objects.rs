//! The objects of one run, in the order in which they are written.
//!
//! Pure. The pod is that of a schedule. A run is not tried again: who follows it sees why it failed, and says so again. A
//! backup may read the cluster; a restore may write to it, and give out rights that it restores, because that is what it is
//! for; both have these rights only while they run.

use std::time::Duration;

use serde_json::{Value, json};

use super::RUN_LABEL;
use crate::schedule::{
    Credentials, NAMESPACE,
    objects::{APP, Pod, Repository, backup_rules, location_secret, namespace, pod},
};

/// A run to make.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name of its Job and of what belongs to it.
    pub name: String,
    /// Words of its command line.
    pub words: Vec<String>,
    /// Whether it writes to the cluster.
    pub may_write: bool,
    /// Longest time.
    pub deadline: Duration,
    /// Image of the pod.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Name of the location.
    pub location: String,
    /// Its URL.
    pub url: String,
    /// Its credentials.
    pub credentials: Credentials,
    /// Whether it reads volumes.
    pub reads_volumes: bool,
    /// Password of the repositories at this place, where the cluster does not hold it yet.
    pub repository: Option<Repository>,
}

/// Name of the rights of a run.
pub fn role_name(name: &str) -> String {
    format!("kubectl-backup-{name}")
}

fn labels(wanted: &Wanted) -> Value {
    json!({ APP.0: APP.1, RUN_LABEL: wanted.name })
}

/// The namespace, and what of location and password is not there. Both go with the run unless something else lives on them.
pub fn ground(wanted: &Wanted) -> Vec<Value> {
    let mut objects = vec![namespace()];
    if let Some(mut secret) = location_secret(&wanted.location, &wanted.url, &wanted.credentials) {
        secret["metadata"]["labels"][RUN_LABEL] = wanted.name.as_str().into();
        objects.push(secret);
    }
    if let Some(repository) = &wanted.repository {
        let mut secret = repository.secret();
        secret["metadata"]["labels"][RUN_LABEL] = wanted.name.as_str().into();
        objects.push(secret);
    }
    objects
}

/// What it may do.
pub fn role(wanted: &Wanted) -> Value {
    let rules = if wanted.may_write {
        json!([
            {
                "apiGroups": ["*"], "resources": ["*"],
                "verbs": ["get", "list", "create", "update", "patch", "delete"],
            },
            {
                // Else it could only give out what it has itself.
                "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "clusterroles"],
                "verbs": ["bind", "escalate"],
            },
        ])
    } else {
        backup_rules(wanted.reads_volumes)
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": role_name(&wanted.name), "labels": labels(wanted) },
        "rules": rules,
    })
}

/// The rest, which belongs to the role with this UID.
pub fn objects(wanted: &Wanted, role_uid: &str) -> Vec<Value> {
    let owners = json!([{
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "name": role_name(&wanted.name), "uid": role_uid,
    }]);
    let labels = labels(wanted);
    let here = json!({
        "name": wanted.name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": owners,
    });
    let pod = pod(&Pod {
        account: &wanted.name,
        image: &wanted.image,
        image_pull_secret: wanted.image_pull_secret.as_deref(),
        words: &wanted.words,
    });
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": here }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": role_name(&wanted.name), "labels": labels, "ownerReferences": owners },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role_name(&wanted.name),
            },
            "subjects": [{ "kind": "ServiceAccount", "name": wanted.name, "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": here,
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": wanted.deadline.as_secs(),
                "template": { "metadata": { "labels": labels }, "spec": pod },
            },
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(may_write: bool) -> Wanted {
        Wanted {
            name: "restore-1".into(),
            words: vec!["restore".into()],
            may_write,
            deadline: Duration::from_hours(6),
            image: "i".into(),
            image_pull_secret: Some("pull".into()),
            location: "main".into(),
            url: "s3://b".into(),
            credentials: Credentials::Text("[default]".into()),
            reads_volumes: false,
            repository: None,
        }
    }

    #[test]
    fn everything_belongs_to_the_rights_and_bears_the_runs_name() {
        let wanted = wanted(true);
        for object in objects(&wanted, "u") {
            assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u");
            assert_eq!(object["metadata"]["labels"][RUN_LABEL], "restore-1");
        }
        let job = &objects(&wanted, "u")[2];
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(
            (&pod["serviceAccountName"], &pod["imagePullSecrets"][0]["name"]),
            (&json!("restore-1"), &json!("pull"))
        );
        assert_eq!(ground(&wanted)[1]["stringData"]["credentials"], "[default]");
        assert!(!format!("{wanted:?}").contains("[default]"));
    }

    #[test]
    fn a_backup_cannot_write_and_a_kept_location_is_not_written() {
        let backup = Wanted {
            credentials: Credentials::AsTheyAre,
            ..wanted(false)
        };
        assert_eq!(role(&backup)["rules"][0]["verbs"], json!(["get", "list"]));
        assert_eq!(role(&backup)["rules"].as_array().map(Vec::len), Some(1));
        assert_eq!(ground(&backup).len(), 1);
    }
}
