//! What a backup needs to store the data of volumes, and a restore to bring it back: which ones, and the movers.
//!
//! In come the flags and the location; out goes what the engine is to do, or nothing where no volume is opted in.

use std::sync::Arc;

use backup_engine::{
    api::ApiClient,
    backup::Volumes,
    catalog::{self, OpenBackup},
    location::{Location, in_cluster, redacted::Redacted, s3::CredentialsFrom, url},
    mover::crew::Crew,
    restore::VolumeData,
    schedule::Schedules,
    storage::Bucket,
    velero::submit,
    volumes::{Within, moves},
};
use backup_plan::{kinds, scope::Scope};
use serde_json::{Map, Value, json};

use super::{documents, repository_password};
use crate::{
    exit::Failure,
    request::{Create, DocumentSource, Movers, Place, Restore},
    session::{Opened, Session},
    view::{self, count},
};

/// What Velero gives its repositories unless somebody changes its Secret: a constant of its source.
const VELEROS: &str = "static-passw0rd";

/// Volumes that are restored at the same time.
const RESTORES_IN_FLIGHT: usize = 3;

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
    let hooks = match &wanted.hooks {
        Some(source) => Some(documents::hooks(session, source).await?),
        None => None,
    };
    let policies = match &wanted.policies {
        Some(source) => Some(documents::policies(session, source).await?),
        None => None,
    };
    let wish = moves::Wish {
        opt_in: wanted.opt_in,
        hooks: hooks.as_ref(),
        policies: policies.as_ref(),
    };
    let mut planned = plan(session, api, &request.scope, wish).await?;
    if planned.is_empty() {
        return Ok(None);
    }
    let mut password = Redacted::new(String::new());
    if !planned.moves.is_empty() {
        let file = wanted.movers.password_file.as_deref();
        match repository_password::find(session, Some(api), file, bucket, true).await {
            Ok(found) => password = found,
            // Nobody is there who could give it, and a backup of everything else is better than none.
            Err(Failure::Refused(reason)) if request.schedule.is_some() => {
                planned.leave_all("no-password", &reason);
            }
            Err(failure) => return Err(failure),
        }
    }
    let moves::Plan {
        moves,
        left,
        hooks,
        warnings,
    } = planned;
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
        warnings,
        crew: crew(session, api, place, &wanted.movers, password, wanted.in_flight).await?,
    }))
}

/// What there is to do; nothing where this user may not look at pods or claims: a backup without those says so.
async fn plan(
    session: &Session,
    api: &ApiClient,
    scope: &Scope,
    wish: moves::Wish<'_>,
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
        .unless_interrupted(moves::plan(api, &filter, &within, wish))
        .await
    {
        Err(Failure::Api(error)) if error.is_forbidden() => Ok(moves::Plan::default()),
        planned => planned,
    }
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
    } else if found.are_veleros && !repository_password::is_given(given) {
        Redacted::new(VELEROS.to_owned())
    } else {
        repository_password::find(session, Some(api), given, &opened.bucket, false).await?
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

/// What Velero is told about volumes.
pub(super) async fn for_velero(session: &Session, request: &Create) -> Result<Map<String, Value>, Failure> {
    let mut spec = Map::new();
    let Some(wanted) = &request.volumes else {
        return Ok(spec);
    };
    if wanted.opt_in == moves::OptIn::AllButExcluded {
        spec.insert("defaultVolumesToFsBackup".to_owned(), true.into());
    }
    if let Some(source) = &wanted.hooks {
        let hooks = documents::hooks(session, source).await?;
        spec.insert("hooks".to_owned(), hooks.source().clone());
    }
    match &wanted.policies {
        Some(DocumentSource::ConfigMap(name)) => {
            let reference = json!({ "kind": "configmap", "name": name });
            spec.insert("resourcePolicy".to_owned(), reference);
        }
        Some(DocumentSource::File(_)) => {
            return Err(submit::unsupported(
                "--resource-policies-file",
                "Velero reads policies from a ConfigMap of its namespace (--resource-policies-configmap)",
            )
            .into());
        }
        None => {}
    }
    Ok(spec)
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
