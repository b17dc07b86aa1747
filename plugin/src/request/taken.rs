//! Which of the flags that every command has mean something to which command.
//!
//! In comes the command as typed, out goes a refusal by name of the first flag that would be ignored.

use super::RequestError;
use crate::arguments::{
    self,
    cluster::ClusterCommand,
    global::{DryRun, EngineWord, Global, OutputFormat},
    location::LocationCommand,
    policy::PolicyCommand,
    restores::RestoresCommand,
    retention::RetentionCommand,
    schedule::ScheduleCommand,
};

/// What a command makes of the flags that all commands have. A flag that would be ignored is refused: somebody who gives
/// it expects something of it.
pub(super) struct Taken {
    command: &'static str,
    namespace: bool,
    selector: bool,
    /// Whether `--dry-run` has a meaning, if only because nothing is changed anyway.
    dry_run: bool,
    /// Whether Velero may do it, or help with it.
    velero: bool,
    /// Whether it is work that may go on without us.
    wait: bool,
    outputs: &'static [OutputFormat],
}

const EVERY: &[OutputFormat] = &[
    OutputFormat::Table,
    OutputFormat::Wide,
    OutputFormat::Json,
    OutputFormat::Yaml,
    OutputFormat::Name,
];
const OBJECT: &[OutputFormat] = &[OutputFormat::Yaml, OutputFormat::Json];
const TEXT: &[OutputFormat] = &[OutputFormat::Table];
const ROWS: &[OutputFormat] = &[
    OutputFormat::Table,
    OutputFormat::Wide,
    OutputFormat::Json,
    OutputFormat::Yaml,
];
const CEL: &[OutputFormat] = &[OutputFormat::Table, OutputFormat::Yaml];
const DOCUMENT: &[OutputFormat] = &[OutputFormat::Table, OutputFormat::Json, OutputFormat::Yaml];

