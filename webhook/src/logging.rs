//! JSON lines on stderr. They name objects and never show them: kube's client, which would print bodies that it cannot
//! parse, is heard only about errors.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts to log our own lines down to `level`.
pub fn start(level: LevelFilter) {
    let own = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("backup_webhook", level)
        .with_target("kube_client", LevelFilter::ERROR)
        .with_target("kube_runtime", LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr);
    // Fails only where somebody logs already, which is as good.
    let _ = tracing_subscriber::registry().with(lines).with(own).try_init();
}
