//! How a schedule is doing, from its CronJob and the Jobs of it.
//!
//! Pure. In come both as JSON; out goes a [`State`]. Whether a run was missed is judged by the expression and the time, since
//! a controller that does not run leaves no word of it.

use backup_plan::cron::Cron;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{EXPRESSION, LOCATION_LABEL};

/// A schedule as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The expression as it was typed.
    pub expression: String,
    /// Its location.
    pub location: String,
    /// Whether it is suspended.
    pub is_paused: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When the controller last started a run.
    pub last: Option<Timestamp>,
    /// When a run last ended well.
    pub last_good: Option<Timestamp>,
    /// Runs that are known, the newest first.
    pub runs: Vec<Run>,
}

/// One Job of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Name of the Job.
    pub name: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How: `Running`, `Complete`, `Failed`.
    pub status: &'static str,
    /// Why it failed.
    pub message: String,
}

/// A schedule in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// It has not run yet.
    New,
    /// It is suspended.
    Paused,
    /// A run is at work.
    Running,
    /// The last run failed.
    Failing,
    /// A run did not begin.
    Missed,
    /// Its expression cannot be read.
    Invalid,
}

impl Status {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::New => "New",
            Self::Paused => "Paused",
            Self::Running => "Running",
            Self::Failing => "Failing",
            Self::Missed => "Missed",
            Self::Invalid => "Invalid",
        }
    }
}

/// How long after its time a run may begin before it counts as missed: controllers and kubelets take their time.
const LATE: SignedDuration = SignedDuration::from_mins(3);

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

