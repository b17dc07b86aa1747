//! What a backup needs to store the data of volumes: which ones, the password of their repositories, and the way there.
//!
//! In come the flags and the location; out goes what the engine is to do, or nothing where no volume is opted in. The
//! password is looked for in the flag, the environment, the cluster (a Secret in our namespace) and the user's own folder, in
//! that order; where there is none and no repository yet, one is made, kept in the last two, and printed once.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use backup_engine::{
    api::{ApiClient, PatchKind},
    backup::Volumes,
    catalog::{self, OpenBackup},
    location::{Location, in_cluster, redacted::Redacted, s3::CredentialsFrom, url},
    mover::crew::Crew,
    repository::new_password,
    restore::VolumeData,
    schedule::{NAMESPACE, Schedules},
    storage::Bucket,
    volumes::{Within, moves},
};
use backup_plan::{hash::sha256_start, kinds, scope::Scope};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    exit::Failure,
    request::{Create, Movers, Place, Restore},
    session::{Opened, Session},
    view::{self, count},
};

/// Variable with the password.
const VARIABLE: &str = "KUBECTL_BACKUP_REPOSITORY_PASSWORD";

/// What Velero gives its repositories unless somebody changes its Secret: a constant of its source.
const VELEROS: &str = "static-passw0rd";

/// Volumes that are restored at the same time.
const RESTORES_IN_FLIGHT: usize = 3;

/// Key of the Secret.
const KEY: &str = "password";

/// The volumes of a backup, with all that their movers need; `None` where there are none.
pub(super) async fn of_backup(
    session: &Session,
    api: &ApiClient,
    request: &Create,
    place: &Place,
    bucket: &Arc<dyn Bucket>,
) -> Result<Option<Volumes>, Failure> {
    let Some(wanted) = &request.volumes else {
        return Ok(None);
    };
    let planned = plan(session, api, &request.scope, wanted.opt_in).await?;
    if planned.is_empty() {
        return Ok(None);
    }
    let moves::Plan { moves, left, hooks } = planned;
    let password = if moves.is_empty() {
        Redacted::new(String::new())
    } else {
        password(
            session,
            Some(api),
            wanted.movers.password_file.as_deref(),
            bucket,
            true,
        )
        .await?
    };
    if !moves.is_empty() {
        view::say(&format!(
            "volumes: {} to read by movers of image {}",
            count(moves.len() as u64, "claim"),
            wanted.movers.image
        ));
    }
    Ok(Some(Volumes {
        moves,
        left,
        hooks,
        crew: crew(session, api, place, &wanted.movers, password, wanted.in_flight).await?,
    }))
}

/// What there is to do; nothing where this user may not look at pods or claims: a backup without those says so.
async fn plan(
    session: &Session,
    api: &ApiClient,
    scope: &Scope,
    opt_in: moves::OptIn,
) -> Result<moves::Plan, Failure> {
    let discovery = session.unless_interrupted(api.discover()).await?;
    let kinds = kinds::choose(&discovery.kinds).taken;
    let filter = scope
        .resolve(&kinds)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let within = match filter.named_namespaces() {
        Some(names) => Within::Namespaces(names.into_iter().map(str::to_owned).collect()),
        None => Within::Everywhere,
    };
    match session
        .unless_interrupted(moves::plan(api, &filter, &within, opt_in))
        .await
    {
        Err(Failure::Api(error)) if error.is_forbidden() => Ok(moves::Plan::default()),
        planned => planned,
    }
}

/// Says what a run in the cluster leaves out of what pods opt in.
pub(super) async fn warn_of_manifests_only(
    session: &Session,
    api: &ApiClient,
    scope: &Scope,
) -> Result<(), Failure> {
    let planned = plan(session, api, scope, moves::OptIn::Listed).await?;
    if !planned.moves.is_empty() {
        view::warn(&format!(
            "{} that pods opt in will be in these backups as manifests only: runs in the cluster may not start movers; a \
             `kubectl backup create` from here reads them, and so does engine velero",
            count(planned.moves.len() as u64, "claim")
        ));
    }
    Ok(())
}

/// The data that a restore brings back; `None` where the backup has none, or none is wanted.
pub(super) async fn of_restore(
    session: &Session,
    api: &ApiClient,
    request: &Restore,
    opened: &Opened,
    backup: &OpenBackup,
) -> Result<Option<VolumeData>, Failure> {
    if !request.restore_volumes {
        return Ok(None);
    }
    let found = session
        .unless_interrupted(catalog::claim_snapshots(backup))
        .await?;
    if found.of_claims.is_empty() {
        return Ok(None);
    }
    let given = request.movers.password_file.as_deref();
    let password = if request.plan {
        // Nothing is read.
        Redacted::new(String::new())
    } else if found.are_veleros && given.is_none() && std::env::var_os(VARIABLE).is_none() {
        Redacted::new(VELEROS.to_owned())
    } else {
        password(session, Some(api), given, &opened.bucket, false).await?
    };
    Ok(Some(VolumeData {
        bucket: Arc::clone(&opened.bucket),
        snapshots: found.of_claims,
        crew: crew(
            session,
            api,
            &request.place,
            &request.movers,
            password,
            RESTORES_IN_FLIGHT,
        )
        .await?,
    }))
}

