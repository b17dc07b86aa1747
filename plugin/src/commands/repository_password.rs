//! The password of a location's volume repositories.
//!
//! It is looked for in the flag, the environment, the cluster (a Secret in our namespace) and the user's own folder, in that
//! order; where there is none and no repository yet, one is made, kept in the last two, and printed once. Out goes the
//! password, or for runs in the cluster what has to be put there so that they find it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use backup_engine::{
    api::{ApiClient, PatchKind},
    jobs::RUN_LABEL,
    location::{
        password::{from_secret, place_id, secret, secret_name, secret_path},
        redacted::Redacted,
    },
    repository::{BucketFiles, Files, Repository, RepositoryError, blocking, new_password},
    schedule::Repository as InCluster,
    storage::Bucket,
};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::{exit::Failure, session::Session, view};

/// Variable with the password.
pub(in crate::commands) const VARIABLE: &str = "KUBECTL_BACKUP_REPOSITORY_PASSWORD";

/// Variable that every pod has.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// Whether somebody says what the password is.
pub(super) fn is_given(file: Option<&Path>) -> bool {
    file.is_some() || of_environment().is_some()
}

/// The password of a location's repositories; made where there are none and `may_make`.
pub(super) async fn find(
    session: &Session,
    api: Option<&ApiClient>,
    file: Option<&Path>,
    bucket: &Arc<dyn Bucket>,
    may_make: bool,
) -> Result<Redacted, Failure> {
    if let Some(password) = given(file)? {
        return Ok(password);
    }
    let place = bucket.describe();
    let in_cluster = match api {
        // Looking at backups needs no cluster, and one that does not answer has no word in it.
        None => None,
        Some(api) => match in_cluster(session, api, &place).await {
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(_) if !may_make => None,
            found => found?,
        },
    };
    if let Some(password) = in_cluster {
        return Ok(password);
    }
    if let Some(password) = own(session, &place)? {
        return Ok(password);
    }
    let there = session.unless_interrupted(bucket.list_folders("restic/")).await?;
    if !there.is_empty() || !may_make {
        return Err(unknown(&place));
    }
    let (password, file) = make(session, &place)?;
    let kept_in_cluster = match api {
        Some(api) => keep_in_cluster(session, api, &place, &password).await,
        None => false,
    };
    say(&place, &password, &file, kept_in_cluster);
    Ok(password)
}

/// The password as runs in the cluster need it; `None` where the cluster holds it already.
pub(super) async fn for_pods(
    session: &Session,
    api: &ApiClient,
    file: Option<&Path>,
    bucket: &Arc<dyn Bucket>,
    may_make: bool,
) -> Result<Option<InCluster>, Failure> {
    let place = bucket.describe();
    let secret = secret_in_cluster(session, api, &place).await?;
    // What a single run has brought goes with it.
    let stays = |secret: &Value| secret["metadata"]["labels"][RUN_LABEL].is_null();
    let there = secret.as_ref().and_then(from_secret);
    let is_kept = there.is_some() && secret.as_ref().is_some_and(stays);
    let password = match (given(file)?, there) {
        (Some(given), Some(there)) if given == there && is_kept => return Ok(None),
        (None, Some(_)) if is_kept => return Ok(None),
        (Some(given), _) => given,
        (None, Some(there)) => there,
        (None, None) => match own(session, &place)? {
            Some(own) => own,
            None if !may_make => return Ok(None),
            None => {
                // A place that only pods reach cannot be looked at from here.
                let there = bucket.list_folders("restic/");
                match session.unless_interrupted(there).await {
                    Ok(there) if !there.is_empty() => return Err(unknown(&place)),
                    Ok(_) => {}
                    Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                    Err(failure) => view::warn(&format!(
                        "whether there are volume repositories already cannot be seen from here ({failure}); if there are, give \
                         their password with --repository-password-file"
                    )),
                }
                let (password, file) = make(session, &place)?;
                say(&place, &password, &file, true);
                password
            }
        },
    };
    Ok(Some(InCluster { place, password }))
}

