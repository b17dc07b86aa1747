//! From what was typed to what is meant.
//!
//! In come [`Arguments`] and the [`Environment`]; out goes a [`Request`] with parsed names, selectors, durations and
//! locations. Later code may rely on: nothing fails because of spelling any more, except for words that only a cluster or
//! a backup can know (kinds, objects, names of BackupStorageLocations). No server is asked here; the one file read is the
//! user's list of locations.

mod cluster;
mod create;
mod diff;
mod documents;
mod fields;
mod in_cluster;
mod lifecycle;
mod object;
mod place;
mod restore;
mod retention;
mod schedule;
mod scope;
mod taken;
mod volumes;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use backup_engine::{api::ConnectOptions, location::LocationError};
use backup_plan::{
    scope::ScopeError,
    selector::{Selector, SelectorError},
};
use thiserror::Error;
use velero_model::{
    duration::DurationError,
    name::{BackupName, NameError},
};

pub(crate) use self::{
    cluster::{ClusterRequest, ClusterWord, RecoverFrom, Recovery},
    create::Create,
    diff::Diff,
    documents::DocumentSource,
    in_cluster::{InCluster, Movers, Pods},
    lifecycle::{Enable, WantedVelero},
    object::ObjectWord,
    place::{Place, of as place_of},
    restore::{Restore, RestoreSource},
    retention::{Clusters, Decide, Retention, Wanted},
    schedule::{Credentials, NewSchedule, ScheduleAction},
    scope::describe as describe_scope,
    volumes::{ExplainVolumes, PolicyWork, PolicyWorkKind},
};
use crate::arguments::{
    self, Arguments,
    completion::Shell,
    environment::Environment,
    global::{EngineWord, Global, OutputFormat},
    lifecycle::StorageWord,
    list::SortBy,
    location::LocationCommand,
    metrics::MetricsCommand,
    mover::MoverCommand,
    restores::RestoresCommand,
    schedule::ScheduleCommand,
    volumes::VolumesCommand,
};

/// One command, as meant.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) common: Common,
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) connect: ConnectOptions,
    pub(crate) output: OutputFormat,
    pub(crate) yes: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) engine: EngineWord,
    pub(crate) wait: bool,
    pub(crate) velero_namespace: String,
    pub(crate) show_secrets: bool,
    pub(crate) verbosity: u8,
    pub(crate) locations_file: Option<PathBuf>,
    pub(crate) records_folder: Option<PathBuf>,
}

/// How much of the data of volumes is read back.
#[derive(Debug, Clone)]
pub(crate) struct ReadData {
    /// Of a hundred bytes.
    pub(crate) percent: f64,
    pub(crate) password_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Create(Box<Create>),
    List {
        place: Place,
        names: Vec<BackupName>,
        sort_by: SortBy,
        selector: Selector,
    },
    Describe {
        place: Place,
        names: Vec<BackupName>,
        details: bool,
    },
    Contents {
        place: Place,
        name: BackupName,
        only: Contents,
    },
    Cat {
        place: Place,
        name: BackupName,
        object: ObjectWord,
    },
    Diff(Box<Diff>),
    Find {
        place: Place,
        object: ObjectWord,
    },
    Logs {
        place: Place,
        name: BackupName,
    },
    Verify {
        place: Place,
        names: Vec<BackupName>,
        read: Option<ReadData>,
    },
    Download {
        place: Place,
        name: BackupName,
        /// A file, or a folder to make one in.
        file: PathBuf,
    },
    Import {
        place: Place,
        file: PathBuf,
    },
    Copy {
        place: Place,
        names: Vec<BackupName>,
        to: Place,
    },
    Delete {
        place: Place,
        names: Vec<BackupName>,
        force: bool,
        leave_volume_data: bool,
        dry_run: bool,
    },
    CreateSchedule(Box<NewSchedule>),
    ListSchedules,
    ActOnSchedule {
        name: String,
        action: ScheduleAction,
    },
    Decide(Box<Decide>),
    PlanRetention(Box<Retention>),
    ApplyRetention {
        retention: Box<Retention>,
        leave_volume_data: bool,
    },
    Restore(Box<Restore>),
    ListRestores {
        place: Place,
    },
    DescribeRestore {
        place: Place,
        name: BackupName,
    },
    RestoreLogs {
        place: Place,
        name: BackupName,
    },
    DeleteRestores {
        place: Place,
        names: Vec<BackupName>,
    },
    ExplainVolumes(Box<ExplainVolumes>),
    ListPolicies,
    Policy(Box<PolicyWork>),
    AddLocation {
        name: String,
        place: Place,
        default: bool,
    },
    ListLocations,
    CheckLocation {
        place: Place,
        repair: bool,
    },
    MaintainLocation {
        place: Place,
        password_file: Option<PathBuf>,
        dry_run: bool,
    },
    DefaultLocation {
        name: Option<String>,
    },
    RemoveLocation {
        name: String,
    },
    Cluster(Box<ClusterRequest>),
    Mover(MoverCommand),
    ServeMetrics {
        bind: SocketAddr,
        interval: Duration,
    },
    Enable(Box<Enable>),
    Upgrade {
        image: Option<String>,
    },
    Disable {
        storage: Option<StorageWord>,
    },
    Status,
    Doctor {
        file: Option<PathBuf>,
    },
    Version {
        client: bool,
    },
    Completion(Shell),
}