async fn crew(
    session: &Session,
    api: &ApiClient,
    place: &Place,
    movers: &Movers,
    password: Redacted,
    in_flight: usize,
) -> Result<Crew, Failure> {
    Ok(Crew {
        password,
        image: movers.image.clone(),
        image_pull_secret: movers.image_pull_secret.clone(),
        direct: direct(session, api, place).await?,
        in_flight,
        deadline: movers.deadline,
    })
}

/// The location as the cluster holds it, which pods may use themselves.
async fn direct(
    session: &Session,
    api: &ApiClient,
    place: &Place,
) -> Result<Option<(String, Option<Redacted>)>, Failure> {
    let (Place::Known { name, .. } | Place::Named { name, .. }) = place;
    let found = match session
        .unless_interrupted(Schedules::new(api).location(name))
        .await
    {
        Ok(found) => found,
        Err(Failure::Api(error)) if error.is_forbidden() => None,
        Err(failure) => return Err(failure),
    };
    let Some(secret) = found else {
        return Ok(None);
    };
    Ok(match in_cluster::from_secret(&secret)? {
        Location::S3(s3) => {
            let text = match &s3.credentials {
                CredentialsFrom::ProfileText(text) => Some(text.clone()),
                _ => None,
            };
            Some((url::print(&Location::S3(s3)), text))
        }
        Location::Folder(_) => None,
    })
}

/// The password of a location's repositories; made where there are none and `may_make`.
pub(super) async fn password(
    session: &Session,
    api: Option<&ApiClient>,
    file: Option<&Path>,
    bucket: &Arc<dyn Bucket>,
    may_make: bool,
) -> Result<Redacted, Failure> {
    if let Some(file) = file {
        let text = fs::read_to_string(file).map_err(|source| Failure::Local {
            what: format!("password file {}", file.display()),
            source,
        })?;
        return Ok(Redacted::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) {
        return Ok(Redacted::new(text));
    }
    let place = bucket.describe();
    let secret = secret_path(&place);
    let in_cluster = match api {
        // Looking at backups needs no cluster, and one that does not answer has no word in it.
        None => None,
        Some(api) => match session.unless_interrupted(api.get(&secret)).await {
            Ok(found) => found.and_then(|body| read_secret(&body)),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(_) if !may_make => None,
            Err(Failure::Api(error)) if error.is_forbidden() || error.is_not_found() => None,
            Err(failure) => return Err(failure),
        },
    };
    if let Some(password) = in_cluster {
        return Ok(password);
    }
    let own = own_file(session, &place);
    if let Some(file) = &own {
        match fs::read_to_string(file) {
            Ok(text) => return Ok(Redacted::new(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Failure::Local {
                    what: format!("password file {}", file.display()),
                    source,
                });
            }
        }
    }
    let there = session.unless_interrupted(bucket.list_folders("restic/")).await?;
    if !there.is_empty() || !may_make {
        return Err(Failure::Refused(format!(
            "the password of the volume repositories at {place} is not known here; give it with --repository-password-file, or as \
             {VARIABLE}"
        )));
    }
    let Some(own) = own else {
        return Err(Failure::Refused(format!(
            "a password for volume repositories would have to be kept, and neither HOME nor XDG_CONFIG_HOME is set; make one and \
             give it with --repository-password-file, or as {VARIABLE}"
        )));
    };
    let password = new_password();
    keep(&own, &password).map_err(|source| Failure::Local {
        what: format!("password file {}", own.display()),
        source,
    })?;
    let kept_in_cluster = match api {
        Some(api) => keep_in_cluster(session, api, &place, &password).await,
        None => false,
    };
    view::say(&format!(
        "volume repositories at {place} get this password, kept in {}{}:\n  {password}\nwithout it nobody reads the data of \
         volumes again: keep a copy where the cluster and this machine are not",
        own.display(),
        if kept_in_cluster {
            " and in the cluster"
        } else {
            ""
        },
    ));
    Ok(Redacted::new(password))
}

/// A place, short and without characters that names do not have.
fn id(place: &str) -> String {
    sha256_start(place, 6)
}

fn secret_path(place: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/repository-{}", id(place))
}

fn read_secret(body: &[u8]) -> Option<Redacted> {
    let secret: Value = serde_json::from_slice(body).ok()?;
    let bytes = BASE64_STANDARD.decode(secret["data"][KEY].as_str()?).ok()?;
    String::from_utf8(bytes).ok().map(Redacted::new)
}

fn own_file(session: &Session, place: &str) -> Option<PathBuf> {
    let folder = session.common.locations_file.as_ref()?.parent()?;
    Some(folder.join("repository-passwords").join(id(place)))
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
async fn keep_in_cluster(session: &Session, api: &ApiClient, place: &str, password: &str) -> bool {
    let name = format!("repository-{}", id(place));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "labels": { "app.kubernetes.io/managed-by": "kubectl-backup" },
            "annotations": { "kubectl-backup.io/place": place },
        },
        "stringData": { KEY: password },
    });
    let apply = PatchKind::Apply {
        manager: "kubectl-backup".to_owned(),
        force: false,
    };
    let path = secret_path(place);
    let written = session
        .unless_interrupted(api.patch(&path, &apply, secret.to_string().into()))
        .await;
    written.is_ok()
}
