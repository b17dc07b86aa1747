//! Phases of a backup or restore, in Velero's words.
//!
//! Unknown phases, of a later Velero, are kept as they came. Only three phases are ever written by us: every Velero CRD
//! knows them (velero.md 11.1).

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a backup or restore.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(from = "String", into = "String")]
pub enum Phase {
    /// Everything was done without an error.
    Completed,
    /// Done, with errors that are named.
    PartiallyFailed,
    /// Not done.
    Failed,
    /// Velero or we are still at work.
    #[default]
    InProgress,
    /// Any other phase of Velero's, as written there.
    Other(String),
}

impl Phase {
    /// Velero's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Completed => "Completed",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::InProgress => "InProgress",
            Self::Other(word) if word.is_empty() => "New",
            Self::Other(word) => word,
        }
    }

    /// Whether objects can be restored from a backup in this phase.
    pub fn is_restorable(&self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed)
    }
}

impl From<String> for Phase {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Completed" => Self::Completed,
            "PartiallyFailed" => Self::PartiallyFailed,
            "Failed" => Self::Failed,
            "InProgress" => Self::InProgress,
            _ => Self::Other(word),
        }
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Other(word) => word,
            known => known.as_str().to_owned(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
