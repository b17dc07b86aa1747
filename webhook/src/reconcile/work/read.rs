//! What the API server says about the work: ConfigMaps, Jobs and their pods that carry our label, in our namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use velero_model::api::storage_work::{ORDER_KEY, REPORT_KEY, StorageOrder, StorageReport, WORK_LABEL};

use super::job::ORDER_MARK;
use super::{JobEnd, JobSeen, OrderSeen, Work};

/// Key in the ConfigMap of a cluster that was let go without a choice: what was said about it.
pub(crate) const RELEASED_KEY: &str = "released";
/// Kubernetes' label of a pod with its Job's UID.
const OWNER: &str = "batch.kubernetes.io/controller-uid";
/// Why a container waits for ever.
const CANNOT_PULL: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
];

/// Reads all of it.
///
/// # Errors
/// The API server's.
pub(crate) async fn read(client: &Client, namespace: &str, image: &str) -> kube::Result<Work> {
    let ours = ListParams::default().labels(WORK_LABEL);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (maps, jobs, pods) = futures::try_join!(maps.list(&ours), jobs.list(&ours), pods.list(&ours))?;
    let stuck: BTreeMap<String, (String, String)> = pods
        .iter()
        .filter_map(|pod| Some((pod.labels().get(OWNER)?.clone(), stuck(pod)?)))
        .collect();
    Ok(Work {
        image: Some(image.to_owned()),
        orders: maps.iter().map(|map| (map.name_any(), order(map))).collect(),
        jobs: jobs
            .iter()
            .map(|job| {
                let seen = seen(job);
                let stuck = stuck.get(&seen.uid).cloned();
                (job.name_any(), JobSeen { stuck, ..seen })
            })
            .collect(),
    })
}

fn order(map: &ConfigMap) -> OrderSeen {
    let text = |key: &str| map.data.as_ref()?.get(key);
    OrderSeen {
        cluster: map.labels().get(WORK_LABEL).cloned().unwrap_or_default(),
        resource_version: map.resource_version().unwrap_or_default(),
        order: text(ORDER_KEY).map(|text| StorageOrder::parse(text)),
        report: text(REPORT_KEY).map(|text| StorageReport::parse(text)),
        is_released: text(RELEASED_KEY).is_some(),
    }
}

fn seen(job: &Job) -> JobSeen {
    let spec = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let image = spec.and_then(|spec| spec.containers.first()?.image.clone());
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let end = conditions.into_iter().flatten().find(|condition| {
        ["Complete", "Failed"].contains(&condition.type_.as_str()) && condition.status == "True"
    });
    JobSeen {
        cluster: job.labels().get(WORK_LABEL).cloned().unwrap_or_default(),
        uid: job.uid().unwrap_or_default(),
        order: job.annotations().get(ORDER_MARK).cloned().unwrap_or_default(),
        image: image.unwrap_or_default(),
        is_going: job.metadata.deletion_timestamp.is_some(),
        end: end.map(|end| JobEnd {
            at: end
                .last_transition_time
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            message: end.message.clone().unwrap_or_else(|| end.type_.to_lowercase()),
        }),
        stuck: None,
    }
}

/// Why a pod does not start.
fn stuck(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find(|waiting| {
            waiting
                .reason
                .as_deref()
                .is_some_and(|reason| CANNOT_PULL.contains(&reason))
        });
    if let Some(waiting) = waiting {
        let said = waiting
            .message
            .as_deref()
            .or(waiting.reason.as_deref())
            .unwrap_or_default();
        let image = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.containers.first()?.image.clone());
        let message = format!(
            "image {} cannot be pulled ({said}); make it available to the nodes, or set another one (serve \
             --storage-image)",
            image.unwrap_or_default()
        );
        return Some(("ImageCannotBePulled".to_owned(), message));
    }
    let scheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let said = scheduled.message.as_deref().unwrap_or("no node takes it");
    Some((
        "PodUnschedulable".to_owned(),
        format!("its pod finds no node ({said}); make room for it"),
    ))
}
