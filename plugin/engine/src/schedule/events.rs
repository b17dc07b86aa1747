//! What Kubernetes says about a schedule: Events of its CronJob, its Jobs and their pods.
//!
//! In comes the name of a schedule and the names of its runs; out go the newest Events, the newest first. They are kept for an
//! hour or so by the server, so none is no proof of anything.

use jiff::Timestamp;
use serde_json::Value;

use super::{NAMESPACE, Schedules, kind};
use crate::api::ApiError;

/// How many are given.
const NEWEST: usize = 10;

/// One Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was last seen.
    pub at: Option<Timestamp>,
    /// Whether it is a warning.
    pub is_warning: bool,
    /// Kubernetes' word.
    pub reason: String,
    /// `Job/nightly-29`.
    pub about: String,
    /// In words.
    pub message: String,
}

impl Schedules<'_> {
    /// The newest Events about a schedule and what it has made.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn events(&self, schedule: &str, runs: &[&str]) -> Result<Vec<Event>, ApiError> {
        let events = kind("", "events", "Event", true);
        let found = self.api.objects(events, Some(NAMESPACE), "").await?;
        Ok(newest(&found, schedule, runs))
    }
}

fn newest(found: &[Value], schedule: &str, runs: &[&str]) -> Vec<Event> {
    let is_of = |object: &Value| {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let name = text("name");
        match text("kind") {
            "CronJob" => name == schedule,
            "Job" => runs.contains(&name) || of_run(name, schedule),
            // A pod is called like its Job, with five letters more.
            "Pod" => name
                .rsplit_once('-')
                .is_some_and(|(job, _)| runs.contains(&job) || of_run(job, schedule)),
            _ => false,
        }
    };
    let mut events: Vec<Event> = found
        .iter()
        .filter(|event| is_of(&event["involvedObject"]))
        .map(event)
        .collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    events.truncate(NEWEST);
    events
}

/// The controller of CronJobs names a Job after its CronJob, with the minute of its time.
fn of_run(job: &str, schedule: &str) -> bool {
    job.rsplit_once('-').is_some_and(|(name, minute)| {
        name == schedule && !minute.is_empty() && minute.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn event(object: &Value) -> Event {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let times = [
        "/lastTimestamp",
        "/series/lastObservedTime",
        "/eventTime",
        "/metadata/creationTimestamp",
    ];
    Event {
        at: times.iter().find_map(|pointer| text(pointer).parse().ok()),
        is_warning: text("/type") == "Warning",
        reason: text("/reason").to_owned(),
        about: format!(
            "{}/{}",
            text("/involvedObject/kind"),
            text("/involvedObject/name")
        ),
        message: text("/message").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_the_schedule_and_of_nothing_else_the_newest_first() {
        let event = |kind: &str, name: &str, minute: u32| {
            json!({
                "involvedObject": { "kind": kind, "name": name }, "type": "Warning", "reason": "BackOff", "message": "m",
                "lastTimestamp": format!("2026-11-25T01:{minute:02}:00Z"),
            })
        };
        let found = [
            event("CronJob", "nightly", 1),
            event("Job", "nightly-29401500", 3),
            event("Job", "nightly-two-29401500", 4),
            event("Pod", "nightly-29401500-abcde", 2),
            event("Job", "by-hand", 5),
            event("Pod", "nightly-two-29401500-abcde", 6),
            event("CronJob", "other", 7),
        ];
        let shown = newest(&found, "nightly", &["by-hand"]);
        let about: Vec<&str> = shown.iter().map(|event| event.about.as_str()).collect();
        assert_eq!(
            about,
            [
                "Job/by-hand",
                "Job/nightly-29401500",
                "Pod/nightly-29401500-abcde",
                "CronJob/nightly"
            ]
        );
        assert_eq!(newest(&found, "none", &[]), []);
    }
}
