//! `schedule create`: a Schedule of Velero's, or a CronJob that runs this program.
//!
//! In comes a schedule that was checked; out go its objects in the cluster and the times of its next runs. `schedule list`,
//! `describe` and the rest are in [`act`].

pub(crate) mod act;

use std::time::Duration;

use backup_engine::{
    api::ApiClient,
    clock,
    location::{Location, s3::CredentialsFrom, url},
    schedule::{Credentials as Stored, Schedules, Wanted, objects},
    velero::{VeleroError, check, schedule as velero_schedule, submit},
};
use backup_plan::{cron::Cron, human};
use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::{duration::GoDuration, time};

use super::{create::engine_request, in_cluster, repository_password, volume_data};
use crate::{
    arguments::global::OutputFormat,
    engine::{self, Cluster, Driven, Engine},
    exit::{Exit, Failure},
    request::{Credentials, NewSchedule, Place},
    session::Session,
    view::{self, document},
};

/// Runs that are shown.
const SHOWN: usize = 5;

/// Velero takes no expiry for its own default; counts need a long one.
const LONG_HOURS: u64 = 87_600;

pub(crate) async fn create(session: &Session, mut request: NewSchedule) -> Result<Exit, Failure> {
    let chosen = engine::choose(session, &request.place, Cluster::Needed).await?;
    view::say(&format!("schedule {}: {}", request.name, chosen.words));
    let objects = match chosen.engine {
        Engine::Velero(driven) => by_velero(session, &mut request, &driven).await?,
        Engine::Direct => by_cron_job(session, &request).await?,
    };
    show(session.common.output, &request, &objects)
}

async fn by_velero(
    session: &Session,
    request: &mut NewSchedule,
    driven: &Driven,
) -> Result<Vec<Value>, Failure> {
    if request.jitter.is_some() {
        return Err(submit::unsupported("--jitter", "Velero starts every schedule at its very time").into());
    }
    if let Some(why) = request.cron.is_read_differently() {
        view::warn(&format!("{}: {why}", request.cron));
    }
    if request.keep.is_some() {
        request.backup.ttl = request
            .backup
            .ttl
            .or_else(|| Some(GoDuration::from_hours(LONG_HOURS)));
    }
    check::writable(&driven.velero, &driven.location)?;
    let api = driven.velero.api();
    let kinds = super::velero::served(session, api).await?;
    let identity = session.unless_interrupted(api.identity()).await?;
    let mut wanted = engine_request(session, &request.backup, driven.location.metadata.name.clone());
    wanted.velero_spec = volume_data::for_velero(session, &request.backup).await?;
    let backup = submit::backup(&wanted, &identity, &kinds)?;
    let object = velero_schedule::object(
        &request.name,
        driven.velero.namespace(),
        &request.cron.to_string(),
        request.paused,
        backup,
    );
    if !request.dry_run {
        driven.velero.create_schedule(&request.name, &object).await?;
    }
    Ok(vec![object])
}

async fn by_cron_job(session: &Session, request: &NewSchedule) -> Result<Vec<Value>, Failure> {
    let schedule = request
        .cron
        .for_cron_job()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let (Place::Known { name, .. } | Place::Named { name, .. }) = &request.place;
    let location_name = name.clone();
    let location = session.locate(&request.place).await?;
    if let Location::Folder(_) = location {
        return Err(Failure::Refused(format!(
            "a pod cannot see the folder {}; give a bucket as --location",
            location.describe()
        )));
    }
    let api = session.api().await?;
    let schedules = Schedules::new(&api);
    if session
        .unless_interrupted(schedules.cron_job(&request.name))
        .await?
        .is_some()
    {
        return Err(Failure::Refused(format!(
            "schedule {0} exists already; delete it first with `kubectl backup schedule delete {0}`, or choose another name",
            request.name
        )));
    }
    let credentials = credentials(
        session,
        &api,
        &request.pods.credentials,
        &location_name,
        &location,
    )
    .await?;
    let repository = match &request.backup.volumes {
        Some(volumes) if !request.dry_run => {
            let bucket = session.open(&request.place).await?.bucket;
            let file = volumes.movers.password_file.as_deref();
            repository_password::for_pods(session, &api, file, &bucket, true).await?
        }
        _ => None,
    };
    let wanted = Wanted {
        name: request.name.clone(),
        schedule,
        time_zone: request.cron.zone_name().to_owned(),
        expression: request.cron.to_string(),
        interval: interval(&request.cron),
        paused: request.paused,
        words: words(request, &location_name),
        deadline: request.deadline + request.jitter.unwrap_or_default(),
        image: request.pods.image.clone(),
        image_pull_secret: request.pods.image_pull_secret.clone(),
        location: location_name,
        url: url::print(&location),
        credentials,
        reads_volumes: request.backup.volumes.is_some(),
        repository,
    };
    let objects = objects::objects(&wanted);
    if !request.dry_run {
        // Not dropped on Ctrl-C: half a schedule would be left.
        schedules.write(&objects).await?;
    }
    Ok(objects)
}

