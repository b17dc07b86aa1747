//! Single runs of this program inside the cluster, and following whatever Job runs it.
//!
//! In comes a [`Wanted`] or the name of a Job; out go its objects ([`objects`], pure), its log line by line and how it ended
//! ([`follow`]). Later code may rely on: a run has rights of its own, everything of it belongs to one ClusterRole, so that
//! deleting that takes all away, and what earlier runs have left is swept when the next one begins.

mod follow;
pub mod objects;

use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::time;

pub use self::{
    follow::{Ended, Followed, follow},
    objects::Wanted,
};
use crate::{
    api::{ApiClient, ApiError, object_path},
    schedule::{LOCATION_LABEL, NAMESPACE, Schedules, kind, path_of},
};
pub(crate) use follow::hindrance;

/// Label of what belongs to a run, with its name.
pub const RUN_LABEL: &str = "kubectl-backup.io/run";

/// A name for a run that no other run has, also when both begin in the same second.
pub fn name(verb: &str, now: Timestamp) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!(
        "{verb}-{}-{}",
        time::compact(now),
        id.get(..5).unwrap_or_default()
    )
}

/// Sets a run up: rights first, the Job last.
///
/// # Errors
/// When the server refuses something; what was made before is taken away again.
pub async fn start(api: &ApiClient, wanted: &Wanted) -> Result<(), ApiError> {
    sweep(api).await?;
    let schedules = Schedules::new(api);
    schedules.write(&objects::ground(wanted)).await?;
    let role = objects::role(wanted);
    let body = api.create(&collection(&role), role.to_string().into()).await?;
    let made: Value = serde_json::from_slice(&body).unwrap_or_default();
    let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
    match schedules.write(&objects::objects(wanted, uid)).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The first fault is the one to tell.
            let _ = remove(api, &wanted.name).await;
            Err(error)
        }
    }
}

fn collection(object: &Value) -> String {
    let path = path_of(object);
    path.rsplit_once('/')
        .map(|(collection, _)| collection.to_owned())
        .unwrap_or_default()
}

/// Asks a Job to stop: its pod is told to, and has its time to clean up.
///
/// # Errors
/// When the server refuses.
pub async fn stop(api: &ApiClient, name: &str) -> Result<(), ApiError> {
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground" });
    let path = object_path(&kind("batch", "jobs", "Job", true), Some(NAMESPACE), name);
    api.delete_with(&path, options.to_string().into()).await
}

/// Takes a run away with all that belongs to it, running or not.
///
/// # Errors
/// When the server refuses.
pub async fn remove(api: &ApiClient, name: &str) -> Result<(), ApiError> {
    stop(api, name).await?;
    let secrets = list(
        api,
        "",
        "secrets",
        "Secret",
        Some(NAMESPACE),
        &format!("{RUN_LABEL}={name}"),
    )
    .await?;
    let schedules = Schedules::new(api);
    let states = schedules.all().await?;
    for secret in secrets {
        // A schedule that was made meanwhile lives on it, or what removes expired backups.
        let is_used = match secret["metadata"]["labels"][LOCATION_LABEL].as_str() {
            Some(location) => {
                states.iter().any(|state| state.location == location)
                    || schedules.has_retention(location).await?
            }
            // The password of repositories.
            None => !states.is_empty(),
        };
        if !is_used {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            let secrets = kind("", "secrets", "Secret", true);
            api.delete(&object_path(&secrets, Some(NAMESPACE), name)).await?;
        }
    }
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
    let roles = kind("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", false);
    let path = object_path(&roles, None, &objects::role_name(name));
    api.delete_with(&path, options.to_string().into()).await
}

/// Takes away what ended runs have left because nobody waited for them.
async fn sweep(api: &ApiClient) -> Result<(), ApiError> {
    let roles = list(
        api,
        "rbac.authorization.k8s.io",
        "clusterroles",
        "ClusterRole",
        None,
        RUN_LABEL,
    )
    .await;
    let roles = match roles {
        Ok(roles) => roles,
        // Who may not look may still run; the next one who may sweeps.
        Err(error) if error.is_forbidden() => return Ok(()),
        Err(error) => return Err(error),
    };
    for role in roles {
        let Some(name) = role["metadata"]["labels"][RUN_LABEL].as_str() else {
            continue;
        };
        let made = role["metadata"]["creationTimestamp"]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        let is_young = made.is_some_and(|made| {
            crate::clock::now().duration_since(made) < jiff::SignedDuration::from_mins(1)
        });
        let is_over = match follow::job(api, name).await? {
            // Perhaps somebody is making it at this moment.
            None => !is_young,
            Some(job) => follow::ended(&job).is_some(),
        };
        if is_over {
            remove(api, name).await?;
        }
    }
    Ok(())
}

pub(crate) async fn list(
    api: &ApiClient,
    group: &str,
    plural: &str,
    of_kind: &str,
    namespace: Option<&str>,
    selector: &str,
) -> Result<Vec<Value>, ApiError> {
    let kind = kind(group, plural, of_kind, namespace.is_some());
    api.objects(kind, namespace, selector).await
}
