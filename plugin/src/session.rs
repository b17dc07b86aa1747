//! The world of one run: how a command gets at the cluster and at a location.
//!
//! In come the flags that every command has; out come connected clients, made when they are first needed: looking at
//! backups needs no cluster. A location name that the user's file does not know is looked up as a BackupStorageLocation.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use backup_engine::{
    api::{ApiClient, ApiError},
    location::{self, Location, LocationError, LocationsFile, from_backup_storage_location, in_cluster, url},
    progress::Progress,
    schedule::Schedules,
    storage::{Bucket, bandwidth::Limited},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    exit::Failure,
    request::{Common, Place},
    view::{progress::Watch, say, warn},
};

/// Flags, progress and cancellation of one run.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) common: Common,
    pub(crate) progress: Arc<Progress>,
    pub(crate) cancel: CancellationToken,
}

/// An opened location and the name that goes into Velero's fields.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) bucket: Arc<dyn Bucket>,
}

/// Velero's Secret where a BackupStorageLocation names none.
const VELERO_SECRET: (&str, &str) = ("cloud-credentials", "cloud");

impl Session {
    pub(crate) fn new(common: Common, cancel: CancellationToken) -> Self {
        Self {
            common,
            progress: Arc::default(),
            cancel,
        }
    }

    /// A client for the cluster that the flags mean. No request is made yet.
    pub(crate) async fn api(&self) -> Result<ApiClient, Failure> {
        Ok(ApiClient::connect(&self.common.connect).await?)
    }

    /// Opens a location.
    pub(crate) async fn open(&self, place: &Place) -> Result<Opened, Failure> {
        let (Place::Known { name, .. } | Place::Named { name, .. }) = place;
        let bucket = location::open(&self.locate(place).await?).await?;
        Ok(Opened {
            name: name.clone(),
            bucket,
        })
    }

    /// The location that is meant; a name that only the cluster knows is looked up there.
    pub(crate) async fn locate(&self, place: &Place) -> Result<Location, Failure> {
        match place {
            Place::Known { location, .. } => Ok(location.clone()),
            Place::Named { name, otherwise } => self.look_up(name, otherwise).await,
        }
    }

    /// The location of a word that stands in the cluster: a URL, a name of the user's file, a BackupStorageLocation.
    pub(crate) async fn location_named(&self, word: &str) -> Result<Location, Failure> {
        if url::is_url(word) {
            return Ok(url::parse(word)?);
        }
        let file = match &self.common.locations_file {
            Some(path) => LocationsFile::load(path)?,
            None => LocationsFile::default(),
        };
        match file.get(word) {
            Err(otherwise @ LocationError::UnknownName { .. }) => self.look_up(word, &otherwise).await,
            other => Ok(other?),
        }
    }

    /// Shows the run's progress until the view is ended.
    pub(crate) fn watch(&self) -> Watch {
        Watch::begin(Arc::clone(&self.progress))
    }

