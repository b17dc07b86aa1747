//! `create --in-cluster` and `restore --in-cluster`, and following a Job for whoever started one.
//!
//! In comes a command line for a pod; out goes the exit of its run. The pod's log is our stderr. Ctrl-C stops a run of ours
//! and waits until its pod has cleaned up; whatever way it ends, nothing of it stays.

use std::time::Duration;

use backup_engine::{
    api::ApiClient,
    clock,
    jobs::{self, Ended, Followed, Wanted},
    location::{Location, url},
    schedule::{NAMESPACE, Repository},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{repository_password, schedule};
use crate::{
    arguments::global::{EngineWord, OutputFormat},
    exit::{Exit, Failure},
    request::{InCluster, Movers, Place, Pods},
    session::Session,
    view::{self, document},
};

/// As long as a schedule's run by default.
const DEADLINE: Duration = Duration::from_hours(6);

/// A pod has a minute to clean up.
const STOPPED_WITHIN: Duration = Duration::from_secs(90);

/// What is run.
pub(super) struct Work<'a> {
    /// `create` or `restore`.
    pub(super) verb: &'static str,
    /// What is made: `backup/NAME`, or `restore` where its name is made there.
    pub(super) result: String,
    pub(super) place: &'a Place,
    pub(super) run: &'a InCluster,
    /// More words for the pod.
    pub(super) more: Vec<String>,
    /// Movers of the volumes that it reads or fills; none where it leaves them out.
    pub(super) volumes: Option<Volumes<'a>>,
}

/// Volumes in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volumes<'a> {
    /// What movers are made with.
    pub(super) movers: &'a Movers,
    /// Whether a password is made where there is none.
    pub(super) may_make_password: bool,
}

pub(super) async fn run(session: &Session, work: Work<'_>) -> Result<Exit, Failure> {
    if session.common.engine == EngineWord::Velero {
        return Err(Failure::Usage(
            "--in-cluster: Velero works in the cluster anyway; leave one of --in-cluster and --engine velero out".to_owned(),
        ));
    }
    let (Place::Known { name, .. } | Place::Named { name, .. }) = work.place;
    let location = session.locate(work.place).await?;
    if let Location::Folder(_) = location {
        return Err(Failure::Refused(format!(
            "a pod cannot see the folder {}; give a bucket as --location",
            location.describe()
        )));
    }
    let api = session.api().await?;
    let pods = &work.run.pods;
    let credentials = schedule::credentials(session, &api, &pods.credentials, name, &location).await?;
    let repository = match work.volumes {
        Some(volumes) => repository(session, &api, work.place, volumes).await?,
        None => None,
    };
    let mut words = work.run.words.clone();
    // Behind the command and before what was typed, since a name may stand behind `--`.
    let mut extra = vec![format!("--location={name}"), "--engine=direct".to_owned()];
    extra.extend(image_words(pods));
    words.splice(1..1, extra.into_iter().chain(work.more));
    let job = jobs::name(work.verb, clock::now());
    let wanted = Wanted {
        name: job.clone(),
        words,
        may_write: work.verb == "restore",
        deadline: session
            .common
            .timeout
            .unwrap_or(DEADLINE)
            .max(Duration::from_secs(1)),
        image: pods.image.clone(),
        image_pull_secret: pods.image_pull_secret.clone(),
        location: name.clone(),
        url: url::print(&location),
        credentials,
        reads_volumes: work.volumes.is_some(),
        repository,
    };
    // Not dropped on Ctrl-C: half of it would be left.
    jobs::start(&api, &wanted).await?;
    view::say(&format!(
        "{} runs as job/{job} in namespace {NAMESPACE}, {}",
        work.verb,
        if wanted.may_write {
            "with the right to change everything in the cluster while it runs"
        } else if wanted.reads_volumes {
            "with the right to read the cluster, to start movers and to run commands in pods while it runs"
        } else {
            "with the right to read the cluster while it runs"
        }
    ));
    if !session.common.wait {
        view::say(&how_to_follow(&job));
        view::say(&format!(
            "next: `kubectl delete clusterrole {}` stops it and takes all of it away; the next --in-cluster does that once it \
             has ended",
            jobs::objects::role_name(&job)
        ));
        return show(session.common.output, &work.result, &job, None);
    }
    let followed = follow(&api, &job, &session.cancel).await;
    let followed = match followed {
        Ok(Followed::Interrupted) => {
            view::say(&format!("job/{job} is told to stop; its pod cleans up"));
            jobs::stop(&api, &job).await?;
            let patience = CancellationToken::new();
            let end = follow(&api, &job, &patience);
            if tokio::time::timeout(STOPPED_WITHIN, end).await.is_err() {
                view::warn(&format!(
                    "the pod of job/{job} does not end; the cluster removes it"
                ));
            }
            Ok(Followed::Interrupted)
        }
        other => other,
    };
    jobs::remove(&api, &job).await?;
    match followed? {
        Followed::Interrupted => Err(Failure::Interrupted),
        Followed::Gone => Err(Failure::NotFound(format!(
            "job/{job} was deleted by somebody before it ended; run it again"
        ))),
        Followed::Ended(ended) => {
            let exit = exit_of(&ended);
            explain(&ended, &job);
            show(session.common.output, &work.result, &job, Some(exit))
        }
    }
}

