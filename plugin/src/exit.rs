//! Exit codes, and which failure ends with which.
//!
//! The codes are a contract with scripts (README and CONTRIBUTING list them):
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed, or damage was found |
//! | 2 | usage |
//! | 3 | done with errors (`PartiallyFailed`) |
//! | 4 | refused: policy, permission, confirmation |
//! | 5 | not found |
//! | 6 | timed out |
//! | 130 | interrupted |
//!
//! In comes a [`Failure`], made from any engine error by `?`; out go its [`Exit`] and its text for a person. A broken
//! pipe is no failure: whoever reads has seen enough.

use std::{error::Error, io, process::ExitCode, time::Duration};

use backup_engine::{
    api::ApiError, backup::BackupError, catalog::CatalogError, clusters::ClustersError, diff::DiffError,
    lifecycle::LifecycleError, location::LocationError, repository::RepositoryError, restore::RestoreError,
    storage::StorageError, velero::VeleroError,
};
use backup_plan::resource_names::UnknownResource;
use thiserror::Error;
use velero_model::phase::Phase;

use crate::request::RequestError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    DoneWithErrors,
    Refused,
    NotFound,
    TimedOut,
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DoneWithErrors => 3,
            Self::Refused => 4,
            Self::NotFound => 5,
            Self::TimedOut => 6,
            Self::Interrupted => 130,
        }
    }

    /// The exit of another run of this program, by its code.
    pub(crate) fn of_code(code: i64) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::DoneWithErrors,
            4 => Self::Refused,
            5 => Self::NotFound,
            6 => Self::TimedOut,
            130 => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// The exit of a backup or restore that ended in this phase.
    pub(crate) fn of_phase(phase: &Phase) -> Self {
        match phase {
            Phase::Completed => Self::Done,
            Phase::PartiallyFailed => Self::DoneWithErrors,
            Phase::Failed | Phase::InProgress | Phase::Other(_) => Self::Failed,
        }
    }

    /// The worse of two, for commands that work on several things: a script must not miss the worst of them.
    pub(crate) fn and(self, other: Self) -> Self {
        let severity = |exit: Self| match exit {
            Self::Done => 0,
            Self::DoneWithErrors => 1,
            Self::NotFound => 2,
            Self::Refused => 3,
            Self::Usage => 4,
            Self::Failed => 5,
            Self::TimedOut => 6,
            Self::Interrupted => 7,
        };
        if severity(other) > severity(self) {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Location(#[from] LocationError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Diff(#[from] DiffError),
    #[error(transparent)]
    Velero(#[from] VeleroError),
    #[error(transparent)]
    Clusters(#[from] ClustersError),
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    #[error(transparent)]
    Kind(#[from] UnknownResource),
    /// Output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A result has no text form; only a defect does that.
    #[error("cannot print the result: {0}; please report this")]
    Document(#[from] serde_json::Error),
    /// Something on this machine.
    #[error("{what}: {source}")]
    Local { what: String, source: io::Error },
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    #[error("not done within {} s; raise --timeout", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// Whether the reader of our output has gone away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit that belongs to this failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            _ if self.is_broken_pipe() => Exit::Done,
            Self::Request(error) => of_request(error),
            Self::Api(error) => of_api(error),
            Self::Storage(error) => of_storage(error),
            Self::Location(error) => of_location(error),
            Self::Backup(error) => of_backup(error),
            Self::Catalog(error) => of_catalog(error),
            Self::Repository(error) => of_repository(error),
            Self::Restore(error) => of_restore(error),
            Self::Diff(error) => of_diff(error),
            Self::Velero(error) => of_velero(error),
            Self::Clusters(error) => of_clusters(error),
            Self::Lifecycle(error) => of_lifecycle(error),
            Self::Kind(_) | Self::Usage(_) => Exit::Usage,
            Self::Output(_) | Self::Document(_) | Self::Local { .. } | Self::Damaged(_) => Exit::Failed,
            Self::Refused(_) => Exit::Refused,
            Self::NotFound(_) => Exit::NotFound,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// `error: ...`, and a line for each cause that says something new.
    pub(crate) fn text(&self) -> String {
        let mut said = vec![one_line(&self.to_string())];
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = one_line(&error.to_string());
            if !said.iter().any(|earlier| earlier.contains(&text)) {
                said.push(text);
            }
            cause = error.source();
        }
        let mut lines = said.into_iter();
        let mut text = format!("error: {}\n", lines.next().unwrap_or_default());
        for line in lines {
            text.push_str("  cause: ");
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Server messages may have several lines; an error is one.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    crate::view::plain(&lines.join("; ")).into_owned()
}

fn of_request(error: &RequestError) -> Exit {
    match error {
        RequestError::Location(error) => of_location(error),
        RequestError::Name(_)
        | RequestError::Duration { .. }
        | RequestError::Selector(_)
        | RequestError::Scope(_)
        | RequestError::Flag { .. }
        | RequestError::NotTaken { .. }
        | RequestError::OtherEngine { .. }
        | RequestError::Output { .. } => Exit::Usage,
    }
}

fn of_api(error: &ApiError) -> Exit {
    match error {
        _ if error.is_forbidden() => Exit::Refused,
        ApiError::Timeout { .. } => Exit::TimedOut,
        _ => Exit::Failed,
    }
}

fn of_storage(error: &StorageError) -> Exit {
    match error {
        StorageError::NoSuchBucket { .. } => Exit::NotFound,
        StorageError::AccessDenied { .. }
        | StorageError::WrongCredentials { .. }
        | StorageError::NoCredentials { .. }
        | StorageError::Locked { .. }
        | StorageError::ReadOnly { .. } => Exit::Refused,
        StorageError::Setting { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn of_location(error: &LocationError) -> Exit {
    match error {
        LocationError::UnknownName { .. } => Exit::NotFound,
        LocationError::Url { .. } | LocationError::Nothing => Exit::Usage,
        LocationError::File { .. }
        | LocationError::Secret { .. }
        | LocationError::BackupStorageLocation { .. } => Exit::Failed,
    }
}

fn of_backup(error: &BackupError) -> Exit {
    match error {
        BackupError::Exists { .. } | BackupError::Claimed { .. } | BackupError::NothingReadable { .. } => {
            Exit::Refused
        }
        BackupError::NoSuchNamespace { .. } | BackupError::NothingToBackUp => Exit::NotFound,
        BackupError::Scope(_) => Exit::Usage,
        BackupError::Api(error) => of_api(error),
        BackupError::Storage(error) => of_storage(error),
        BackupError::Interrupted => Exit::Interrupted,
        BackupError::ClaimLost { .. }
        | BackupError::InTheWay { .. }
        | BackupError::Spool(_)
        | BackupError::Index(_)
        | BackupError::Document(_) => Exit::Failed,
    }
}

fn of_restore(error: &RestoreError) -> Exit {
    match error {
        RestoreError::Exists { .. } | RestoreError::OtherRequest { .. } | RestoreError::Running { .. } => {
            Exit::Refused
        }
        RestoreError::NotInBackup { .. } | RestoreError::NothingToRestore { .. } => Exit::NotFound,
        RestoreError::Scope(_)
        | RestoreError::Resource(_)
        | RestoreError::Policy(_)
        | RestoreError::Mapping { .. }
        | RestoreError::NeverRestored { .. }
        | RestoreError::SeveralInBackup { .. } => Exit::Usage,
        RestoreError::Catalog(error) => of_catalog(error),
        RestoreError::Api(error) => of_api(error),
        RestoreError::Storage(error) => of_storage(error),
        RestoreError::Interrupted => Exit::Interrupted,
        RestoreError::TakenOver { .. }
        | RestoreError::Volume { .. }
        | RestoreError::Temporary(_)
        | RestoreError::Task(_) => Exit::Failed,
    }
}

fn of_repository(error: &RepositoryError) -> Exit {
    match error {
        RepositoryError::NotThere { .. } | RepositoryError::NoSnapshot { .. } => Exit::NotFound,
        RepositoryError::WrongPassword { .. } | RepositoryError::Locked { .. } => Exit::Refused,
        RepositoryError::Folder { .. } | RepositoryError::Files { .. } | RepositoryError::Format { .. } => {
            Exit::Failed
        }
    }
}

fn of_diff(error: &DiffError) -> Exit {
    match error {
        DiffError::Nothing { .. } => Exit::NotFound,
        DiffError::Scope(_) | DiffError::Resource(_) => Exit::Usage,
        DiffError::Catalog(error) => of_catalog(error),
        DiffError::Api(error) => of_api(error),
        DiffError::Spool(_) => Exit::Failed,
    }
}

fn of_catalog(error: &CatalogError) -> Exit {
    match error {
        CatalogError::NotFound { .. } => Exit::NotFound,
        CatalogError::Running { .. }
        | CatalogError::RestoreRunning { .. }
        | CatalogError::Exists { .. }
        | CatalogError::Unfinished { .. }
        | CatalogError::Held { .. }
        | CatalogError::Locked { .. }
        | CatalogError::VolumeData { .. } => Exit::Refused,
        CatalogError::Local { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Exit::Refused,
        CatalogError::Kind(_) => Exit::Usage,
        CatalogError::Storage(error) => of_storage(error),
        CatalogError::Local { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
        CatalogError::Interrupted => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn of_lifecycle(error: &LifecycleError) -> Exit {
    match error {
        LifecycleError::Api(error) => of_api(error),
        LifecycleError::Late { .. } => Exit::TimedOut,
        LifecycleError::Manifest { .. } => Exit::Failed,
    }
}

fn of_velero(error: &VeleroError) -> Exit {
    match error {
        VeleroError::NoLocation { .. }
        | VeleroError::Unsupported { .. }
        | VeleroError::Location { .. }
        | VeleroError::Exists { .. }
        | VeleroError::ExistsInStorage { .. }
        | VeleroError::OtherLocation { .. }
        | VeleroError::NotRestorable { .. }
        | VeleroError::UnderWay { .. }
        | VeleroError::Held { .. } => Exit::Refused,
        VeleroError::NoSuchBackup { .. }
        | VeleroError::NoBackupOfSchedule { .. }
        | VeleroError::NoConfigMap { .. }
        | VeleroError::NoSuchNamespace { .. } => Exit::NotFound,
        VeleroError::NotSynced { .. } => Exit::TimedOut,
        VeleroError::Scope(_) | VeleroError::Resource(_) => Exit::Usage,
        VeleroError::Api(error) => of_api(error),
        VeleroError::Catalog(error) => of_catalog(error),
        VeleroError::Storage(error) => of_storage(error),
        VeleroError::Interrupted => Exit::Interrupted,
        VeleroError::Vanished { .. }
        | VeleroError::DeleteFailed { .. }
        | VeleroError::Lost { .. }
        | VeleroError::Download { .. }
        | VeleroError::Object { .. }
        | VeleroError::Temporary(_) => Exit::Failed,
    }
}

fn of_clusters(error: &ClustersError) -> Exit {
    match error {
        ClustersError::Elsewhere { .. } | ClustersError::Dying { .. } | ClustersError::Refused { .. } => {
            Exit::Refused
        }
        ClustersError::NotInstalled | ClustersError::Gone { .. } => Exit::NotFound,
        ClustersError::Busy { .. } => Exit::Failed,
        ClustersError::Api(error) => of_api(error),
        ClustersError::Catalog(error) => of_catalog(error),
    }
}

#[cfg(test)]
mod tests {
    use backup_engine::storage::At;
    use velero_model::name::BackupName;

    use super::*;

    fn at() -> At {
        At::new("write", "backups/a/a.tar.gz", "s3://b")
    }

    fn status(code: u16) -> ApiError {
        ApiError::Status {
            what: "GET /api".into(),
            code,
            reason: String::new(),
            message: "no".into(),
            continue_token: None,
        }
    }

    #[test]
    fn every_code_of_the_contract() {
        let table = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::DoneWithErrors, 3),
            (Exit::Refused, 4),
            (Exit::NotFound, 5),
            (Exit::TimedOut, 6),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn failures_end_with_the_exit_that_scripts_expect() {
        let name = || BackupName::parse("a").unwrap();
        let unknown = LocationError::UnknownName {
            name: "x".into(),
            known: String::new(),
        };
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let missing = CatalogError::NotFound {
            name: name(),
            location: "s3://b".into(),
            leftovers: false,
        };
        let exists = BackupError::Exists {
            name: name(),
            location: "s3://b".into(),
        };
        let under_way = VeleroError::UnderWay {
            what: "Backup velero/a".into(),
            phase: "InProgress".into(),
        };
        let table: [(Failure, Exit); 18] = [
            (RequestError::Location(LocationError::Nothing).into(), Exit::Usage),
            (RequestError::Location(unknown).into(), Exit::NotFound),
            (status(403).into(), Exit::Refused),
            (status(401).into(), Exit::Refused),
            (status(500).into(), Exit::Failed),
            (StorageError::NoSuchBucket { at: at() }.into(), Exit::NotFound),
            (StorageError::ReadOnly { at: at() }.into(), Exit::Refused),
            (
                StorageError::Full {
                    at: at(),
                    detail: String::new(),
                }
                .into(),
                Exit::Failed,
            ),
            (missing.into(), Exit::NotFound),
            (exists.into(), Exit::Refused),
            (
                CatalogError::Storage(StorageError::NoSuchBucket { at: at() }).into(),
                Exit::NotFound,
            ),
            (under_way.into(), Exit::Refused),
            (VeleroError::Api(status(403)).into(), Exit::Refused),
            (VeleroError::Interrupted.into(), Exit::Interrupted),
            (BackupError::Interrupted.into(), Exit::Interrupted),
            (RestoreError::Interrupted.into(), Exit::Interrupted),
            (gone.into(), Exit::Done),
            (full.into(), Exit::Failed),
        ];
        for (failure, exit) in table {
            assert_eq!(failure.exit(), exit, "{failure}");
        }
    }

    #[test]
    fn phases_decide_the_exit_of_a_run() {
        assert_eq!(Exit::of_phase(&Phase::Completed), Exit::Done);
        assert_eq!(Exit::of_phase(&Phase::PartiallyFailed), Exit::DoneWithErrors);
        assert_eq!(Exit::of_phase(&Phase::Failed), Exit::Failed);
        assert_eq!(Exit::of_phase(&Phase::Other("Deleting".into())), Exit::Failed);
    }

    #[test]
    fn the_worst_of_several_wins() {
        assert_eq!(Exit::Done.and(Exit::NotFound), Exit::NotFound);
        assert_eq!(Exit::Failed.and(Exit::NotFound), Exit::Failed);
        assert_eq!(Exit::Done.and(Exit::Done), Exit::Done);
    }

    #[test]
    fn an_error_is_one_line_and_each_cause_says_something_new() {
        let failure = Failure::Api(ApiError::Unreachable {
            what: "GET /api".into(),
            server: "https://a".into(),
            source: Box::new(io::Error::other("connection\nrefused\x1b[2J")),
        });
        let text = failure.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("error: GET /api: the API server https://a cannot be reached; check"));
        assert_eq!(lines[1], "  cause: connection; refused [2J");
    }
}
