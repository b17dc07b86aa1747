//! What is being done, or was done, to the backup storage of clusters that went: the ConfigMaps of the admission suite, which
//! outlive the clusters.

use velero_model::api::storage_work::{
    NAMESPACE, ORDER_KEY, REPORT_KEY, StorageOrder, StorageReport, WORK_LABEL,
};

use super::{Clusters, ClustersError};
use crate::schedule::kind;

/// The work for one cluster.
#[derive(Debug, Clone)]
pub struct WorkSeen {
    /// What was ordered.
    pub order: StorageOrder,
    /// What has come of it so far.
    pub report: Option<StorageReport>,
}

impl Clusters {
    /// All that is known. What cannot be read as an order is passed over: the admission suite says so where it matters.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn work_seen(&self) -> Result<Vec<WorkSeen>, ClustersError> {
        let maps = kind("", "configmaps", "ConfigMap", true);
        let found = self.api.objects(maps, Some(NAMESPACE), WORK_LABEL).await?;
        let works = found.iter().filter_map(|map| {
            let text = |key: &str| map["data"][key].as_str();
            Some(WorkSeen {
                order: StorageOrder::parse(text(ORDER_KEY)?).ok()?,
                report: text(REPORT_KEY).and_then(|text| StorageReport::parse(text).ok()),
            })
        });
        Ok(works.collect())
    }
}
