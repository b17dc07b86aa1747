//! The objects of one schedule, in the order in which they are written.
//!
//! Pure. A run is one pod that makes one backup: it never overlaps the one before (`Forbid`), is caught up when it was missed
//! for a while but not for long, is stopped at its deadline, and is tried again twice if it died; a backup that was made with
//! errors (exit code 3) or refused (2, 4, 5) is not tried again. The pod runs as nobody, writes to an emptyDir alone and may
//! read the cluster; where volumes are read too, it may start movers and run commands in pods, nothing more.

use std::time::Duration;

use serde_json::{Value, json};

use super::{EXPRESSION, LOCATION_LABEL, NAMESPACE, SCHEDULE_LABEL};
use crate::location::{password, redacted::Redacted};

/// Who may read everything, and where from.
pub(crate) const APP: (&str, &str) = ("app.kubernetes.io/managed-by", "kubectl-backup");

/// A schedule to set up.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Five fields or a descriptor that CronJobs know.
    pub schedule: String,
    /// IANA name.
    pub time_zone: String,
    /// The expression as it was typed.
    pub expression: String,
    /// From one run to the next, about.
    pub interval: Duration,
    /// Whether it begins suspended.
    pub paused: bool,
    /// Words of a run's command line.
    pub words: Vec<String>,
    /// Longest time of a run, waiting included.
    pub deadline: Duration,
    /// Image of the pods.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Name of the location.
    pub location: String,
    /// Its URL.
    pub url: String,
    /// Its credentials.
    pub credentials: Credentials,
    /// Whether runs read volumes.
    pub reads_volumes: bool,
    /// Password of the repositories at this place, where the cluster does not hold it yet.
    pub repository: Option<Repository>,
}

/// The password of a location's volume repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The location, as it describes itself.
    pub place: String,
    /// The password.
    pub password: Redacted,
}

impl Repository {
    /// The Secret that holds it.
    pub(crate) fn secret(&self) -> Value {
        password::secret(&self.place, &self.password)
    }
}

/// What the Secret of the location holds beside the URL.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Text of an AWS credentials file.
    Text(String),
    /// Nothing: the pod has a role.
    None,
    /// Whatever is there already; the Secret is not written.
    AsTheyAre,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(hidden)",
            Self::None => "None",
            Self::AsTheyAre => "AsTheyAre",
        })
    }
}

/// Name of the Secret of a location.
pub fn location_secret_name(location: &str) -> String {
    format!("location-{location}")
}

/// Name of the cluster-wide rights of a schedule.
fn cluster_name(name: &str) -> String {
    format!("kubectl-backup-schedule-{name}")
}

/// Everything, namespace first and CronJob last.
pub fn objects(wanted: &Wanted) -> Vec<Value> {
    let mut objects = vec![namespace()];
    objects.extend(location_secret(
        &wanted.location,
        &wanted.url,
        &wanted.credentials,
    ));
    objects.extend(wanted.repository.iter().map(Repository::secret));
    objects.extend(rights(&wanted.name, wanted.reads_volumes));
    objects.push(cron_job(wanted));
    objects
}

/// Our namespace.
pub(crate) fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": {
            APP.0: APP.1,
            "pod-security.kubernetes.io/enforce": "restricted",
        } },
    })
}

/// The Secret that is a location; none where it is to stay as it is.
pub(crate) fn location_secret(name: &str, url: &str, credentials: &Credentials) -> Option<Value> {
    let mut data = json!({ "url": url });
    match credentials {
        Credentials::AsTheyAre => return None,
        Credentials::None => {}
        Credentials::Text(text) => data["credentials"] = text.as_str().into(),
    }
    Some(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": location_secret_name(name), "namespace": NAMESPACE,
            "labels": { APP.0: APP.1, LOCATION_LABEL: name },
        },
        "stringData": data,
    }))
}

/// What a backup may do: read. A backup of everything reads everything, Secrets included, its own location among them. One that
/// reads volumes starts movers beside them, talks to them, and runs the hooks of pods.
pub(crate) fn backup_rules(reads_volumes: bool) -> Value {
    let read = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"] });
    if !reads_volumes {
        return json!([read]);
    }
    json!([
        read,
        { "apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete"] },
        { "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"] },
    ])
}

/// ServiceAccount and what it may do.
pub(super) fn rights(name: &str, reads_volumes: bool) -> Vec<Value> {
    let labels = json!({ APP.0: APP.1, SCHEDULE_LABEL: name });
    let account = account(name);
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": account, "namespace": NAMESPACE, "labels": labels },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": cluster_name(name), "labels": labels },
            "rules": backup_rules(reads_volumes),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": cluster_name(name), "labels": labels },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_name(name) },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": NAMESPACE }],
        }),
    ]
}

fn account(name: &str) -> String {
    format!("schedule-{name}")
}