impl State {
    pub(super) fn of(cron_job: &Value, jobs: &[Value]) -> Self {
        let text = |pointer: &str| {
            let found = cron_job.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let label = |key: &str| text(&format!("/metadata/labels/{}", key.replace('/', "~1")));
        let annotation = text(&format!(
            "/metadata/annotations/{}",
            EXPRESSION.replace('/', "~1")
        ));
        let uid = &cron_job["metadata"]["uid"];
        let mut runs: Vec<Run> = jobs
            .iter()
            .filter(|job| {
                let owners = job["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid))
            })
            .map(run)
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        Self {
            name: text("/metadata/name"),
            expression: if annotation.is_empty() {
                text("/spec/schedule")
            } else {
                annotation
            },
            location: label(LOCATION_LABEL),
            is_paused: cron_job["spec"]["suspend"] == true,
            created: time(&cron_job["metadata"]["creationTimestamp"]),
            last: time(&cron_job["status"]["lastScheduleTime"]),
            last_good: time(&cron_job["status"]["lastSuccessfulTime"]),
            runs,
        }
    }

    /// When it runs next.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        Cron::parse(&self.expression)
            .ok()?
            .next(now)
            .filter(|_| !self.is_paused)
    }

    /// The longest time from one run to the next, as far as the next dozen tells.
    pub fn interval(&self, now: Timestamp) -> Option<SignedDuration> {
        let times = Cron::parse(&self.expression).ok()?.upcoming(now, 12);
        times.windows(2).map(|pair| pair[1].duration_since(pair[0])).max()
    }

    /// The run that is still at work although the next one was due: those that come due meanwhile are left out.
    pub fn overrunning(&self, now: Timestamp) -> Option<&Run> {
        let run = self.runs.first().filter(|run| run.status == "Running")?;
        let cron = Cron::parse(&self.expression).ok()?;
        let due = cron.next(run.started?)?.checked_add(LATE).ok()?;
        (due < now).then_some(run)
    }

    /// How it is doing.
    pub fn status(&self, now: Timestamp) -> Status {
        let Ok(cron) = Cron::parse(&self.expression) else {
            return Status::Invalid;
        };
        let due = self.last.or(self.created).and_then(|last| cron.next(last));
        let is_late = due
            .and_then(|due| due.checked_add(LATE).ok())
            .is_some_and(|due| due < now);
        match self.runs.first() {
            _ if self.is_paused => Status::Paused,
            Some(run) if run.status == "Running" => Status::Running,
            _ if is_late => Status::Missed,
            Some(run) if run.status == "Failed" => Status::Failing,
            None if self.last.is_none() => Status::New,
            _ => Status::Ok,
        }
    }
}

fn run(job: &Value) -> Run {
    let conditions = job["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let condition = |kind: &str| {
        conditions
            .iter()
            .find(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let (status, condition) = match (condition("Complete"), condition("Failed")) {
        (Some(complete), _) => ("Complete", Some(complete)),
        (None, Some(failed)) => ("Failed", Some(failed)),
        (None, None) => ("Running", None),
    };
    Run {
        name: job["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        started: time(&job["status"]["startTime"]).or_else(|| time(&job["metadata"]["creationTimestamp"])),
        ended: condition.and_then(|condition| time(&condition["lastTransitionTime"])),
        status,
        message: condition
            .filter(|_| status == "Failed")
            .and_then(|condition| condition["message"].as_str())
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cron_job(status: &Value) -> Value {
        json!({
            "metadata": {
                "name": "nightly", "uid": "u", "creationTimestamp": "2026-11-20T12:00:00Z",
                "labels": { LOCATION_LABEL: "main" }, "annotations": { EXPRESSION: "CRON_TZ=Europe/Berlin 0 1 * * *" },
            },
            "spec": { "schedule": "0 1 * * *", "suspend": false },
            "status": status,
        })
    }

    fn job(started: &str, kind: &str) -> Value {
        json!({
            "metadata": { "name": format!("nightly-{kind}"), "ownerReferences": [{ "uid": "u" }] },
            "status": {
                "startTime": started,
                "conditions": [{ "type": kind, "status": "True", "message": "BackoffLimitExceeded", "lastTransitionTime": started }],
            },
        })
    }

    #[test]
    fn a_run_that_outlasts_its_interval_is_told() {
        let state = State::of(&cron_job(&json!({})), &[job("2026-11-22T00:00:00Z", "Suspended")]);
        let at = |text: &str| text.parse().unwrap();
        assert!(state.overrunning(at("2026-11-22T23:00:00Z")).is_none());
        assert_eq!(
            state
                .overrunning(at("2026-11-23T00:10:00Z"))
                .map(|run| run.name.as_str()),
            Some("nightly-Suspended")
        );
        let ended = State::of(&cron_job(&json!({})), &[job("2026-11-22T00:00:00Z", "Failed")]);
        assert!(ended.overrunning(at("2026-11-23T00:10:00Z")).is_none());
    }

    #[test]
    fn a_schedule_in_one_word() {
        let now: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        let ran = json!({ "lastScheduleTime": "2026-11-22T00:00:00Z", "lastSuccessfulTime": "2026-11-22T00:01:00Z" });
        let old = json!({ "lastScheduleTime": "2026-11-21T00:00:00Z" });
        let table = [
            (
                ran.clone(),
                vec![job("2026-11-22T00:00:00Z", "Complete")],
                Status::Ok,
            ),
            (
                ran.clone(),
                vec![
                    job("2026-11-21T00:00:00Z", "Complete"),
                    job("2026-11-22T00:00:00Z", "Failed"),
                ],
                Status::Failing,
            ),
            (
                ran,
                vec![job("2026-11-22T00:00:00Z", "Suspended")],
                Status::Running,
            ),
            (old, vec![job("2026-11-21T00:00:00Z", "Complete")], Status::Missed),
            (json!({}), vec![], Status::Missed),
        ];
        for (status, jobs, expected) in table {
            let state = State::of(&cron_job(&status), &jobs);
            assert_eq!(state.status(now), expected, "{status}");
            assert_eq!(state.next(now).unwrap().to_string(), "2026-11-23T00:00:00Z");
        }
        // A clock that was set back: what ran is in the future, and nothing is missed because of that.
        let jumped = json!({ "lastScheduleTime": "2026-11-25T00:00:00Z" });
        let state = State::of(&cron_job(&jumped), &[job("2026-11-25T00:00:00Z", "Complete")]);
        assert_eq!(state.status(now), Status::Ok);
        assert_eq!(state.next(now).unwrap().to_string(), "2026-11-23T00:00:00Z");
        let new = State::of(&cron_job(&json!({})), &[]);
        assert_eq!(new.status("2026-11-20T13:00:00Z".parse().unwrap()), Status::New);
        let mut paused = cron_job(&json!({}));
        paused["spec"]["suspend"] = true.into();
        let paused = State::of(&paused, &[]);
        assert_eq!((paused.status(now), paused.next(now)), (Status::Paused, None));
        assert_eq!(paused.location, "main");
    }
}
