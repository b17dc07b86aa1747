//! Ctrl-C and termination.
//!
//! The first signal cancels the run's token: the engine stops at the next safe place, cleans up and the program ends with
//! 130. The second one ends it at once; what that leaves behind is found by `location check --repair`.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{exit::Exit, view};

/// Cancels `cancel` on the first signal. Where signals cannot be caught they do what they always did: end the program.
pub(crate) fn listen(cancel: CancellationToken) {
    let (Ok(interrupt), Ok(terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    // Ends with the runtime.
    drop(tokio::spawn(obey(interrupt, terminate, cancel)));
}

async fn obey(mut interrupt: Signal, mut terminate: Signal, cancel: CancellationToken) {
    either(&mut interrupt, &mut terminate).await;
    view::say("stopping; once more stops at once");
    cancel.cancel();
    either(&mut interrupt, &mut terminate).await;
    std::process::exit(Exit::Interrupted.code().into());
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
