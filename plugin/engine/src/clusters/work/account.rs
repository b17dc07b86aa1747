//! Order and report in their ConfigMap: read once, told as the work goes on, and compared before each step.
//!
//! Only the key of the report is written. A write names no version: whoever writes the order writes another key, and two Jobs
//! of one cluster never run at once.

use std::time::{Duration, Instant};

use backup_plan::disposition::Settings;
use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::{
    api::storage_work::{
        FORMAT, NAMESPACE, ORDER_KEY, OrderedCluster, REPORT_KEY, StorageOrder, StorageReport, WorkPhase,
        WorkReceipt, reason,
    },
    resource::ApiKind,
    time,
};

use super::{Clusters, Stop};
use crate::{
    api::{ApiClient, ApiError, PatchKind, object_path},
    clock,
    schedule::kind,
};

/// Between two reports of work that goes on.
const EVERY: Duration = Duration::from_secs(3);

/// An order, and what is reported about it.
pub(super) struct Account<'a> {
    api: &'a ApiClient,
    name: String,
    /// As it was when the work began.
    pub(super) order: StorageOrder,
    /// The kind of the cluster as the server has it; none where it does not serve it.
    pub(super) kind: Option<ApiKind>,
    /// As it was last written, or will be.
    pub(super) report: StorageReport,
    /// What was done before this run, for the receipt.
    pub(super) before: WorkReceipt,
    told: Option<Instant>,
}

impl<'a> Account<'a> {
    pub(super) async fn open(api: &'a ApiClient, name: &str) -> Result<Self, Stop> {
        let map = read(api, name).await?;
        let order = order_in(&map, name)?;
        let earlier = match map["data"][REPORT_KEY].as_str() {
            Some(text) => Some(StorageReport::parse(text).map_err(|source| Stop::Unusable {
                name: name.to_owned(),
                source,
            })?),
            None => None,
        };
        let now = time::to_seconds(clock::now());
        let report = match earlier {
            // What was found for another revision is found anew; what was done stays done.
            Some(earlier) if earlier.revision != order.revision => StorageReport {
                revision: order.revision,
                phase: WorkPhase::Working,
                reason: reason::WORKING.to_owned(),
                message: String::new(),
                finished_at: None,
                ..earlier
            },
            Some(earlier) => earlier,
            None => fresh(&order, now),
        };
        Ok(Self {
            api,
            name: name.to_owned(),
            kind: kind_of(api, &order.cluster).await?,
            before: report.receipt.clone(),
            order,
            report,
            told: None,
        })
    }

    /// Says how far it is, at once if the phase is new, else now and then.
    pub(super) async fn working(&mut self, message: &str) -> Result<(), Stop> {
        self.in_phase(WorkPhase::Working, message).await
    }

    pub(super) async fn in_phase(&mut self, phase: WorkPhase, message: &str) -> Result<(), Stop> {
        let is_same = self.report.phase == phase && self.report.finished_at.is_none();
        if is_same && self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return Ok(());
        }
        self.report.phase = phase;
        reason::WORKING.clone_into(&mut self.report.reason);
        message.clone_into(&mut self.report.message);
        self.report.finished_at = None;
        self.write().await
    }

    /// The end for this revision.
    pub(super) async fn end(&mut self, phase: WorkPhase, reason: &str, message: String) -> Result<(), Stop> {
        self.report.phase = phase;
        reason.clone_into(&mut self.report.reason);
        self.report.message = message.chars().take(3000).collect();
        self.report.finished_at = Some(time::to_seconds(clock::now()));
        self.write().await
    }

    /// Whether the order is still the one that the work began with.
    pub(super) async fn still_stands(&self) -> Result<(), Stop> {
        let map = match read(self.api, &self.name).await {
            Err(Stop::NoOrder { .. }) => return Err(Stop::OrderChanged),
            other => other?,
        };
        if order_in(&map, &self.name)? == self.order {
            Ok(())
        } else {
            Err(Stop::OrderChanged)
        }
    }

    async fn write(&mut self) -> Result<(), Stop> {
        let text = serde_json::to_string(&self.report).unwrap_or_default();
        let patch = json!({ "data": { REPORT_KEY: text } });
        self.api
            .patch(&path(&self.name), &PatchKind::Merge, patch.to_string().into())
            .await?;
        self.told = Some(Instant::now());
        Ok(())
    }
}

fn fresh(order: &StorageOrder, now: Timestamp) -> StorageReport {
    StorageReport {
        format: FORMAT,
        revision: order.revision,
        phase: WorkPhase::Working,
        reason: reason::WORKING.to_owned(),
        message: String::new(),
        started_at: now,
        finished_at: None,
        source: None,
        final_backup: None,
        receipt: WorkReceipt::default(),
    }
}

async fn kind_of(api: &ApiClient, cluster: &OrderedCluster) -> Result<Option<ApiKind>, Stop> {
    let kinds = Settings::default().kinds;
    let known = kinds
        .iter()
        .find(|kind| kind.group == cluster.group && kind.kind == cluster.kind);
    match known {
        Some(kind) => Clusters::new(api.clone())
            .kind(kind)
            .await
            .map_err(Stop::of_clusters),
        None => Ok(None),
    }
}

fn path(name: &str) -> String {
    object_path(&kind("", "configmaps", "ConfigMap", true), Some(NAMESPACE), name)
}

async fn read(api: &ApiClient, name: &str) -> Result<Value, Stop> {
    let path = path(name);
    let body = api.get(&path).await?.ok_or_else(|| Stop::NoOrder {
        name: name.to_owned(),
    })?;
    let parsed = serde_json::from_slice(&body);
    parsed.map_err(|_| {
        Stop::Management(ApiError::Parse {
            what: format!("GET {path}"),
            expected: "ConfigMap",
        })
    })
}

fn order_in(map: &Value, name: &str) -> Result<StorageOrder, Stop> {
    let text = map["data"][ORDER_KEY].as_str().ok_or_else(|| Stop::NoOrder {
        name: name.to_owned(),
    })?;
    StorageOrder::parse(text).map_err(|source| Stop::Unusable {
        name: name.to_owned(),
        source,
    })
}