fn cron_job(wanted: &Wanted) -> Value {
    let pod = pod(&Pod {
        account: &account(&wanted.name),
        image: &wanted.image,
        image_pull_secret: wanted.image_pull_secret.as_deref(),
        words: &wanted.words,
    });
    let labels = json!({ APP.0: APP.1, SCHEDULE_LABEL: wanted.name, LOCATION_LABEL: wanted.location });
    // What was missed by half an interval is better left to the next run.
    let late = (wanted.interval.as_secs() / 2).clamp(60, 3600);
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {
            "name": wanted.name, "namespace": NAMESPACE, "labels": labels,
            "annotations": { EXPRESSION: wanted.expression },
        },
        "spec": {
            "schedule": wanted.schedule,
            "timeZone": wanted.time_zone,
            "suspend": wanted.paused,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": late,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": { "labels": labels },
                "spec": {
                    "backoffLimit": 2,
                    "activeDeadlineSeconds": wanted.deadline.as_secs(),
                    "podFailurePolicy": { "rules": [{
                        "action": "FailJob",
                        "onExitCodes": { "containerName": "backup", "operator": "In", "values": [2, 3, 4, 5] },
                    }] },
                    "template": { "metadata": { "labels": labels }, "spec": pod },
                },
            },
        },
    })
}

/// What differs between pods of ours.
pub(crate) struct Pod<'a> {
    /// ServiceAccount.
    pub(crate) account: &'a str,
    /// Image.
    pub(crate) image: &'a str,
    /// Secret to pull it with.
    pub(crate) image_pull_secret: Option<&'a str>,
    /// Words of the command line.
    pub(crate) words: &'a [String],
}

/// A pod that runs this program as nobody.
pub(crate) fn pod(wanted: &Pod<'_>) -> Value {
    let mut pod = json!({
        "serviceAccountName": wanted.account,
        "restartPolicy": "Never",
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": "backup",
            "image": wanted.image,
            "args": wanted.words,
            "env": [{ "name": "HOME", "value": "/tmp" }, { "name": "TMPDIR", "value": "/tmp" }],
            "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi" },
                "limits": { "memory": "512Mi" },
            },
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
        }],
        "volumes": [{ "name": "tmp", "emptyDir": {} }],
    });
    if let Some(secret) = wanted.image_pull_secret {
        pod["imagePullSecrets"] = json!([{ "name": secret }]);
    }
    pod
}

/// A Job of a CronJob, as `kubectl create job --from` makes it.
pub(super) fn job_now(cron_job: &Value, name: &str) -> Value {
    let template = &cron_job["spec"]["jobTemplate"];
    let mut annotations = template["metadata"]["annotations"].clone();
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations["cronjob.kubernetes.io/instantiate"] = "manual".into();
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"], "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
                "name": cron_job["metadata"]["name"], "uid": cron_job["metadata"]["uid"],
            }],
        },
        "spec": template["spec"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            name: "nightly".into(),
            schedule: "0 1 * * *".into(),
            time_zone: "Etc/UTC".into(),
            expression: "0 1 * * *".into(),
            interval: Duration::from_hours(24),
            paused: false,
            words: vec!["create".into()],
            deadline: Duration::from_mins(10),
            image: "i".into(),
            image_pull_secret: None,
            location: "main".into(),
            url: "s3://b".into(),
            credentials: Credentials::Text("[default]".into()),
            reads_volumes: false,
            repository: None,
        }
    }

    #[test]
    fn the_cron_job_comes_last_and_everything_is_labelled() {
        let made = objects(&wanted());
        let kinds: Vec<_> = made.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "Secret",
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding",
                "CronJob"
            ]
        );
        assert!(
            made.iter()
                .all(|object| object["metadata"]["labels"][APP.0] == APP.1)
        );
        assert_eq!(made[5]["spec"]["startingDeadlineSeconds"], 3600);
    }

    #[test]
    fn a_run_that_reads_volumes_may_start_movers_and_finds_the_password() {
        let made = objects(&Wanted {
            reads_volumes: true,
            repository: Some(Repository {
                place: "s3://b".into(),
                password: Redacted::new("hunter2"),
            }),
            ..wanted()
        });
        assert_eq!(made[2]["kind"], "Secret");
        assert_eq!(made[2]["stringData"]["password"], "hunter2");
        let rules = made[4]["rules"].as_array().unwrap();
        assert_eq!(rules[1]["verbs"], json!(["create", "delete"]));
        assert!(rules.iter().skip(1).all(|rule| rule["resources"] != json!(["*"])));
        let reader = objects(&wanted());
        assert_eq!(reader[3]["rules"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_secret_that_is_kept_is_not_written() {
        let kept = Wanted {
            credentials: Credentials::AsTheyAre,
            interval: Duration::from_mins(5),
            ..wanted()
        };
        let made = objects(&kept);
        assert!(made.iter().all(|object| object["kind"] != "Secret"));
        assert_eq!(made[4]["spec"]["startingDeadlineSeconds"], 150);
        assert!(!format!("{:?}", wanted()).contains("default]"));
    }
}
