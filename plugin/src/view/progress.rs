//! How far a run is, on stderr.
//!
//! In comes the engine's [`Progress`]; out goes one line that renews itself on a terminal, or a plain line every few
//! seconds elsewhere, so that a log of a Job stays short. Notes are printed when they come. Nothing goes to stdout.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::{Duration, Instant},
};

use backup_engine::progress::Progress;
use backup_plan::human;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{plain, say};

/// How often the engine is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(5);

/// A view of a run. End it with [`Watch::end`] before the result is printed.
#[derive(Debug)]
pub(crate) struct Watch {
    task: JoinHandle<()>,
    over: CancellationToken,
}

impl Watch {
    /// Begins to show `progress`.
    pub(crate) fn begin(progress: Arc<Progress>) -> Self {
        let over = CancellationToken::new();
        let task = tokio::spawn(show(progress, over.clone()));
        Self { task, over }
    }

    /// Prints what is left to say and removes the line.
    pub(crate) async fn end(self) {
        self.over.cancel();
        // A view that broke changes nothing about the result.
        let _ = self.task.await;
    }
}

async fn show(progress: Arc<Progress>, over: CancellationToken) {
    let bar = io::stderr().is_terminal().then(bar);
    let mut next_plain = Instant::now() + PLAIN;
    loop {
        let is_over = tokio::select! {
            () = over.cancelled() => true,
            () = tokio::time::sleep(POLL) => false,
        };
        for note in progress.take_notes() {
            match &bar {
                Some(bar) => bar.println(plain(&note)),
                None => say(&note),
            }
        }
        if is_over {
            break;
        }
        match &bar {
            Some(bar) => {
                bar.set_message(plain(&line(&progress)).into_owned());
                bar.tick();
            }
            None if Instant::now() >= next_plain => {
                say(&line(&progress));
                next_plain = Instant::now() + PLAIN;
            }
            None => {}
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `listing pods: 1200 of 2800 objects, 3.4MiB`.
fn line(progress: &Progress) -> String {
    let mut parts = Vec::new();
    match (progress.objects(), progress.total()) {
        (0, 0) => {}
        (objects, 0) => parts.push(format!("{objects} objects")),
        // What a restore makes beside what was chosen (namespaces, definitions) is not in the total.
        (objects, total) => parts.push(format!("{objects} of {} objects", total.max(objects))),
    }
    match (progress.bytes(), progress.total_bytes()) {
        (0, 0) => {}
        (bytes, 0) => parts.push(human::bytes(bytes)),
        (bytes, total) => parts.push(format!("{} of {}", human::bytes(bytes), human::bytes(total))),
    }
    let step = progress.step();
    match (step.is_empty(), parts.is_empty()) {
        (_, true) => step,
        (true, false) => parts.join(", "),
        (false, false) => format!("{step}: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let progress = Progress::default();
        assert_eq!(line(&progress), "");
        progress.set_step("listing pods");
        assert_eq!(line(&progress), "listing pods");
        progress.add_objects(1200);
        progress.add_bytes(2048);
        assert_eq!(line(&progress), "listing pods: 1200 objects, 2KiB");
        progress.set_total(2800);
        progress.set_total_bytes(4096);
        assert_eq!(
            line(&progress),
            "listing pods: 1200 of 2800 objects, 2KiB of 4KiB"
        );
    }
}