/// The password that the cluster does not hold yet. A restore of a backup without volumes needs none, and its pod is the one to
/// say that it does.
async fn repository(
    session: &Session,
    api: &ApiClient,
    place: &Place,
    volumes: Volumes<'_>,
) -> Result<Option<Repository>, Failure> {
    let bucket = session.open(place).await?.bucket;
    let file = volumes.movers.password_file.as_deref();
    repository_password::for_pods(session, api, file, &bucket, volumes.may_make_password).await
}

/// Movers of a pod of ours are made like it.
pub(super) fn image_words(pods: &Pods) -> Vec<String> {
    let secret = pods.image_pull_secret.as_ref();
    [format!("--image={}", pods.image)]
        .into_iter()
        .chain(secret.map(|secret| format!("--image-pull-secret={secret}")))
        .collect()
}

/// Follows a Job with its log on stderr.
pub(super) async fn follow(
    api: &ApiClient,
    job: &str,
    cancel: &CancellationToken,
) -> Result<Followed, Failure> {
    let line = |line: &str| view::say(line);
    let hint = |hint: &str| view::warn(hint);
    Ok(jobs::follow(api, job, cancel, line, hint).await?)
}

pub(super) fn how_to_follow(job: &str) -> String {
    format!("next: `kubectl logs -f job/{job} -n {NAMESPACE}` shows how it is getting on")
}

/// The exit of a run is ours.
pub(super) fn exit_of(ended: &Ended) -> Exit {
    match ended.exit_code {
        _ if ended.is_complete => Exit::Done,
        _ if ended.reason == "DeadlineExceeded" => Exit::TimedOut,
        Some(code) => Exit::of_code(code),
        None => Exit::Failed,
    }
}

/// Why a Job failed, where its log cannot say it.
pub(super) fn explain(ended: &Ended, job: &str) {
    if ended.is_complete {
        return;
    }
    match ended.exit_code {
        Some(137) => view::warn(&format!(
            "job/{job}: its container was killed, perhaps because it took more memory than its limit"
        )),
        Some(_) => {}
        None => view::warn(&format!("job/{job} failed: {} ({})", ended.message, ended.reason)),
    }
}

fn show(format: OutputFormat, result: &str, job: &str, exit: Option<Exit>) -> Result<Exit, Failure> {
    match format {
        OutputFormat::Name => view::print(&format!("{result}\n"))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let run = json!({
                "job": job,
                "namespace": NAMESPACE,
                "result": result,
                "exitCode": exit.map(Exit::code),
            });
            document::write(&mut view::out(), format, "Run", &run)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let end = match exit {
                None => "runs".to_owned(),
                Some(Exit::Done) => "is done".to_owned(),
                Some(exit) => format!("ended with exit code {}", exit.code()),
            };
            view::print(&format!("{result}: job/{job} {end}\n"))?;
        }
    }
    Ok(exit.unwrap_or(Exit::Done))
}
