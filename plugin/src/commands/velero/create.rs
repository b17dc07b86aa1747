//! `create` by Velero: a Backup object, its end, and what is in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backup_engine::{
    backup::BackupRequest,
    catalog::{self, CatalogError, OpenBackup},
    storage::Bucket,
    velero::{
        Kind, VeleroError, check,
        fetch::{self, Fetched},
        left_out::{self, Census, LeftOut},
        submit,
    },
};
use backup_plan::human;
use serde_json::{Value, json};
use velero_model::{
    api_object::{DownloadTargetKind as File, Run},
    name::BackupName,
    phase::Phase,
    resource_list::ResourceList,
    results::Results,
    volume::VolumeInfo,
};

use super::{bucket, follow, messages, reasons, served};
use crate::{
    arguments::global::OutputFormat,
    commands::{create::engine_request, volume_data},
    engine::Driven,
    exit::{Exit, Failure},
    request::{ATTEMPTS, Create, Place, describe_scope, numbered},
    session::Session,
    view::{self, document, table::Table},
};

/// Files that tell what came of a backup.
const FILES: [File; 3] = [
    File::BackupResults,
    File::BackupResourceList,
    File::BackupVolumeInfos,
];

/// Key of claims in Velero's list of names.
const CLAIMS: &str = "v1/PersistentVolumeClaim";

/// What came of a backup, as far as it is known.
#[derive(Debug, Default)]
struct Made {
    run: Run,
    results: Results,
    names: Option<ResourceList>,
    volumes: Vec<VolumeInfo>,
    size: Option<u64>,
    expires: Option<jiff::Timestamp>,
    left_out: Vec<LeftOut>,
}

pub(crate) async fn run(
    session: &Session,
    request: &Create,
    place: &Place,
    driven: &Driven,
    words: &str,
) -> Result<Exit, Failure> {
    refuse(session, request)?;
    check::writable(&driven.velero, &driven.location)?;
    let bucket = bucket(session, place).await?;
    let api = driven.velero.api();
    let kinds = served(session, api).await?;
    let identity = session.unless_interrupted(api.identity()).await?;
    let mut wanted = engine_request(session, request, driven.location.metadata.name.clone());
    wanted.velero_spec = volume_data::for_velero(session, request).await?;
    // What cannot be submitted is said before anything is asked of Velero.
    submit::backup(&wanted, &identity, &kinds)?;
    session
        .unless_interrupted(check::namespaces_exist(&driven.velero, &wanted.scope))
        .await?;
    let census = if request.scope.is_everything() {
        let counted = async { Ok::<_, Failure>(left_out::census(api, &kinds).await) };
        Some(session.unless_interrupted(counted).await?)
    } else {
        None
    };
    let begun = Instant::now();
    let build = |wanted: &BackupRequest| submit::backup(wanted, &identity, &kinds);
    let what = format!("{words}; scope: {}", describe_scope(&request.scope));
    let name = submit_free(session, request, driven, bucket.as_ref(), wanted, &what, build).await?;
    if !session.common.wait {
        submitted(session.common.output, &name)?;
        return Ok(Exit::Done);
    }
    let run = follow(session, driven, Kind::Backup, name.as_str()).await?;
    let made = read_back(session, driven, bucket.as_ref(), &name, run, census.as_ref()).await?;
    show(session.common.output, driven, &name, &made, begun.elapsed())?;
    Ok(Exit::of_phase(&Phase::from(made.run.status.phase)))
}

/// Flags that mean something to engine direct only.
fn refuse(session: &Session, request: &Create) -> Result<(), VeleroError> {
    if request.schedule.is_some() {
        return Err(submit::unsupported(
            "--for-schedule",
            "Velero makes the backups of its schedules itself",
        ));
    }
    let own_pace = "Velero reads and writes at its own pace";
    if request.upload_bandwidth.is_some() {
        return Err(submit::unsupported("--upload-bandwidth", own_pace));
    }
    if session.common.connect.requests_per_second.is_some() {
        return Err(submit::unsupported("--requests-per-second", own_pace));
    }
    Ok(())
}

