//! The claim of a run on a backup's name: the first key that a run puts, and the last that it removes.
//!
//! Two runs under one name would mix their files; the claim is put only if absent, so the second run is refused. Its
//! heartbeat is renewed while the run lives; a claim whose heartbeat is older than [`STALE_AFTER_SECONDS`] may be taken
//! over once the dead run's files are cleaned. A claim that names its process may be taken over sooner by whoever runs
//! where that process would be seen, and does not see it. Restores claim their names alike.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time;

/// Seconds between two heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 15;

/// Seconds without a heartbeat after which a run counts as dead.
pub const STALE_AFTER_SECONDS: i64 = 120;

/// Who is writing a backup at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Version of the document, 1.
    pub version: u32,
    /// Id of the run.
    pub run_id: String,
    /// Host that it runs on.
    pub host: String,
    /// Version of the tool.
    pub tool_version: String,
    /// Begin of the run.
    #[serde(with = "time::seconds")]
    pub started: Timestamp,
    /// Last sign of life.
    #[serde(with = "time::seconds")]
    pub heartbeat: Timestamp,
    /// The process of the run, where the system can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
}

/// A process, told apart from every other one on any machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// `/proc/sys/kernel/random/boot_id`: the machine since it was started last.
    pub boot_id: String,
    /// `/proc/self/ns/pid`: where the number means something.
    pub pid_namespace: String,
    /// Its number.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: a number that is used again has another begin.
    pub started_ticks: u64,
}

impl Claim {
    /// Whether the run that put this claim counts as dead.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.as_second().saturating_sub(self.heartbeat.as_second()) > STALE_AFTER_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_run_is_dead_after_two_minutes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let claim = Claim {
            version: 1,
            run_id: "r".into(),
            host: "h".into(),
            tool_version: "0".into(),
            started: at(0),
            heartbeat: at(1000),
            process: None,
        };
        assert!(!claim.is_stale(at(1120)));
        assert!(claim.is_stale(at(1121)));
        assert!(
            !claim.is_stale(at(0)),
            "a clock that runs behind makes nobody dead"
        );
    }
}