    /// Waits for work that can be dropped at any moment, because it only reads.
    pub(crate) async fn unless_interrupted<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done.map_err(Into::into),
            () = self.cancel.cancelled() => Err(Failure::Interrupted),
        }
    }

    /// Asks on the terminal; the answer is one line. Waiting for it ends with Ctrl-C.
    pub(crate) async fn ask(&self, question: &str) -> Result<String, Failure> {
        say(question);
        self.unless_interrupted(async {
            let read = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                io::stdin().read_line(&mut line).map(|_| line.trim().to_owned())
            });
            let answer = read.await.map_err(io::Error::other).and_then(|line| line);
            answer.map_err(|source| Failure::Local {
                what: "the answer cannot be read".to_owned(),
                source,
            })
        })
        .await
    }

    /// Goes on only with a person's word: `--yes`, or `word` typed on a terminal. `what` is what would happen; `before` is
    /// what to do before giving `--yes`, such as `see which with --plan, then `, or nothing.
    pub(crate) async fn agree(&self, what: &str, word: &str, before: &str) -> Result<(), Failure> {
        if self.common.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Refused(format!(
                "{what}; {before}give --yes, or run this on a terminal"
            )));
        }
        if self.ask(&format!("{what}; type {word} to go on:")).await? == word {
            Ok(())
        } else {
            Err(Failure::Refused(format!(
                "nothing is changed: {word} was not typed"
            )))
        }
    }

    /// A location of this name in the cluster: our own Secret, else a BackupStorageLocation. Where the cluster cannot be asked, the name is simply unknown.
    async fn look_up(&self, name: &str, otherwise: &LocationError) -> Result<Location, Failure> {
        match self.in_cluster(name).await {
            Ok(Some(location)) => return Ok(location),
            // Who may not read our Secrets may still read Velero's; what cannot be asked is asked again below.
            Ok(None) | Err(Failure::Api(_)) => {}
            Err(failure) => return Err(failure),
        }
        match self.backup_storage_location(name).await {
            Ok(Some(location)) => Ok(location),
            Ok(None) => Err(otherwise.clone().into()),
            Err(Failure::Api(error)) => {
                warn(&format!(
                    "{name} could not be looked up as a BackupStorageLocation: {error}"
                ));
                Err(otherwise.clone().into())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn in_cluster(&self, name: &str) -> Result<Option<Location>, Failure> {
        let api = self.api().await?;
        let schedules = Schedules::new(&api);
        let found = self.unless_interrupted(schedules.location(name)).await?;
        Ok(found.as_ref().map(in_cluster::from_secret).transpose()?)
    }

    async fn backup_storage_location(&self, name: &str) -> Result<Option<Location>, Failure> {
        let api = self.api().await?;
        let namespace = &self.common.velero_namespace;
        let path = format!("/apis/velero.io/v1/namespaces/{namespace}/backupstoragelocations/{name}");
        let Some(found) = self.object(&api, &path).await? else {
            return Ok(None);
        };
        let Some(spec) = found.get("spec") else {
            return Ok(None);
        };
        let credentials = self.credentials(&api, spec).await?;
        Ok(Some(from_backup_storage_location(spec, credentials.as_deref())?))
    }

    /// The credentials file in the Secret that the location names, or in Velero's own.
    async fn credentials(&self, api: &ApiClient, spec: &Value) -> Result<Option<Vec<u8>>, Failure> {
        let named = spec.get("credential").map(|credential| {
            let text = |key: &str| credential.get(key).and_then(Value::as_str).unwrap_or_default();
            (text("name"), text("key"))
        });
        let (name, key) = named.unwrap_or(VELERO_SECRET);
        let path = format!(
            "/api/v1/namespaces/{}/secrets/{name}",
            self.common.velero_namespace
        );
        let secret = match self.object(api, &path).await {
            // Without the Secret the AWS default chain is left: environment, profile, the machine's role.
            Err(Failure::Api(error)) if named.is_none() && error.is_forbidden() => None,
            other => other?,
        };
        let value = secret
            .as_ref()
            .and_then(|secret| secret.get("data")?.get(key)?.as_str());
        match (value, named) {
            (Some(value), _) => BASE64_STANDARD.decode(value).map(Some).map_err(|_| {
                Failure::Damaged(format!(
                    "key {key} of Secret {name} is no base64; look at the Secret"
                ))
            }),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Failure::NotFound(format!(
                "the BackupStorageLocation wants the key {key:?} of Secret {}/{name}, which is not there",
                self.common.velero_namespace
            ))),
        }
    }

    /// One object of the cluster.
    pub(crate) async fn object(&self, api: &ApiClient, path: &str) -> Result<Option<Value>, Failure> {
        let Some(body) = self.unless_interrupted::<_, ApiError>(api.get(path)).await? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&body);
        parsed.map(Some).map_err(|_| {
            ApiError::Parse {
                what: format!("GET {path}"),
                expected: "object",
            }
            .into()
        })
    }
}

impl Opened {
    /// The same with a limit for what is written, in bytes per second.
    pub(crate) fn limited(self, bytes_per_second: Option<u64>) -> Self {
        match bytes_per_second {
            Some(limit) => Self {
                bucket: Arc::new(Limited::new(self.bucket, limit)),
                ..self
            },
            None => self,
        }
    }
}
