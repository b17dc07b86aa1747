//! Decisions about a backup that are made after it was written: hold, release, another expiry.
//!
//! Each is a file of its own beside the backup, never overwritten and outside the digests; of several about the same
//! matter the newest wins. [`effective`] folds them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Version of the document, 1.
    pub version: u32,
    /// Random id, also in the key.
    pub id: String,
    /// When it was made.
    #[serde(with = "time::seconds")]
    pub time: Timestamp,
    /// Who made it, as the tool knows the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "camelCase")]
pub enum Decision {
    /// No policy may remove the backup.
    Hold {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The hold is over.
    Release,
    /// The backup expires at another time, or never.
    Expire {
        /// `None`: never.
        #[serde(default, with = "time::optional_seconds")]
        expiration: Option<Timestamp>,
    },
}

/// What all notes of a backup amount to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// Whether a hold is in force, and its reason.
    pub hold: Option<Option<String>>,
    /// The new expiry, if one was decided.
    pub expiration: Option<Option<Timestamp>>,
}

/// Folds notes in any order: per matter the newest wins, the id decides between equal times.
pub fn effective(notes: &[Note]) -> Effective {
    let mut ordered: Vec<&Note> = notes.iter().collect();
    ordered.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    ordered
        .into_iter()
        .fold(Effective::default(), |mut result, note| {
            match &note.decision {
                Decision::Hold { reason } => result.hold = Some(reason.clone()),
                Decision::Release => result.hold = None,
                Decision::Expire { expiration } => result.expiration = Some(*expiration),
            }
            result
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(second: i64, decision: Decision) -> Note {
        Note {
            version: 1,
            id: second.to_string(),
            time: Timestamp::from_second(second).unwrap(),
            author: None,
            decision,
        }
    }

    #[test]
    fn the_newest_decision_wins_whatever_the_order() {
        let notes = [
            note(3, Decision::Release),
            note(
                1,
                Decision::Hold {
                    reason: Some("audit".into()),
                },
            ),
            note(2, Decision::Expire { expiration: None }),
        ];
        assert_eq!(
            effective(&notes),
            Effective {
                hold: None,
                expiration: Some(None)
            }
        );
        assert_eq!(effective(&notes[1..]).hold, Some(Some("audit".into())));
    }

    #[test]
    fn the_form_is_fixed() {
        let json = serde_json::to_string(&note(1, Decision::Hold { reason: None })).unwrap();
        assert_eq!(
            json,
            r#"{"version":1,"id":"1","time":"1970-01-01T00:00:01Z","decision":"hold"}"#
        );
        assert_eq!(
            serde_json::from_str::<Note>(&json).unwrap(),
            note(1, Decision::Hold { reason: None })
        );
    }
}
