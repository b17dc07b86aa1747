//! Pods made through the API server by 100 clients at once, without the webhook and with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use http::Method;
use serde_json::json;

use super::options::Options;
use super::{NAMESPACE, mebibytes, pod};
use crate::bench::report::Row;
use crate::bench::say;
use crate::cluster::{Cluster, Requests};
use crate::process;
use crate::runtime;
use crate::webhook::{Registration, Webhook, annotator};

/// As in the published figures that these stand beside.
const CLIENTS: usize = 100;

pub(super) fn measure(cluster: &Cluster, options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let mut without = Series::default();
    let mut with = Series::default();
    let mut memory = Vec::new();
    for _ in 0..options.runs {
        say("pods without the webhook");
        without.add(&create(cluster, options.pods)?);
        let registration = Registration::none().mutating("/annotate", annotator());
        let webhook = Webhook::builder(cluster).registration(registration).start()?;
        say("pods with the webhook");
        with.add(&create(cluster, options.pods)?);
        let answered = webhook.metric(
            "kubectl_backup_admission_duration_seconds_count",
            "answer=\"patched\"",
        )?;
        // The annotator fails open: on a busy machine the API server may lose its patience now and then.
        ensure!(
            answered * 10.0 >= f64::from(u32::try_from(options.pods)?) * 9.0,
            "only {answered} pods were patched"
        );
        memory.push(mebibytes(process::peak_memory(webhook.pid())));
    }
    let [average, most, rate] = without.rows("without webhook");
    let [average_with, most_with, rate_with] = with.rows("with webhook");
    rows.extend([
        average_with.against(&average),
        most_with.against(&most),
        rate_with.against(&rate),
    ]);
    rows.extend([average, most, rate]);
    rows.push(Row::new(0, "memory, largest, pods of 100 clients", "MiB", memory));
    Ok(())
}

#[derive(Debug, Default)]
struct Series {
    averages: Vec<f64>,
    mosts: Vec<f64>,
    rates: Vec<f64>,
}

impl Series {
    // Counts of this bench are far below what a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    fn add(&mut self, run: &Run) {
        let count = run.latencies.len() as f64;
        self.averages.push(run.latencies.iter().sum::<f64>() / count);
        self.mosts.push(run.latencies.iter().copied().fold(0.0, f64::max));
        self.rates.push(count / run.seconds);
    }

    fn rows(self, what: &str) -> [Row; 3] {
        [
            Row::new(
                0,
                &format!("pod create, 100 clients, {what}, average"),
                "ms",
                self.averages,
            ),
            Row::new(
                0,
                &format!("pod create, 100 clients, {what}, maximum"),
                "ms",
                self.mosts,
            ),
            Row::new(
                0,
                &format!("pod create, 100 clients, {what}"),
                "pods/s",
                self.rates,
            ),
        ]
    }
}

/// Milliseconds of each create, and how long all took.
struct Run {
    latencies: Vec<f64>,
    seconds: f64,
}

fn create(cluster: &Cluster, count: usize) -> Result<Run> {
    let requests = cluster.requests();
    let run = runtime::run(async move {
        let left = Arc::new(AtomicUsize::new(count));
        let begun = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(client(requests.clone(), Arc::clone(&left))))
            .collect();
        let mut latencies = Vec::with_capacity(count);
        for client in clients {
            latencies.extend(client.await??);
        }
        Ok(Run {
            latencies,
            seconds: begun.elapsed().as_secs_f64(),
        })
    })?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let requests = cluster.requests();
    let all = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 });
    runtime::run(async move { requests.value(Method::DELETE, &path, Some(&all)).await })?;
    Ok(run)
}

async fn client(requests: Requests, left: Arc<AtomicUsize>) -> Result<Vec<f64>> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let pod = pod();
    let mut latencies = Vec::new();
    let take = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let begun = Instant::now();
        let (status, answer) = requests.exchange(Method::POST, &path, Some(&pod)).await?;
        latencies.push(begun.elapsed().as_secs_f64() * 1000.0);
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(latencies)
}
