//! Schedules that the cluster's own CronJob controller carries out.
//!
//! In comes a [`Wanted`]; [`objects`] makes the objects of it (pure), [`Schedules`] writes them, reads them back and removes
//! them. One schedule is one CronJob in namespace [`NAMESPACE`] with a ServiceAccount of its own; where its backups go is a
//! labelled Secret, which a pod reads by the name of the location. Later code may rely on: names are those of the schedule,
//! everything carries [`SCHEDULE_LABEL`], the CronJob comes last and goes first.

mod events;
pub mod objects;
mod state;

use bytes::Bytes;
use serde_json::{Value, json};
use velero_model::resource::ApiKind;

pub use self::{
    events::Event,
    objects::{Credentials, Repository, Wanted, location_secret_name},
    state::{Run, State, Status},
};
use crate::{
    api::{ApiClient, ApiError, PatchKind, object_path},
    lifecycle::shipped::retention_name,
    location::{Location, LocationError, in_cluster, password},
};

/// Where everything of ours lives in a cluster.
pub const NAMESPACE: &str = "kubectl-backup";
/// Label of what belongs to a schedule, with its name.
pub const SCHEDULE_LABEL: &str = "kubectl-backup.io/schedule";
/// Label of Secrets that are locations, with the location's name.
pub const LOCATION_LABEL: &str = "kubectl-backup.io/location";
/// Annotation of a CronJob with the expression as it was typed.
pub const EXPRESSION: &str = "kubectl-backup.io/expression";

const MANAGER: &str = "kubectl-backup";

pub(crate) fn kind(group: &str, plural: &str, kind: &str, namespaced: bool) -> ApiKind {
    ApiKind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
    }
}

fn cron_jobs() -> ApiKind {
    kind("batch", "cronjobs", "CronJob", true)
}

fn jobs() -> ApiKind {
    kind("batch", "jobs", "Job", true)
}

/// Path of an object that we write: what it says of itself is enough, for kinds whose plural is regular.
pub(crate) fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = text(&object["kind"]);
    let singular = kind.to_lowercase();
    let namespace = object["metadata"]["namespace"].as_str();
    let api = ApiKind {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: match singular.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{singular}s"),
        },
        kind,
        namespaced: namespace.is_some(),
    };
    object_path(&api, namespace, &text(&object["metadata"]["name"]))
}

/// The schedules of one cluster.
pub struct Schedules<'a> {
    api: &'a ApiClient,
}

impl<'a> Schedules<'a> {
    /// Nothing is asked yet.
    pub fn new(api: &'a ApiClient) -> Self {
        Self { api }
    }

