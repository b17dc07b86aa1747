//! Panics of rustic_core's where a file cannot be written, as errors.

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Arc,
    thread,
};

use crate::repository::backend::Faults;

/// Does work of rustic_core's that panics where a file cannot be written; gives what the panic was about.
///
/// It does so on threads without a name, once for each write that fails, and reads on meanwhile: the first of them is what
/// counts, and the rest are kept from being printed and from reading anything.
pub(super) fn caught<T>(faults: &Arc<Faults>, work: impl FnOnce() -> T) -> Result<T, String> {
    let previous: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = Arc::from(panic::take_hook());
    let (others, giving_up) = (Arc::clone(&previous), Arc::clone(faults));
    panic::set_hook(Box::new(move |about| {
        if thread::current().name().is_some() {
            others(about);
        } else {
            tracing::debug!(panic = %about, "while a snapshot was written");
            giving_up.give_up();
        }
    }));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(Box::new(move |about| previous(about)));
    done.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map_or("a panic without words", String::as_str);
        about(text)
    })
}

/// What the system said in an error that was printed for developers.
fn about(text: &str) -> String {
    let quoted = text
        .split_once("message: \"")
        .and_then(|(_, message)| message.split_once('"'));
    quoted.map_or(text, |(message, _)| message).to_owned()
}