/// Submits under a name that is free. A name that was made up from the time gets a number if it is taken.
async fn submit_free(
    session: &Session,
    request: &Create,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
    mut wanted: BackupRequest,
    what: &str,
    build: impl Fn(&BackupRequest) -> Result<Value, VeleroError>,
) -> Result<BackupName, Failure> {
    let mut attempt = 1;
    loop {
        view::say(&format!("backup {}: {what}; to {}", wanted.name, driven.place()));
        let object = build(&wanted)?;
        let mut tried = session
            .unless_interrupted(check::name_is_free(&driven.velero, bucket, &wanted.name))
            .await;
        if tried.is_ok() {
            // Not dropped on Ctrl-C: afterwards nobody could say whether it was submitted.
            let submitted = driven.velero.submit(Kind::Backup, wanted.name.as_str(), &object);
            tried = submitted.await.map_err(Into::into);
        }
        match tried {
            Ok(()) => return Ok(wanted.name),
            Err(Failure::Velero(VeleroError::Exists { .. } | VeleroError::ExistsInStorage { .. }))
                if request.name_is_made_up && attempt < ATTEMPTS =>
            {
                attempt += 1;
                wanted.name = numbered(&request.name, attempt)?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn submitted(format: OutputFormat, name: &BackupName) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({ "name": name, "engine": "velero", "status": "New" });
            document::write(&mut view::out(), format, "BackupSummary", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!("backup/{name} submitted\n"))?;
            view::say(&format!(
                "next: `kubectl backup describe {name}` shows how it is getting on"
            ));
        }
    }
    Ok(())
}

/// Reads what Velero wrote: from the bucket, else through its API. Without it there are still the object's numbers.
async fn read_back(
    session: &Session,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
    run: Run,
    census: Option<&Census>,
) -> Result<Made, Failure> {
    let mut made = Made {
        run,
        ..Made::default()
    };
    if made.run.status.phase == "FailedValidation" {
        return Ok(made);
    }
    match session
        .unless_interrupted(open(session, driven, bucket, name))
        .await
    {
        Ok(Some((backup, _fetched))) => {
            // Its folder holds what was fetched, not what is stored.
            made.size = _fetched.is_none().then(|| backup.size());
            made.expires = backup.backup().status.expiration;
            session.unless_interrupted(fill(&mut made, &backup)).await?;
        }
        Ok(None) => {}
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => view::warn(&format!("what Velero wrote cannot be read: {failure}")),
    }
    if let (Some(census), Some(names)) = (census, &made.names) {
        let compared =
            async { Ok::<_, Failure>(left_out::compare(driven.velero.api(), census, names).await) };
        made.left_out = session.unless_interrupted(compared).await?;
    }
    Ok(made)
}

async fn open(
    session: &Session,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
) -> Result<Option<(OpenBackup, Option<Fetched>)>, Failure> {
    if let Some(bucket) = bucket {
        match catalog::open(bucket, name).await {
            Ok(backup) => return Ok(Some((backup, None))),
            // What is not there, Velero cannot hand out.
            Err(CatalogError::NotFound { .. }) => return Ok(None),
            Err(_) => {}
        }
    }
    let fetched = fetch::backup(&driven.velero, &driven.location, name, &FILES, &session.cancel).await?;
    let Some(fetched) = fetched else {
        return Ok(None);
    };
    let backup = catalog::open(fetched.bucket(), name).await?;
    Ok(Some((backup, Some(fetched))))
}

async fn fill(made: &mut Made, backup: &OpenBackup) -> Result<(), Failure> {
    made.results = backup.results().await?.unwrap_or_default();
    made.names = backup.resource_list().await?;
    made.volumes = backup.volume_infos().await?;
    Ok(())
}

impl Made {
    fn objects(&self) -> u64 {
        self.run
            .status
            .progress
            .map(|progress| progress.items_backed_up)
            .unwrap_or_default()
    }

    /// What must be said about claims: how many have data in the backup.
    fn claims(&self) -> Option<String> {
        let claims = self.names.as_ref()?.get(CLAIMS)?.len();
        let with_data = self
            .volumes
            .iter()
            .filter(|volume| !volume.skipped && !volume.backup_method.is_empty() && volume.result != "failed")
            .count();
        match (claims, with_data) {
            (0, _) => None,
            (_, 0) => Some("manifests only, no data".to_owned()),
            (claims, with_data) => Some(format!("{with_data} of {claims} with data")),
        }
    }

    fn left_out(&self) -> Option<String> {
        if self.left_out.is_empty() {
            return None;
        }
        let kinds: Vec<String> = self.left_out.iter().map(ToString::to_string).collect();
        Some(format!(
            "Velero left out {}; --engine direct takes them",
            kinds.join(", ")
        ))
    }
}

fn show(
    format: OutputFormat,
    driven: &Driven,
    name: &BackupName,
    made: &Made,
    took: Duration,
) -> Result<(), Failure> {
    let status = &made.run.status;
    match format {
        OutputFormat::Name => Ok(view::print(&format!("backup/{name}\n"))?),
        OutputFormat::Json | OutputFormat::Yaml => {
            let left_out = made.left_out.iter().map(|left_out| {
                json!({ "resource": left_out.resource, "there": left_out.there, "stored": left_out.stored })
            });
            let result = json!({
                "name": name,
                "engine": "velero",
                "status": status.phase_word(),
                "location": driven.place(),
                "objects": made.objects(),
                "size": made.size,
                "started": view::timestamp(status.start_timestamp),
                "durationSeconds": took.as_secs_f64(),
                "completed": view::timestamp(status.completion_timestamp),
                "expires": view::timestamp(made.expires),
                "claims": made.claims(),
                "reasons": reasons(&made.run),
                "errors": made.results.errors.iter().collect::<Vec<_>>(),
                "warnings": made.results.warnings.iter().collect::<Vec<_>>(),
                "leftOut": left_out.collect::<Vec<_>>(),
            });
            document::write(&mut view::out(), format, "BackupSummary", &result)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            table(format, driven, name, made, took).write(&mut view::out())?;
            if let Some(claims) = made.claims() {
                view::print(&format!("claims: {claims}\n"))?;
            }
            let more = format!("kubectl backup describe {name}");
            messages(&reasons(&made.run), &made.results, &more);
            if let Some(left_out) = made.left_out() {
                view::warn(&left_out);
            }
            next(name, made);
            Ok(())
        }
    }
}

fn table(format: OutputFormat, driven: &Driven, name: &BackupName, made: &Made, took: Duration) -> Table {
    let status = &made.run.status;
    let mut headings = vec![
        "NAME", "STATUS", "OBJECTS", "SIZE", "DURATION", "WARNINGS", "ERRORS",
    ];
    let mut row = vec![
        name.to_string(),
        status.phase_word().to_owned(),
        made.objects().to_string(),
        made.size.map_or_else(|| "<unknown>".to_owned(), human::bytes),
        view::took(took),
        status.warnings.to_string(),
        status.errors.to_string(),
    ];
    if format == OutputFormat::Wide {
        headings.push("LOCATION");
        row.push(driven.place());
    }
    let mut table = Table::new(&headings);
    table.push(row);
    table
}

fn next(name: &BackupName, made: &Made) {
    match made.run.status.phase.as_str() {
        "PartiallyFailed" => view::say(&format!(
            "next: `kubectl backup logs {name}` says what failed; everything else is in this backup"
        )),
        "Failed" => view::say(&format!(
            "next: remove the cause, then `kubectl backup delete {name}` and back up again"
        )),
        "FailedValidation" => view::say(&format!(
            "next: correct the request; `kubectl backup delete {name}` frees the name"
        )),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_counted_with_their_data() {
        let mut made = Made::default();
        assert_eq!(made.claims(), None);
        made.names = Some([(CLAIMS.to_owned(), vec!["a/x".to_owned(), "a/y".to_owned()])].into());
        assert_eq!(made.claims().unwrap(), "manifests only, no data");
        made.volumes = vec![
            VolumeInfo {
                backup_method: "CSISnapshot".into(),
                result: "succeeded".into(),
                ..VolumeInfo::default()
            },
            VolumeInfo {
                skipped: true,
                ..VolumeInfo::default()
            },
            VolumeInfo {
                backup_method: "PodVolumeBackup".into(),
                result: "failed".into(),
                ..VolumeInfo::default()
            },
        ];
        assert_eq!(made.claims().unwrap(), "1 of 2 with data");
    }

    #[test]
    fn what_velero_left_out_is_one_line() {
        let mut made = Made::default();
        assert_eq!(made.left_out(), None);
        let left_out = |resource: &str, there, stored| LeftOut {
            resource: resource.into(),
            there,
            stored,
        };
        made.left_out = vec![left_out("pods", 5, 4), left_out("widgets.example.org", 2, 0)];
        assert_eq!(
            made.left_out().unwrap(),
            "Velero left out 1 of 5 pods, 2 of 2 widgets.example.org; --engine direct takes them"
        );
    }
}