    /// The CronJob of a schedule.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn cron_job(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let path = object_path(&cron_jobs(), Some(NAMESPACE), name);
        let found: Option<Value> = self.read(&path).await?;
        Ok(found.filter(|object| object["metadata"]["labels"][SCHEDULE_LABEL].is_string()))
    }

    /// The Secret of a location.
    ///
    /// # Errors
    /// As [`Self::cron_job`].
    pub async fn location(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let secrets = kind("", "secrets", "Secret", true);
        let found: Option<Value> = self
            .read(&object_path(
                &secrets,
                Some(NAMESPACE),
                &location_secret_name(name),
            ))
            .await?;
        Ok(found.filter(|object| object["metadata"]["labels"][LOCATION_LABEL] == name))
    }

    async fn read(&self, path: &str) -> Result<Option<Value>, ApiError> {
        let Some(body) = self.api.get(path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|_| ApiError::Parse {
                what: format!("GET {path}"),
                expected: "object",
            })
    }

    /// Makes a location known in the cluster under a name, in our namespace.
    ///
    /// # Errors
    /// When the server refuses something.
    pub async fn attach(&self, name: &str, url: &str, credentials: &Credentials) -> Result<(), ApiError> {
        let mut objects = vec![objects::namespace()];
        objects.extend(objects::location_secret(name, url, credentials));
        self.write(&objects).await
    }

    /// Writes the objects of a schedule in their order, by server-side apply: repeating it finishes what was cut off.
    ///
    /// # Errors
    /// When the server refuses one; those before it are there.
    pub async fn write(&self, objects: &[Value]) -> Result<(), ApiError> {
        let apply = PatchKind::Apply {
            manager: MANAGER.to_owned(),
            force: true,
        };
        for object in objects {
            let body = Bytes::from(object.to_string());
            self.api.patch(&path_of(object), &apply, body).await?;
        }
        Ok(())
    }

    /// Every schedule, with its Jobs.
    ///
    /// # Errors
    /// As [`Self::cron_job`].
    pub async fn all(&self) -> Result<Vec<State>, ApiError> {
        let cron_jobs = self.list(cron_jobs(), SCHEDULE_LABEL).await?;
        let jobs = if cron_jobs.is_empty() {
            Vec::new()
        } else {
            self.list(jobs(), SCHEDULE_LABEL).await?
        };
        Ok(cron_jobs
            .iter()
            .map(|cron_job| State::of(cron_job, &jobs))
            .collect())
    }

    /// Every location that lies in the cluster, by name; what cannot be read is told as such.
    ///
    /// # Errors
    /// As [`Self::cron_job`].
    pub async fn locations(&self) -> Result<Vec<(String, Result<Location, LocationError>)>, ApiError> {
        let secrets = kind("", "secrets", "Secret", true);
        let found = self.list(secrets, LOCATION_LABEL).await?;
        Ok(found
            .iter()
            .map(|secret| {
                let name = secret["metadata"]["labels"][LOCATION_LABEL].as_str();
                (
                    name.unwrap_or_default().to_owned(),
                    in_cluster::from_secret(secret),
                )
            })
            .collect())
    }

    /// Passwords of volume repositories that lie in the cluster, by the places that they are for.
    ///
    /// # Errors
    /// As [`Self::cron_job`].
    pub async fn repository_passwords(&self) -> Result<Vec<Repository>, ApiError> {
        let secrets = self.list(kind("", "secrets", "Secret", true), "").await?;
        let read = |secret: &Value| {
            Some(Repository {
                place: secret["metadata"]["annotations"][password::PLACE]
                    .as_str()?
                    .to_owned(),
                password: password::from_secret(secret)?,
            })
        };
        Ok(secrets.iter().filter_map(read).collect())
    }

    async fn list(&self, kind: ApiKind, selector: &str) -> Result<Vec<Value>, ApiError> {
        self.api.objects(kind, Some(NAMESPACE), selector).await
    }

    /// Suspends a schedule, or lets it run again.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn suspend(&self, name: &str, suspended: bool) -> Result<(), ApiError> {
        let path = object_path(&cron_jobs(), Some(NAMESPACE), name);
        let body = json!({ "spec": { "suspend": suspended } }).to_string();
        self.api.patch(&path, &PatchKind::Merge, body.into()).await?;
        Ok(())
    }

    /// Makes a Job of a schedule now.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn run(&self, cron_job: &Value, job_name: &str) -> Result<(), ApiError> {
        let job = objects::job_now(cron_job, job_name);
        let path = jobs().collection_path(Some(NAMESPACE));
        self.api.create(&path, job.to_string().into()).await?;
        Ok(())
    }

    /// Removes everything of a schedule but its backups and, where others use it, its location.
    ///
    /// # Errors
    /// When the server refuses one; repeating it goes on.
    pub async fn delete(&self, name: &str) -> Result<(), ApiError> {
        let location = self.cron_job(name).await?.and_then(|cron_job| {
            Some(
                cron_job["metadata"]["labels"][LOCATION_LABEL]
                    .as_str()?
                    .to_owned(),
            )
        });
        let background =
            json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
        let others = self.list(cron_jobs(), SCHEDULE_LABEL).await?;
        let is_shared = others.iter().any(|other| {
            other["metadata"]["name"] != name
                && other["metadata"]["labels"][LOCATION_LABEL].as_str() == location.as_deref()
        });
        let path = object_path(&cron_jobs(), Some(NAMESPACE), name);
        self.api.delete_with(&path, background.to_string().into()).await?;
        for object in objects::rights(name, false) {
            self.api.delete(&path_of(&object)).await?;
        }
        if let Some(location) = location.filter(|_| !is_shared)
            && !self.has_retention(&location).await?
        {
            let secrets = kind("", "secrets", "Secret", true);
            let path = object_path(&secrets, Some(NAMESPACE), &location_secret_name(&location));
            self.api.delete(&path).await?;
        }
        Ok(())
    }

    /// Whether expired backups of a location are removed in the cluster: that lives on its Secret, too.
    ///
    /// # Errors
    /// As [`Self::cron_job`].
    pub(crate) async fn has_retention(&self, location: &str) -> Result<bool, ApiError> {
        let path = object_path(&cron_jobs(), Some(NAMESPACE), &retention_name(location));
        Ok(self.read(&path).await?.is_some())
    }
}