/// Whether a password that is known here opens the restic repositories of a location. Where there are none it opens nothing: a
/// kopia repository is Velero's.
pub(in crate::commands) async fn opens(session: &Session, bucket: &Arc<dyn Bucket>) -> Result<bool, Failure> {
    let names = session.unless_interrupted(bucket.list_folders("restic/")).await?;
    let Some(name) = names.first() else {
        return Ok(false);
    };
    let api = session.api().await.ok();
    let password = match find(session, api.as_ref(), None, bucket, false).await {
        Ok(password) => password,
        Err(Failure::Refused(_)) => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let files: Arc<dyn Files> = Arc::new(BucketFiles::of_namespace(Arc::clone(bucket), name));
    let handle = Handle::current();
    let opened = blocking(move || Repository::open(files, password.reveal(), &handle).map(drop)).await;
    match opened {
        Ok(()) => Ok(true),
        Err(RepositoryError::WrongPassword { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn of_environment() -> Option<Redacted> {
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
    Some(Redacted::new(text))
}

fn given(file: Option<&Path>) -> Result<Option<Redacted>, Failure> {
    match file {
        Some(file) => read(file).map(Some),
        None => Ok(of_environment()),
    }
}

fn read(file: &Path) -> Result<Redacted, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Redacted::new(text.trim_end_matches(['\r', '\n']))),
        Err(source) => Err(local(file, source)),
    }
}

fn local(file: &Path, source: io::Error) -> Failure {
    Failure::Local {
        what: format!("password file {}", file.display()),
        source,
    }
}

async fn in_cluster(session: &Session, api: &ApiClient, place: &str) -> Result<Option<Redacted>, Failure> {
    let secret = secret_in_cluster(session, api, place).await?;
    Ok(secret.as_ref().and_then(from_secret))
}

/// Who may not look finds none.
async fn secret_in_cluster(
    session: &Session,
    api: &ApiClient,
    place: &str,
) -> Result<Option<Value>, Failure> {
    match session.object(api, &secret_path(place)).await {
        Ok(found) => Ok(found),
        Err(Failure::Api(error)) if error.is_forbidden() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What this user keeps.
fn own(session: &Session, place: &str) -> Result<Option<Redacted>, Failure> {
    match own_file(session, place) {
        Some(file) if file.exists() => read(&file).map(Some),
        _ => Ok(None),
    }
}

fn own_file(session: &Session, place: &str) -> Option<PathBuf> {
    let folder = session.common.locations_file.as_ref()?.parent()?;
    Some(folder.join("repository-passwords").join(place_id(place)))
}

fn unknown(place: &str) -> Failure {
    if std::env::var_os(IN_A_POD).is_some() {
        return Failure::Refused(format!(
            "there is no password for volume repositories at {place} in the cluster; make a backup with volumes or the schedule \
             from outside, which makes one"
        ));
    }
    Failure::Refused(format!(
        "the password of the volume repositories at {place} is not known here; give it with --repository-password-file, or as \
         {VARIABLE}"
    ))
}

/// Makes one and keeps it in the user's folder; in a pod there is none that would last.
fn make(session: &Session, place: &str) -> Result<(Redacted, PathBuf), Failure> {
    if std::env::var_os(IN_A_POD).is_some() {
        return Err(unknown(place));
    }
    let Some(file) = own_file(session, place) else {
        return Err(Failure::Refused(format!(
            "a password for volume repositories would have to be kept, and neither HOME nor XDG_CONFIG_HOME is set; make one and \
             give it with --repository-password-file, or as {VARIABLE}"
        )));
    };
    let password = new_password();
    keep(&file, &password).map_err(|source| local(&file, source))?;
    Ok((Redacted::new(password), file))
}

/// Keeps a password for this user, who has none of that place yet; gives the file.
pub(super) fn keep_copy(
    session: &Session,
    place: &str,
    password: &Redacted,
) -> Result<Option<PathBuf>, Failure> {
    if own(session, place)?.is_some() {
        return Ok(None);
    }
    let Some(file) = own_file(session, place) else {
        return Err(Failure::Refused(format!(
            "the password of the volume repositories at {place} has to be kept, and neither HOME nor XDG_CONFIG_HOME is set; copy \
             Secret {} somewhere and set one of them",
            secret_name(place)
        )));
    };
    keep(&file, password.reveal()).map_err(|source| local(&file, source))?;
    Ok(Some(file))
}

fn keep(file: &Path, password: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    writeln!(file, "{password}")?;
    file.sync_all()
}

/// Beside our parts, where those are there and this user may write to them.
async fn keep_in_cluster(session: &Session, api: &ApiClient, place: &str, password: &Redacted) -> bool {
    let apply = PatchKind::Apply {
        manager: "kubectl-backup".to_owned(),
        force: false,
    };
    let body = secret(place, password).to_string();
    let written = session
        .unless_interrupted(api.patch(&secret_path(place), &apply, body.into()))
        .await;
    written.is_ok()
}

fn say(place: &str, password: &Redacted, file: &Path, is_in_cluster: bool) {
    let and_where = if is_in_cluster { " and in the cluster" } else { "" };
    view::say(&format!(
        "volume repositories at {place} get this password, kept in {}{and_where}:",
        file.display()
    ));
    view::say(&format!("  {}", password.reveal()));
    view::say(
        "without it nobody reads the data of volumes again: keep a copy where the cluster and this machine are not",
    );
}
