//! Submitting a Backup or Restore, and waiting for its end.
//!
//! In comes an object, out goes the run as Velero left it: its phase decides the exit. Who stops waiting, by an interrupt
//! or a time limit, stops nothing: the run goes on in the cluster. An API server that is away for a while is waited for.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use velero_model::api_object::{Run, RunStatus};

use super::{Kind, Velero, VeleroError, check::is_passing};
use crate::progress::Progress;

/// Between two looks.
const POLL: Duration = Duration::from_secs(1);

/// The first looks come sooner: small runs take a second or two.
const FIRST_POLL: Duration = Duration::from_millis(200);

/// After how long an untouched run is worth a word.
const UNTOUCHED: Duration = Duration::from_mins(1);

/// How long the API server may be away.
const AWAY: Duration = Duration::from_mins(5);

impl Velero {
    /// Submits an object of ours.
    ///
    /// # Errors
    /// [`VeleroError::Exists`], or the server's refusal.
    pub async fn submit<T: Serialize + Sync>(
        &self,
        kind: Kind,
        name: &str,
        object: &T,
    ) -> Result<(), VeleroError> {
        self.create(kind, name, object).await
    }

    /// Waits until a Backup or Restore is over.
    ///
    /// # Errors
    /// [`VeleroError::Interrupted`], [`VeleroError::Vanished`], [`VeleroError::Lost`]; a run that failed is no error here.
    pub async fn follow(
        &self,
        kind: Kind,
        name: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Run, VeleroError> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut has_warned = false;
        let mut pause = FIRST_POLL;
        loop {
            let looked = tokio::select! {
                looked = self.run(kind, name) => looked,
                () = cancel.cancelled() => return Err(VeleroError::Interrupted),
            };
            match looked {
                Ok(Some(run)) if run.status.is_over() => return Ok(run),
                Ok(Some(run)) => {
                    heard = Instant::now();
                    show(&run.status, progress);
                    if run.status.phase.is_empty() && begun.elapsed() > UNTOUCHED && !has_warned {
                        has_warned = true;
                        progress.note(format!(
                            "{} was not touched by Velero for {} s; is it running? `kubectl get deployment velero -n {}`",
                            self.what(kind, name),
                            UNTOUCHED.as_secs(),
                            self.namespace
                        ));
                    }
                }
                Ok(None) => {
                    return Err(VeleroError::Vanished {
                        what: self.what(kind, name),
                    });
                }
                Err(VeleroError::Api(source)) if is_passing(&source) => {
                    if heard.elapsed() > AWAY {
                        return Err(VeleroError::Lost {
                            what: self.what(kind, name),
                            after: heard.elapsed(),
                            source: Box::new(source),
                        });
                    }
                    progress.set_step("the API server does not answer; waiting for it");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return Err(VeleroError::Interrupted),
            }
            pause = (pause * 2).min(POLL);
        }
    }
}

fn show(status: &RunStatus, progress: &Progress) {
    let place = status
        .queue_position
        .filter(|place| *place > 0)
        .map(|place| format!(", place {place} in its queue"))
        .unwrap_or_default();
    progress.set_step(&format!("Velero: {}{place}", status.phase_word()));
    if let Some(seen) = status.progress {
        progress.set_total(seen.total_items);
        let done = seen.items_backed_up.max(seen.items_restored);
        progress.add_objects(done.saturating_sub(progress.objects()));
    }
}

#[cfg(test)]
mod tests {
    use velero_model::api_object::RunProgress;

    use super::*;

    #[test]
    fn progress_is_what_velero_says() {
        let progress = Progress::default();
        let mut status = RunStatus {
            phase: "Queued".into(),
            queue_position: Some(2),
            ..RunStatus::default()
        };
        show(&status, &progress);
        assert_eq!(progress.step(), "Velero: Queued, place 2 in its queue");
        status.phase = "InProgress".into();
        status.queue_position = Some(0);
        for (total, done) in [(10, 3), (12, 3), (12, 12)] {
            status.progress = Some(RunProgress {
                total_items: total,
                items_backed_up: done,
                items_restored: 0,
            });
            show(&status, &progress);
            assert_eq!((progress.total(), progress.objects()), (total, done));
        }
        assert_eq!(progress.step(), "Velero: InProgress");
    }
}
