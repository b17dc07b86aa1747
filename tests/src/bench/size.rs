//! One size of cluster: bare lists, our backup, bare creates, our restore.
//!
//! Limit and product are measured in turns, so that a slow minute of the machine hits both. Backups are measured on one
//! cluster that stands still; every create loop and every restore gets a cluster of its own, so that none inherits the
//! other's objects or a server's warm cache.

use anyhow::{Context, Result};

use super::limits::Limits;
use super::options::Options;
use super::report::{Bar, Row, median};
use super::{NAMESPACES, mebibytes, say, start};
use crate::applications;
use crate::cluster::Cluster;
use crate::plugin::{Plugin, Ran};
use crate::store::Store;

/// The size that the bars are meant for.
const JUDGED: usize = 28_000;

/// What a smaller run leaves for a larger one to be held against.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    memory: Option<Row>,
}

/// Rows that Velero's figures are held against.
pub(super) struct Measured {
    /// Our backup to a folder.
    pub(super) backup: Row,
    /// Our restore's rate, unless it was left out.
    pub(super) restore: Option<Row>,
}

pub(super) fn measure(
    source: &Cluster,
    count: usize,
    options: &Options,
    earlier: &mut Earlier,
    rows: &mut Vec<Row>,
) -> Result<Measured> {
    say(&format!("{count} objects: creating them"));
    applications::ballast(source, count, NAMESPACES)?;
    let limits = Limits::connect(source.kubeconfig())?;
    limits.ensure_objects(count)?;
    let folder = Store::folder()?;
    let backup = backups(source, &folder, &limits, count, options.runs, earlier, rows)?;
    let restore = if options.restore {
        Some(restores(&folder, count, options.runs, rows)?)
    } else {
        None
    };
    Ok(Measured { backup, restore })
}

fn backups(
    source: &Cluster,
    folder: &Store,
    limits: &Limits,
    count: usize,
    runs: usize,
    earlier: &mut Earlier,
    rows: &mut Vec<Row>,
) -> Result<Row> {
    let bucket = Store::shared_versitygw()?;
    let (to_folder, to_bucket) = (Plugin::new(source, folder)?, Plugin::new(source, &bucket)?);
    let mut lists = [2, 4, 8].map(|in_flight| (in_flight, Vec::new()));
    let (mut files, mut objects) = (Vec::new(), Vec::new());
    // The first round warms the servers and counts for nothing.
    for run in 0..=runs {
        say(&format!("{count} objects: lists and backups, {run} of {runs}"));
        for (in_flight, times) in &mut lists {
            times.push(limits.list(*in_flight)?.0.as_secs_f64());
        }
        let name = format!("bench-{run}");
        files.push(done(to_folder.run(["create", &name])?)?);
        objects.push(done(to_bucket.run(["create", &name])?)?);
    }
    for (_, times) in &mut lists {
        times.remove(0);
    }
    files.remove(0);
    objects.remove(0);
    let (in_flight, times) = lists
        .into_iter()
        .min_by(|(_, left), (_, right)| median(left).total_cmp(&median(right)))
        .context("no list was made")?;
    let list = Row::new(
        count,
        &format!("bare LIST, {in_flight} in flight (best of 2, 4, 8)"),
        "s",
        times,
    );
    let seconds = |runs: &[Ran]| runs.iter().map(|ran| ran.took.as_secs_f64()).collect();
    let memory = |runs: &[Ran]| runs.iter().map(|ran| mebibytes(ran.peak_memory)).collect();
    let backup = Row::new(count, "backup to a folder", "s", seconds(&files))
        .against(&list)
        .bar_at(JUDGED, Bar::AtMost(1.3));
    let beside = Row::new(count, "backup to S3 (versitygw)", "s", seconds(&objects)).against(&list);
    let mut peak = Row::new(count, "memory of the backup to a folder", "MiB", memory(&files))
        .bar_at(JUDGED, Bar::AtMost(48.0));
    if count > JUDGED
        && let Some(smaller) = &earlier.memory
    {
        peak = peak.against(smaller).bar(Bar::AtMost(1.1));
    }
    if count == JUDGED {
        earlier.memory = Some(peak.clone());
    }
    let peak_s3 = Row::new(count, "memory of the backup to S3", "MiB", memory(&objects));
    rows.extend([list, backup.clone(), beside, peak, peak_s3]);
    Ok(backup)
}

fn restores(folder: &Store, count: usize, runs: usize, rows: &mut Vec<Row>) -> Result<Row> {
    // Precise enough for any number of objects that fits into a cluster.
    #[allow(clippy::cast_precision_loss)]
    let per_second = |seconds: f64| count as f64 / seconds;
    let (mut loops, mut rates, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        say(&format!("{count} objects: creates and restores, {run} of {runs}"));
        let target = start("limit")?;
        let took = Limits::connect(target.kubeconfig())?.create_ballast(count, NAMESPACES)?;
        loops.push(per_second(took.as_secs_f64()));
        target.stop();
        let target = start("restore")?;
        let limits = Limits::connect(target.kubeconfig())?;
        let ran = done(Plugin::new(&target, folder)?.run(["restore", &format!("bench-{run}")])?)?;
        limits.ensure_objects(count)?;
        rates.push(per_second(ran.took.as_secs_f64()));
        peaks.push(mebibytes(ran.peak_memory));
    }
    let limit = Row::new(count, "bare create loop, 32 in flight", "objects/s", loops);
    let restore = Row::new(count, "restore", "objects/s", rates)
        .against(&limit)
        .bar_at(JUDGED, Bar::AtLeast(0.85));
    let peak = Row::new(count, "memory of the restore", "MiB", peaks).bar_from(JUDGED, Bar::AtMost(64.0));
    rows.extend([limit, restore.clone(), peak]);
    Ok(restore)
}

/// A run that did what it should; its figures mean nothing otherwise.
pub(super) fn done(ran: Ran) -> Result<Ran> {
    anyhow::ensure!(ran.code == 0, "wanted exit code 0: {ran}");
    Ok(ran)
}
