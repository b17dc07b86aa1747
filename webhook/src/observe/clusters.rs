//! Clusters, and the decisions about their backup storage.
//!
//! Of a cluster its metadata is kept, of a decision everything. Kinds are watched in whatever version is served today;
//! that a kind is not installed is an answer like any other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backup_plan::disposition::{Cluster, Kind};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{PartialObjectMeta, Status};
use kube::discovery::oneshot;
use kube::error::DiscoveryError;
use kube::{Api, Client, Error};
use kube_runtime::watcher;
use velero_model::api::StorageDisposition;

use super::{Health, Table, Unreadable, config, feed};
use crate::decide::world::Known;

/// One round of reads takes this long at most, well under the deadline of the gate.
const DEADLINE: Duration = Duration::from_secs(2);

/// What the gate knows without asking.
#[derive(Debug, Default)]
pub struct Clusters {
    kinds: OnceLock<Vec<Watched>>,
    /// Decisions, by namespace and name.
    pub dispositions: Arc<Table<StorageDisposition>>,
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    table: Arc<Table<Cluster>>,
}

impl Clusters {
    /// Starts to watch these kinds; the first call counts.
    pub(super) fn start(&self, client: &Client, kinds: &[Kind]) {
        let watched = kinds.iter().map(|kind| Watched {
            kind: kind.clone(),
            table: Arc::default(),
        });
        if self.kinds.set(watched.collect()).is_err() {
            return;
        }
        for Watched { kind, table } in self.kinds() {
            let (group, name) = (kind.group.clone(), kind.kind.clone());
            let (kind, client) = (kind.clone(), client.clone());
            feed(
                table,
                move || watch(client.clone(), kind.clone()),
                move |object: PartialObjectMeta<DynamicObject>| {
                    Ok(Cluster::of(&group, &name, object.metadata))
                },
            );
        }
        let dispositions: Api<DynamicObject> =
            Api::all_with(client.clone(), &ApiResource::erase::<StorageDisposition>(&()));
        feed(
            &self.dispositions,
            move || watcher(dispositions.clone(), config()),
            |object: DynamicObject| {
                let mut object: StorageDisposition = object
                    .try_parse()
                    .map_err(|error| Unreadable(error.to_string()))?;
                object.metadata.managed_fields = None;
                Ok(object)
            },
        );
    }

    fn kinds(&self) -> &[Watched] {
        self.kinds.get().map_or(&[], Vec::as_slice)
    }

    /// Each kind and how its table stands. The kinds of clusters are one line: the worst of them.
    pub(super) fn health(&self) -> Vec<(&'static str, Health)> {
        let Some(kinds) = self.kinds.get() else {
            return Vec::new();
        };
        let worst = kinds.iter().map(|watched| watched.table.health());
        let worst = worst.max_by_key(|health| match health {
            Health::NotServed => 0,
            Health::InStep => 1,
            Health::Lost { .. } => 2,
            Health::Starting(_) => 3,
        });
        vec![
            ("clusters", worst.unwrap_or(Health::NotServed)),
            ("storagedispositions", self.dispositions.health()),
        ]
    }

    /// What was watched, of one namespace or of all; none until everything was read once.
    pub fn known(&self, namespace: Option<&str>) -> Option<Known> {
        let kinds = self.kinds.get()?;
        let is_warm = self.dispositions.health().has_answer()
            && kinds.iter().all(|watched| watched.table.health().has_answer());
        is_warm.then(|| Known {
            clusters: kinds
                .iter()
                .flat_map(|watched| rows(&watched.table, namespace))
                .collect(),
            dispositions: rows(&self.dispositions, namespace),
        })
    }

    /// What the API server says now, of one namespace or of all, in one round.
    ///
    /// # Errors
    /// Why it could not be read, as a clause.
    pub async fn read(&self, client: &Client, namespace: Option<&str>) -> Result<Known, String> {
        match tokio::time::timeout(DEADLINE, self.round(client, namespace)).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(error)) => Err(format!("the API server says: {error}")),
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    }

    async fn round(&self, client: &Client, namespace: Option<&str>) -> kube::Result<Known> {
        let clusters = self
            .kinds()
            .iter()
            .map(|watched| list_clusters(client, &watched.kind, namespace));
        let dispositions: Api<StorageDisposition> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let params = ListParams::default();
        let (clusters, dispositions) = futures::try_join!(futures::future::try_join_all(clusters), async {
            or_not_served(dispositions.list(&params).await)
        })?;
        Ok(Known {
            clusters: clusters.into_iter().flatten().collect(),
            dispositions: dispositions.map(|list| list.items).unwrap_or_default(),
        })
    }
}

fn rows<T: Clone>(table: &Table<T>, namespace: Option<&str>) -> Vec<T> {
    match namespace {
        Some(namespace) => {
            let rows = table.in_namespace(namespace).into_iter();
            rows.map(|(_, fact)| T::clone(&fact)).collect()
        }
        None => table.all().iter().map(|fact| T::clone(fact)).collect(),
    }
}

async fn list_clusters(client: &Client, kind: &Kind, namespace: Option<&str>) -> kube::Result<Vec<Cluster>> {
    let Some(resource) = served(client, kind).await? else {
        return Ok(Vec::new());
    };
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let list = or_not_served(api.list_metadata(&ListParams::default()).await)?;
    let items = list.map(|list| list.items).unwrap_or_default().into_iter();
    Ok(items
        .map(|object| Cluster::of(&kind.group, &kind.kind, object.metadata))
        .collect())
}

fn or_not_served<T>(listed: kube::Result<T>) -> kube::Result<Option<T>> {
    match listed {
        Ok(list) => Ok(Some(list)),
        Err(Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kind in the first version that serves it.
pub(crate) async fn served(client: &Client, kind: &Kind) -> kube::Result<Option<ApiResource>> {
    let group = match oneshot::group(client, &kind.group).await {
        Ok(group) => group,
        Err(Error::Discovery(DiscoveryError::MissingApiGroup(_) | DiscoveryError::EmptyApiGroup(_))) => {
            return Ok(None);
        }
        Err(error) => return or_not_served(Err(error)),
    };
    let preferred = group.preferred_version().into_iter();
    let mut resources = preferred
        .chain(group.versions())
        .flat_map(|version| group.versioned_resources(version))
        .map(|(resource, _)| resource);
    Ok(resources.find(|resource| resource.plural == kind.plural))
}

fn watch(
    client: Client,
    kind: Kind,
) -> impl futures::Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<DynamicObject>>>> + Send {
    stream::once(async move {
        match served(&client, &kind).await {
            Ok(Some(resource)) => {
                let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
                Ok(watcher(api, config()))
            }
            Ok(None) => {
                let status = Status::failure("the kind is not served", "NotFound").with_code(404);
                Err(watcher::Error::InitialListFailed(Error::Api(status.boxed())))
            }
            Err(error) => Err(watcher::Error::InitialListFailed(error)),
        }
    })
    .try_flatten()
    .boxed()
}
