//! What Prometheus reads: names as Velero's dashboards would have them, under `kubectl_backup_`.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backup_plan::disposition::accepted;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::reviews::Webhook;
use crate::observe::{Health, Snapshot};

/// All of them, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    /// Time from the first byte to the answer.
    admission_duration: Family<Admission, Histogram, fn() -> Histogram>,
    /// When the served certificate ends, seconds since 1970.
    pub certificate_expiry: Gauge,
    undecided_clusters: Gauge,
    /// Connections that ended before they could ask anything.
    pub failed_handshakes: Counter,
    leads: Gauge,
    watch_in_step: Family<Kind, Gauge>,
    watch_lost_seconds: Family<Kind, Gauge<f64, AtomicU64>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics(..)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Admission {
    webhook: Webhook,
    answer: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "they are label values")]
pub enum Outcome {
    /// Yes.
    allowed,
    /// Yes, with changes.
    patched,
    /// No.
    denied,
    /// Nothing that could be answered.
    malformed,
    /// The deadline passed.
    late,
    /// A fault of ours.
    panicked,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kubectl_backup"),
            admission_duration: Family::new_with_constructor(buckets),
            certificate_expiry: Gauge::default(),
            undecided_clusters: Gauge::default(),
            failed_handshakes: Counter::default(),
            leads: Gauge::default(),
            watch_in_step: Family::default(),
            watch_lost_seconds: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "admission_duration_seconds",
            "Time from the request's head to its answer",
            metrics.admission_duration.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "End of the served certificate",
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "undecided_clusters",
            "Protected clusters whose backup storage nobody has decided about",
            metrics.undecided_clusters.clone(),
        );
        registry.register(
            "failed_handshakes",
            "Connections that ended before they could ask anything",
            metrics.failed_handshakes.clone(),
        );
        registry.register(
            "leads",
            "Whether this replica holds the lease",
            metrics.leads.clone(),
        );
        registry.register(
            "watch_in_step",
            "Whether what is known of a kind is in step with the API server",
            metrics.watch_in_step.clone(),
        );
        registry.register(
            "watch_lost_seconds",
            "For how long it has not been",
            metrics.watch_lost_seconds.clone(),
        );
        registry.register(
            "build",
            "What runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }

    /// A request has ended.
    pub fn answered(&self, webhook: Webhook, answer: Outcome, took: Duration) {
        self.admission_duration
            .get_or_create(&Admission { webhook, answer })
            .observe(took.as_secs_f64());
    }

    /// All of them in OpenMetrics' text form.
    pub fn text(&self, snapshot: &Snapshot, leads: bool) -> String {
        self.leads.set(leads.into());
        self.undecided_clusters.set(undecided(snapshot));
        for (kind, health) in snapshot.health() {
            let label = Kind { kind };
            let in_step = matches!(health, Health::InStep);
            self.watch_in_step.get_or_create(&label).set(in_step.into());
            let lost = match health {
                Health::Lost { since, .. } => since.elapsed().as_secs_f64(),
                _ => 0.0,
            };
            self.watch_lost_seconds.get_or_create(&label).set(lost);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Protected clusters, not going yet, that the floor policy would not let go.
fn undecided(snapshot: &Snapshot) -> i64 {
    let known = snapshot.clusters.known(None).unwrap_or_default();
    let undecided = known
        .clusters
        .iter()
        .filter(|cluster| cluster.is_protected() && !cluster.is_dying() && accepted(cluster).is_none());
    i64::try_from(undecided.count()).unwrap_or(i64::MAX)
}

/// From a tenth of the bar to beyond the API server's patience.
fn buckets() -> Histogram {
    Histogram::new([
        0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
    ])
}
