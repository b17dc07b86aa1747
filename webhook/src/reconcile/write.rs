//! The writes of the work on storage, each bound to the state that it was decided from.
//!
//! A ConfigMap that is there is patched over the version that was seen, one that is not is created: of two leaders one is
//! told. A Job goes by its UID, pods first. The finalizer goes over the cluster's version and UID.

use backup_plan::disposition::Kind;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{
    DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::{Api, Client};
use serde_json::json;
use velero_model::api::storage_work::{ORDER_KEY, WORK_LABEL};

use super::work::{RELEASED_KEY, job};
use super::{Carrier, Write};
use crate::clock;
use crate::observe::clusters::served;

/// The finalizer, or an event.
pub(super) async fn about_cluster(client: &Client, kinds: &[Kind], write: &Write) -> kube::Result<()> {
    let (Write::Release { group, kind, .. } | Write::Event { group, kind, .. }) = write else {
        return Ok(());
    };
    let known = kinds
        .iter()
        .find(|known| known.group == *group && known.kind == *kind);
    let Some(known) = known else {
        return Ok(());
    };
    let Some(resource) = served(client, known).await? else {
        return Ok(());
    };
    match write {
        Write::Release {
            namespace,
            name,
            uid,
            resource_version,
            finalizers,
            ..
        } => {
            let patch = json!({ "metadata": {
                "uid": uid, "resourceVersion": resource_version, "finalizers": finalizers,
            } });
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let patched = api
                .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            patched.map(drop)
        }
        Write::Event {
            name,
            namespace,
            cluster,
            uid,
            is_warning,
            reason,
            note,
            ..
        } => {
            let event = Event {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(namespace.clone()),
                    ..ObjectMeta::default()
                },
                action: Some("CarryOut".to_owned()),
                event_time: Some(MicroTime(clock::now())),
                note: Some(note.clone()),
                reason: Some(reason.clone()),
                regarding: Some(ObjectReference {
                    api_version: Some(resource.api_version.clone()),
                    kind: Some(resource.kind.clone()),
                    namespace: Some(namespace.clone()),
                    name: Some(cluster.clone()),
                    uid: Some(uid.clone()),
                    ..ObjectReference::default()
                }),
                reporting_controller: Some("kubectl-backup.io/backup-webhook".to_owned()),
                reporting_instance: Some("backup-webhook".to_owned()),
                type_: Some(if *is_warning { "Warning" } else { "Normal" }.to_owned()),
                ..Event::default()
            };
            let api: Api<Event> = Api::namespaced(client.clone(), namespace);
            api.create(&PostParams::default(), &event).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// What lies in our own namespace.
pub(super) async fn of_ours(client: &Client, carrier: &Carrier, write: &Write) -> kube::Result<()> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &carrier.namespace);
    match write {
        Write::Order {
            name,
            resource_version,
            order,
        } => {
            let text = serde_json::to_string(order).map_err(kube::Error::SerdeError)?;
            let entry = Entry {
                name,
                cluster: &order.cluster.uid,
                resource_version: resource_version.as_deref(),
                key: ORDER_KEY,
                text,
            };
            entry.write(client, &carrier.namespace).await
        }
        Write::Record {
            name,
            cluster,
            resource_version,
            text,
        } => {
            let entry = Entry {
                name,
                cluster,
                resource_version: resource_version.as_deref(),
                key: RELEASED_KEY,
                text: text.clone(),
            };
            entry.write(client, &carrier.namespace).await
        }
        Write::Job {
            name,
            cluster,
            order,
            image,
        } => {
            let job = job(name, cluster, order, image, carrier.pull_secret.as_deref())
                .map_err(kube::Error::SerdeError)?;
            jobs.create(&PostParams::default(), &job).await.map(drop)
        }
        Write::StopJob { name, uid, .. } => {
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            jobs.delete(name, &params).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// One key of the ConfigMap of a cluster.
struct Entry<'a> {
    name: &'a str,
    cluster: &'a str,
    resource_version: Option<&'a str>,
    key: &'a str,
    text: String,
}

impl Entry<'_> {
    async fn write(&self, client: &Client, namespace: &str) -> kube::Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let Some(version) = self.resource_version else {
            let labels = [
                ("app.kubernetes.io/managed-by", "kubectl-backup"),
                (WORK_LABEL, self.cluster),
            ];
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(self.name.to_owned()),
                    labels: Some(
                        labels
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .into(),
                    ),
                    ..ObjectMeta::default()
                },
                data: Some([(self.key.to_owned(), self.text.clone())].into()),
                ..ConfigMap::default()
            };
            return maps.create(&PostParams::default(), &map).await.map(drop);
        };
        let patch = json!({ "metadata": { "resourceVersion": version }, "data": { self.key: self.text } });
        let patched = maps
            .patch(self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.map(drop)
    }
}