/// About how long from one run to the next.
fn interval(cron: &Cron) -> Duration {
    let times = cron.upcoming(clock::now(), 2);
    match times.as_slice() {
        [one, next] => next.duration_since(*one).unsigned_abs(),
        _ => Duration::from_hours(24),
    }
}

/// The command line of a run.
fn words(request: &NewSchedule, location: &str) -> Vec<String> {
    let mut words = vec![
        "create".to_owned(),
        format!("--for-schedule={}", request.name),
        format!("--location={location}"),
        "--engine=direct".to_owned(),
        "--yes".to_owned(),
        "--apply-retention".to_owned(),
    ];
    if request.backup.volumes.is_some() {
        words.extend(in_cluster::image_words(&request.pods));
    }
    words.extend(request.words.iter().cloned());
    if let Some(keep) = &request.keep {
        words.extend(
            keep.counts()
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(rule, count)| format!("--keep-{rule}={count}")),
        );
        words.extend(keep.zone.iter().map(|zone| format!("--keep-zone={zone}")));
    }
    words.extend(
        request
            .jitter
            .map(|jitter| format!("--jitter={}", GoDuration(jitter))),
    );
    words
}

/// What the pods log in with, as the Secret of the location holds it.
pub(super) async fn credentials(
    session: &Session,
    api: &ApiClient,
    given: &Credentials,
    name: &str,
    location: &Location,
) -> Result<Stored, Failure> {
    if let Location::S3(s3) = location
        && let CredentialsFrom::ProfileText(text) = &s3.credentials
    {
        return Ok(Stored::Text(text.reveal().to_owned()));
    }
    match given {
        Credentials::None => Ok(Stored::None),
        Credentials::Text(text) => Ok(Stored::Text(text.clone())),
        Credentials::File(path) => {
            std::fs::read_to_string(path)
                .map(Stored::Text)
                .map_err(|source| Failure::Local {
                    what: format!("credentials file {}", path.display()),
                    source,
                })
        }
        Credentials::Passing | Credentials::Unknown => {
            let there = session
                .unless_interrupted(Schedules::new(api).location(name))
                .await?;
            match (there, given) {
                (Some(_), _) => Ok(Stored::AsTheyAre),
                (None, Credentials::Passing) => Err(Failure::Refused(
                    "the credentials of this shell expire (AWS_SESSION_TOKEN); give lasting ones with --credentials-file, or \
                     --no-credentials where the pods have a role"
                        .to_owned(),
                )),
                (None, _) => Err(Failure::Refused(
                    "the pods need credentials for the bucket: give --credentials-file, or AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY, or --no-credentials where they have a role"
                        .to_owned(),
                )),
            }
        }
    }
}

fn show(format: OutputFormat, request: &NewSchedule, objects: &[Value]) -> Result<Exit, Failure> {
    let next = request.cron.upcoming(clock::now(), SHOWN);
    match format {
        OutputFormat::Name => view::print(&format!("schedule/{}\n", request.name))?,
        OutputFormat::Json | OutputFormat::Yaml if request.dry_run => {
            let shown: Vec<Value> = objects.iter().map(without_secrets).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": shown });
            document::bare(&mut view::out(), format, &list)?;
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({
                "name": request.name,
                "schedule": request.cron.to_string(),
                "timeZone": request.cron.zone_name(),
                "next": next.iter().map(|at| time::format(*at)).collect::<Vec<_>>(),
                "keep": request.keep.as_ref().map(ToString::to_string),
                "paused": request.paused,
            });
            document::write(&mut view::out(), format, "Schedule", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let word = if request.dry_run {
                "would be created"
            } else {
                "created"
            };
            view::print(&format!(
                "schedule/{} {word}; next runs:\n{}",
                request.name,
                runs(&request.cron, &next)
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// The times of runs with the clock of their zone.
pub(super) fn runs(cron: &Cron, next: &[Timestamp]) -> String {
    use std::fmt::Write;
    let now = clock::now();
    let mut text = String::new();
    for at in next {
        let shown = at.to_zoned(cron.zone().clone());
        let left = at.as_millisecond().saturating_sub(now.as_millisecond());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {} {} (in {})",
            shown.strftime("%a %Y-%m-%d %H:%M:%S %z"),
            cron.zone_name(),
            human::age(left)
        );
    }
    text
}

/// Credentials are nowhere printed, in a preview neither.
fn without_secrets(object: &Value) -> Value {
    let mut shown = object.clone();
    if let Some(data) = shown.get_mut("stringData").and_then(Value::as_object_mut)
        && data.contains_key("credentials")
    {
        data.insert("credentials".to_owned(), "".into());
    }
    shown
}

/// A name that both engines know is a question.
pub(super) fn ambiguous(name: &str) -> VeleroError {
    VeleroError::Unsupported {
        what: format!("schedule {name}"),
        reason: "there is a CronJob and a Schedule of Velero's of that name",
        next: "give --engine direct or --engine velero",
    }
}