/// Which objects of a backup to show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    /// Count by kind instead of listing.
    pub(crate) kinds: bool,
}

/// Why a command line means nothing.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{flag}: {source}")]
    Duration {
        flag: &'static str,
        source: DurationError,
    },
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Location(#[from] LocationError),
    #[error("{flag} {text:?}: {problem}")]
    Flag {
        flag: &'static str,
        text: String,
        problem: String,
    },
    #[error("`{command}` takes no {flag}; leave it out")]
    NotTaken {
        command: &'static str,
        flag: &'static str,
    },
    #[error("`{command}` cannot print {format}; use -o {instead}")]
    Output {
        command: &'static str,
        format: String,
        instead: &'static str,
    },
    #[error("`{command}` works on the location itself whatever the engine; leave --engine velero out")]
    OtherEngine { command: &'static str },
}

/// How many names are tried in place of a made-up one that is taken.
pub(crate) const ATTEMPTS: u32 = 9;

/// The name with a number: `backup-20261122010203-2`.
pub(crate) fn numbered(name: &BackupName, attempt: u32) -> Result<BackupName, RequestError> {
    Ok(BackupName::parse(&format!("{name}-{attempt}"))?)
}

impl RequestError {
    pub(crate) fn flag(flag: &'static str, text: &str, problem: impl Into<String>) -> Self {
        Self::Flag {
            flag,
            text: text.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Request {
    /// Gives a command line its meaning.
    pub(crate) fn parse(arguments: Arguments, environment: &Environment) -> Result<Self, RequestError> {
        let Arguments { global, command } = arguments;
        taken::by(&command).check(&global)?;
        let mut common = common(&global, environment)?;
        let command = meaning(command, &global, &mut common, environment)?;
        Ok(Self { common, command })
    }
}

fn common(global: &Global, environment: &Environment) -> Result<Common, RequestError> {
    Ok(Common {
        connect: ConnectOptions {
            kubeconfig: global.kubeconfig.clone(),
            context: global.context.clone(),
            cluster: global.cluster.clone(),
            user: global.user.clone(),
            impersonate: global.impersonate.clone(),
            impersonate_groups: global.impersonate_groups.clone(),
            request_timeout: fields::wait("--request-timeout", global.request_timeout.as_deref())?,
            requests_per_second: None,
        },
        output: global.output.unwrap_or(OutputFormat::Table),
        yes: global.yes,
        timeout: fields::wait("--timeout", global.timeout.as_deref())?,
        engine: global.engine.unwrap_or_default(),
        wait: global.wait.unwrap_or(true),
        velero_namespace: global.velero_namespace.clone(),
        show_secrets: global.show_secrets,
        verbosity: global.verbose,
        locations_file: environment.locations_file.clone(),
        records_folder: environment.records_folder.clone(),
    })
}

fn meaning(
    command: arguments::Command,
    global: &Global,
    common: &mut Common,
    environment: &Environment,
) -> Result<Command, RequestError> {
    use arguments::Command as Typed;
    let place = || place::of(global.location.as_deref(), environment);
    Ok(match command {
        Typed::Create(create) => {
            common.connect.requests_per_second = create::requests_per_second(&create.backup)?;
            // A preview stores nothing, so it needs no location.
            let place = if fields::is_dry_run(global) {
                None
            } else {
                Some(place()?)
            };
            Command::Create(Box::new(create::parse(*create, global, place, environment)?))
        }
        Typed::List(list) => Command::List {
            place: place()?,
            names: fields::names(&list.names)?,
            sort_by: list.sort_by,
            selector: fields::selector(global)?,
        },
        Typed::Describe(describe) => Command::Describe {
            place: place()?,
            names: fields::names(&describe.names)?,
            details: describe.details,
        },
        Typed::Contents(contents) => contents_meaning(&contents, global, place()?)?,
        Typed::Cat(cat) => Command::Cat {
            place: place()?,
            name: fields::name(&cat.name)?,
            object: ObjectWord::parse(&cat.object, fields::one_namespace(global)?)?,
        },
        Typed::Diff(diff) => Command::Diff(Box::new(diff::parse(*diff, global, place()?, environment)?)),
        Typed::Find(find) => Command::Find {
            place: place()?,
            object: ObjectWord::parse(&find.object, fields::one_namespace(global)?)?,
        },
        Typed::Logs(logs) => Command::Logs {
            place: place()?,
            name: fields::name(&logs.name)?,
        },
        Typed::Verify(verify) => Command::Verify {
            place: place()?,
            names: fields::names(&verify.names)?,
            read: match verify.read_data.as_deref() {
                Some(text) => Some(ReadData {
                    percent: fields::percent("--read-data", text)?,
                    password_file: in_cluster::password_file(&verify.password, environment),
                }),
                None => None,
            },
        },
        Typed::Download(download) => Command::Download {
            place: place()?,
            name: fields::name(&download.name)?,
            file: environment.working_folder.join(download.file.unwrap_or_default()),
        },
        Typed::Import(import) => Command::Import {
            place: place()?,
            file: environment.working_folder.join(import.file),
        },
        Typed::Copy(copy) => Command::Copy {
            place: place()?,
            names: fields::names(&copy.names)?,
            to: place::of(Some(&copy.to), environment)?,
        },
        Typed::Delete(delete) => Command::Delete {
            place: place()?,
            names: fields::names(&delete.names)?,
            force: delete.force,
            leave_volume_data: delete.leave_volume_data,
            dry_run: fields::is_dry_run(global),
        },
        Typed::Schedule(typed) => {
            if let ScheduleCommand::Create(create) = &typed.command {
                common.connect.requests_per_second = create::requests_per_second(&create.backup)?;
            }
            schedule::parse(typed.command, global, environment)?
        }
        Typed::Hold(hold) => retention::hold(&hold, place()?, environment)?,
        Typed::Release(release) => retention::release(&release, place()?, environment)?,
        Typed::Retention(typed) => {
            retention::retention(typed.command, place()?, environment, fields::is_dry_run(global))?
        }
        Typed::Restore(restore) => {
            Command::Restore(Box::new(restore::parse(*restore, global, place()?, environment)?))
        }
        Typed::Restores(restores) => match restores.command {
            RestoresCommand::List => Command::ListRestores { place: place()? },
            RestoresCommand::Describe { name } => Command::DescribeRestore {
                place: place()?,
                name: fields::restore_name(&name)?,
            },
            RestoresCommand::Logs { name } => Command::RestoreLogs {
                place: place()?,
                name: fields::restore_name(&name)?,
            },
            RestoresCommand::Delete { names } => Command::DeleteRestores {
                place: place()?,
                names: names
                    .iter()
                    .map(|name| fields::restore_name(name))
                    .collect::<Result<_, _>>()?,
            },
        },
        Typed::Volumes(typed) => match typed.command {
            VolumesCommand::Explain { pod } => {
                Command::ExplainVolumes(Box::new(volumes::explain(pod.as_deref(), global, environment)?))
            }
        },
        Typed::Policy(policy) => volumes::of_policy(&policy.command, global)?,
        Typed::Location(location) => location_meaning(location.command, global, environment)?,
        Typed::Cluster(typed) => {
            Command::Cluster(Box::new(cluster::parse(typed.command, global, environment)?))
        }
        Typed::Mover(typed) => Command::Mover(typed.command),
        Typed::Metrics(typed) => {
            let MetricsCommand::Serve { bind, interval } = typed.command;
            let parsed = fields::duration("--interval", &interval)?.0;
            if parsed < Duration::from_secs(1) {
                return Err(RequestError::flag(
                    "--interval",
                    &interval,
                    "give at least one second",
                ));
            }
            Command::ServeMetrics {
                bind,
                interval: parsed,
            }
        }
        Typed::Enable(typed) => {
            Command::Enable(Box::new(lifecycle::enable(typed, place(), global, environment)?))
        }
        Typed::Upgrade(typed) => Command::Upgrade { image: typed.image },
        Typed::Disable(typed) => Command::Disable {
            storage: typed.backup_storage,
        },
        Typed::Status(_) => Command::Status,
        Typed::Doctor(doctor) => Command::Doctor {
            file: doctor.file.map(|file| environment.working_folder.join(file)),
        },
        Typed::Version(version) => Command::Version {
            client: version.client,
        },
        Typed::Completion(completion) => Command::Completion(completion.shell),
    })
}

fn contents_meaning(
    contents: &arguments::contents::Contents,
    global: &Global,
    place: Place,
) -> Result<Command, RequestError> {
    let (kind, name) = object::kind_and_name(contents.object.as_deref())?;
    Ok(Command::Contents {
        place,
        name: fields::name(&contents.name)?,
        only: Contents {
            kind,
            name,
            namespace: fields::one_namespace(global)?,
            selector: fields::selector(global)?,
            kinds: contents.kinds,
        },
    })
}

fn location_meaning(
    command: LocationCommand,
    global: &Global,
    environment: &Environment,
) -> Result<Command, RequestError> {
    Ok(match command {
        LocationCommand::Add { name, url, default } => Command::AddLocation {
            place: place::of_url(&name, &url)?,
            name,
            default,
        },
        LocationCommand::List => Command::ListLocations,
        LocationCommand::Check { location, repair } => Command::CheckLocation {
            place: place::of(location.as_deref().or(global.location.as_deref()), environment)?,
            repair,
        },
        LocationCommand::Maintain { location, password } => Command::MaintainLocation {
            place: place::of(location.as_deref().or(global.location.as_deref()), environment)?,
            password_file: in_cluster::password_file(&password, environment),
            dry_run: fields::is_dry_run(global),
        },
        LocationCommand::Default { name } => Command::DefaultLocation { name },
        LocationCommand::Remove { name } => Command::RemoveLocation { name },
    })
}

#[cfg(test)]
mod tests;
