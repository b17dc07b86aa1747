//! `schedule` as meant.

use std::{path::PathBuf, time::Duration};

use backup_plan::cron::Cron;
use velero_model::{keep::Keep, name::BackupName};

use super::{Command, Create, Place, Pods, RequestError, create, fields, in_cluster, retention};
use crate::arguments::{
    environment::Environment,
    global::Global,
    schedule::{ScheduleCommand, ScheduleCreate},
};

/// Kubernetes' limit for names of CronJobs, whose Jobs get eleven characters more.
const NAME_MAX: usize = 52;

/// A schedule to set up.
#[derive(Debug, Clone)]
pub(crate) struct NewSchedule {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) cron: Cron,
    /// What each run backs up.
    pub(crate) backup: Create,
    /// The flags of the backup as they were typed, for the command line of each run.
    pub(crate) words: Vec<String>,
    pub(crate) keep: Option<Keep>,
    pub(crate) paused: bool,
    pub(crate) jitter: Option<Duration>,
    pub(crate) deadline: Duration,
    pub(crate) pods: Pods,
    pub(crate) dry_run: bool,
}

/// Where the pods get their credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// From this file.
    File(PathBuf),
    /// From the text of a credentials file that the environment amounts to.
    Text(String),
    /// The environment has keys that expire.
    Passing,
    /// From what is there already.
    Unknown,
    /// From elsewhere.
    None,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Text(_) => "Text(hidden)",
            Self::Passing => "Passing",
            Self::Unknown => "Unknown",
            Self::None => "None",
        })
    }
}

/// What is done with a schedule that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleAction {
    Describe,
    Pause,
    Resume,
    Run,
    Delete,
}

pub(super) fn parse(
    typed: ScheduleCommand,
    global: &Global,
    environment: &Environment,
) -> Result<Command, RequestError> {
    let act = |name: String, action| -> Result<Command, RequestError> {
        Ok(Command::ActOnSchedule {
            name: self::name(&name)?,
            action,
        })
    };
    match typed {
        ScheduleCommand::Create(typed) => {
            let place = super::place_of(global.location.as_deref(), environment)?;
            new(*typed, global, place, environment).map(|new| Command::CreateSchedule(Box::new(new)))
        }
        ScheduleCommand::List => Ok(Command::ListSchedules),
        ScheduleCommand::Describe { name } => act(name, ScheduleAction::Describe),
        ScheduleCommand::Pause { name } => act(name, ScheduleAction::Pause),
        ScheduleCommand::Resume { name } => act(name, ScheduleAction::Resume),
        ScheduleCommand::Run { name } => act(name, ScheduleAction::Run),
        ScheduleCommand::Delete { name } => act(name, ScheduleAction::Delete),
    }
}

fn name(text: &str) -> Result<String, RequestError> {
    let text = text.strip_prefix("schedule/").unwrap_or(text);
    let name = BackupName::parse(text)?;
    if text.len() > NAME_MAX {
        return Err(RequestError::flag(
            "NAME",
            text,
            format!("it has more than {NAME_MAX} characters"),
        ));
    }
    Ok(name.to_string())
}

fn new(
    typed: ScheduleCreate,
    global: &Global,
    place: Place,
    environment: &Environment,
) -> Result<NewSchedule, RequestError> {
    let name = name(&typed.name)?;
    let cron = Cron::parse(&typed.schedule)
        .map_err(|error| RequestError::flag("--schedule", &typed.schedule, error.to_string()))?;
    if cron.next(environment.now).is_none() {
        return Err(RequestError::flag(
            "--schedule",
            &typed.schedule,
            "it never fires: there is no such time within five years",
        ));
    }
    let keep = retention::keep(typed.keep)?;
    let mut backup = typed.backup;
    if let Some(lock) = &backup.lock_until {
        // A time that is fixed would be over one day.
        fields::duration("--lock-until", lock)?;
    }
    // What counts decide needs no expiry: it would end the oldest ones before their time.
    if keep.is_some() && backup.ttl.is_none() {
        backup.ttl = Some("0".to_owned());
    }
    let mut words = words(&backup, global);
    words.extend(typed.volumes.words());
    words.push(format!("--velero-namespace={}", global.velero_namespace));
    let volumes = create::volumes(&typed.volumes, &typed.pods, true, global, environment)?;
    let mut parsed = create::parse_flags(backup, Some(name.clone()), global, environment)?;
    parsed.schedule = Some(name.clone());
    parsed.keep.clone_from(&keep);
    parsed.volumes = volumes;
    let duration =
        |flag, text: &str| -> Result<Duration, RequestError> { Ok(fields::duration(flag, text)?.0) };
    let deadline = duration("--deadline", &typed.deadline)?;
    if deadline < Duration::from_mins(1) {
        return Err(RequestError::flag(
            "--deadline",
            &typed.deadline,
            "give at least one minute",
        ));
    }
    Ok(NewSchedule {
        place,
        cron,
        backup: parsed,
        words,
        keep,
        paused: typed.paused,
        jitter: typed
            .jitter
            .as_deref()
            .map(|text| duration("--jitter", text))
            .transpose()?
            .filter(|jitter| !jitter.is_zero()),
        deadline,
        pods: in_cluster::pods(typed.pods, environment),
        dry_run: fields::is_dry_run(global),
        name,
    })
}

/// The command line of a run, as far as it says what is backed up.
fn words(flags: &crate::arguments::create::BackupFlags, global: &Global) -> Vec<String> {
    let mut words = flags.scope.words();
    let mut add = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    for namespace in &global.namespace {
        add("include-namespaces", namespace);
    }
    let single = [
        ("selector", &global.selector),
        ("ordered-resources", &flags.ordered_resources),
        ("ttl", &flags.ttl),
        ("lock-until", &flags.lock_until),
        ("requests-per-second", &flags.requests_per_second),
        ("upload-bandwidth", &flags.upload_bandwidth),
    ];
    for (flag, value) in single {
        if let Some(value) = value {
            add(flag, value);
        }
    }
    for (flag, values) in [("labels", &flags.labels), ("annotations", &flags.annotations)] {
        for value in values {
            add(flag, value);
        }
    }
    words
}