/// What a command takes.
pub(super) fn by(command: &arguments::Command) -> Taken {
    use arguments::Command as Typed;
    let of = |command, namespace, selector, dry_run, outputs| Taken {
        command,
        namespace,
        selector,
        dry_run,
        velero: matches!(
            command,
            "create"
                | "restore"
                | "delete"
                | "list"
                | "describe"
                | "contents"
                | "diff"
                | "logs"
                | "restores describe"
                | "restores logs"
                | "hold"
                | "schedule create"
                | "schedule list"
                | "schedule"
                | "schedule run"
                | "release"
                | "retention apply"
                | "retention set"
                | "volumes explain"
                | "enable"
        ),
        wait: matches!(
            command,
            "create"
                | "restore"
                | "delete"
                | "enable"
                | "upgrade"
                | "schedule run"
                | "cluster retain"
                | "cluster delete-storage"
        ),
        outputs,
    };
    match command {
        Typed::Create(_) => of("create", true, true, true, EVERY),
        Typed::List(_) => of("list", false, true, true, EVERY),
        Typed::Describe(_) => of("describe", false, false, true, DOCUMENT),
        Typed::Contents(_) => of("contents", true, true, true, EVERY),
        Typed::Cat(_) => of("cat", true, false, true, OBJECT),
        Typed::Diff(_) => of("diff", true, true, true, EVERY),
        Typed::Find(_) => of("find", true, false, true, EVERY),
        Typed::Logs(_) => of("logs", false, false, true, TEXT),
        Typed::Verify(_) => of("verify", false, false, true, DOCUMENT),
        Typed::Download(_) => of("download", false, false, false, DOCUMENT),
        Typed::Import(_) => of("import", false, false, false, EVERY),
        Typed::Copy(_) => of("copy", false, false, false, EVERY),
        Typed::Delete(_) => of("delete", false, false, true, EVERY),
        Typed::Schedule(schedule) => match schedule.command {
            ScheduleCommand::Create(_) => of("schedule create", true, true, true, EVERY),
            ScheduleCommand::List => of("schedule list", false, false, true, EVERY),
            ScheduleCommand::Describe { .. } => of("schedule", false, false, true, DOCUMENT),
            ScheduleCommand::Run { .. } => of("schedule run", false, false, false, EVERY),
            _ => of("schedule", false, false, false, EVERY),
        },
        Typed::Hold(_) => of("hold", false, false, false, EVERY),
        Typed::Release(_) => of("release", false, false, false, EVERY),
        Typed::Retention(retention) => match retention.command {
            RetentionCommand::Plan(_) => of("retention plan", false, false, true, EVERY),
            RetentionCommand::Apply { .. } => of("retention apply", false, false, true, EVERY),
            RetentionCommand::Set { .. } => of("retention set", false, false, false, EVERY),
        },
        Typed::Restore(_) => of("restore", true, true, true, EVERY),
        Typed::Restores(restores) => match restores.command {
            RestoresCommand::List => of("restores list", false, false, true, EVERY),
            RestoresCommand::Describe { .. } => of("restores describe", false, false, true, DOCUMENT),
            RestoresCommand::Logs { .. } => of("restores logs", false, false, true, TEXT),
            RestoresCommand::Delete { .. } => of("restores delete", false, false, false, TEXT),
        },
        Typed::Volumes(_) => of("volumes explain", true, false, true, ROWS),
        Typed::Policy(policy) => match policy.command {
            PolicyCommand::List => of("policy list", false, false, true, EVERY),
            PolicyCommand::Explain { as_cel: true, .. } => {
                of("policy explain --as-cel", true, false, true, CEL)
            }
            PolicyCommand::Explain { .. } => of("policy explain", true, false, true, EVERY),
            PolicyCommand::Apply { .. } => of("policy apply", true, false, true, EVERY),
        },
        Typed::Location(location) => match location.command {
            LocationCommand::List => of("location list", false, false, true, EVERY),
            LocationCommand::Maintain { .. } => of("location maintain", false, false, true, DOCUMENT),
            LocationCommand::Check { .. } => of("location check", false, false, false, DOCUMENT),
            _ => of("location", false, false, false, TEXT),
        },
        Typed::Cluster(cluster) => match cluster.command {
            ClusterCommand::Protect { .. } => of("cluster protect", true, false, false, EVERY),
            ClusterCommand::Status { .. } => of("cluster status", true, false, true, EVERY),
            ClusterCommand::Retain { .. } => of("cluster retain", true, false, false, EVERY),
            ClusterCommand::DeleteStorage { .. } => of("cluster delete-storage", true, false, false, EVERY),
            ClusterCommand::Recover { .. } => of("cluster recover", false, false, false, TEXT),
            ClusterCommand::CarryOut { .. } => of("cluster carry-out", false, false, false, TEXT),
            ClusterCommand::Unprotect { .. } => of("cluster unprotect", true, false, false, EVERY),
        },
        Typed::Mover(_) => of("mover", false, false, false, TEXT),
        Typed::Enable(_) => of("enable", false, false, true, EVERY),
        Typed::Upgrade(_) => of("upgrade", false, false, false, EVERY),
        Typed::Disable(_) => of("disable", false, false, false, EVERY),
        Typed::Status(_) => of("status", false, false, true, DOCUMENT),
        Typed::Doctor(_) => of("doctor", false, false, false, DOCUMENT),
        Typed::Metrics(_) => of("metrics serve", false, false, false, TEXT),
        Typed::Version(_) => of("version", false, false, true, DOCUMENT),
        Typed::Completion(_) => of("completion", false, false, true, TEXT),
    }
}

impl Taken {
    /// Refuses what the command does not take.
    pub(super) fn check(&self, global: &Global) -> Result<(), RequestError> {
        let not_taken = |flag| {
            Err(RequestError::NotTaken {
                command: self.command,
                flag,
            })
        };
        if !self.namespace && !global.namespace.is_empty() {
            return not_taken("--namespace");
        }
        if !self.selector && global.selector.is_some() {
            return not_taken("--selector");
        }
        if !self.dry_run && matches!(global.dry_run, Some(DryRun::Client | DryRun::Server)) {
            return not_taken("--dry-run");
        }
        if !self.velero && global.engine == Some(EngineWord::Velero) {
            return Err(RequestError::OtherEngine {
                command: self.command,
            });
        }
        if !self.wait && global.wait == Some(false) {
            return not_taken("--wait=false");
        }
        match global.output {
            Some(format) if !self.outputs.contains(&format) => Err(RequestError::Output {
                command: self.command,
                format: format!("{format:?}").to_lowercase(),
                instead: if self.outputs.contains(&OutputFormat::Json) {
                    "json or yaml"
                } else {
                    "table"
                },
            }),
            _ => Ok(()),
        }
    }
}
