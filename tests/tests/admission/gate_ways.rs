//! All ways by which a deletion arrives: as a collection, with the namespace, with the owner, with the CRD; and what
//! clusters' backups lie in.

use anyhow::{Result, ensure};
use backup_tests::cluster_api::{Workload, uid};
use serde_json::json;
use velero_model::api::{FINALIZER, HOLDS_CLUSTERS, PROTECTED};

use crate::gate_site::{Prod, decider, operator, protect, site};

#[test]
fn a_collection_delete_takes_the_decided_and_spares_the_others() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let decided = Prod::protected(site, Workload::Cluster)?;
    decided.choose(&decider, "Retain")?.ok()?;
    let namespace = decided.namespace.name();
    protect(site.cluster, Workload::Cluster, namespace, "undecided")?;
    // The request has no name: the answer's names come from the objects.
    operator
        .delete(&Workload::Cluster.collection(namespace))?
        .forbidden(&["undecided", "kubectl backup cluster retain undecided"])?;
    let spared = site
        .cluster
        .get(&Workload::Cluster.path(namespace, "undecided"))?;
    ensure!(spared.is_some_and(|object| object["metadata"]["deletionTimestamp"].is_null()));
    // Some may go while others are refused.
    site.cluster.wait_until("the decided one to go", |cluster| {
        let _ = operator.delete(&decided.path)?;
        Ok(cluster
            .get(&decided.path)?
            .is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
    })?;
    decided.release(site.cluster)
}

#[test]
fn a_namespace_is_refused_before_anything_in_it_is_gone() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let home = format!("/api/v1/namespaces/{}", prod.namespace);
    site.cluster.patch(
        &home,
        json!({ "metadata": { "labels": { HOLDS_CLUSTERS: "true" } } }),
    )?;
    for name in ["a", "b", "c"] {
        protect(
            site.cluster,
            Workload::TanzuKubernetesCluster,
            prod.namespace.name(),
            name,
        )?;
    }
    let first = operator.delete(&home)?.forbidden(&["4 clusters", "and 1 more"])?;
    ensure!(
        first
            == operator
                .delete_with(&home, &json!({ "dryRun": ["All"] }))?
                .forbidden(&[])?
    );
    let alive = site.cluster.get(&home)?.unwrap_or_default();
    ensure!(alive["metadata"]["deletionTimestamp"].is_null(), "{alive}");
    // With a choice about each it goes, and the choices stay as long as their clusters.
    prod.choose(&decider, "Retain")?.ok()?;
    for name in ["a", "b", "c"] {
        let other = Workload::TanzuKubernetesCluster.path(prod.namespace.name(), name);
        decider
            .annotate(&other, velero_model::api::DISPOSITION, "Retain")?
            .ok()?;
    }
    operator.delete(&home)?.ok()?;
    let ours = site.cluster.person(crate::gate_site::ACCOUNT)?;
    site.cluster.wait_until("the clusters to be going", |cluster| {
        Ok(cluster
            .get(&prod.path)?
            .is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
    })?;
    let strip = json!({ "metadata": { "finalizers": [] } });
    let _ = ours.patch(&prod.path, &strip)?;
    for name in ["a", "b", "c"] {
        let path = Workload::TanzuKubernetesCluster.path(prod.namespace.name(), name);
        site.cluster.wait_until("the others to be going", |cluster| {
            Ok(cluster
                .get(&path)?
                .is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
        })?;
        let _ = ours.patch(&path, &strip)?;
    }
    site.cluster.wait_until_gone(&home)
}

#[test]
fn in_a_terminating_namespace_the_cluster_still_stays_and_the_namespace_says_why() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let home = format!("/api/v1/namespaces/{}", prod.namespace);
    // The reconciler labels the namespace; whoever is quicker finds the cluster itself.
    let strip = json!({ "metadata": { "labels": { HOLDS_CLUSTERS: null } } });
    crate::gate_site::until_ok(|| {
        site.cluster.patch(&home, strip.clone())?;
        operator.delete(&home)
    })?;
    let [retain, _] = prod.commands();
    site.cluster
        .wait_until("the namespace to say why it stays", |cluster| {
            let namespace = cluster.get(&home)?.unwrap_or_default();
            Ok(namespace["status"]["conditions"].to_string().contains(&retain))
        })?;
    let stays = site.cluster.get(&prod.path)?.unwrap_or_default();
    ensure!(stays["metadata"]["deletionTimestamp"].is_null(), "{stays}");
    // Nothing can be created in there any more: the annotation is the way out.
    decider
        .annotate(&prod.path, velero_model::api::DISPOSITION, "Retain")?
        .ok()?;
    site.cluster.wait_until("the cluster to be going", |cluster| {
        Ok(cluster
            .get(&prod.path)?
            .is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
    })?;
    prod.release(site.cluster)?;
    site.cluster.wait_until_gone(&home)
}

#[test]
fn what_its_owner_takes_along_goes_with_the_owners_choice_and_not_before() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let owner = Prod::protected(site, Workload::TanzuKubernetesCluster)?;
    let mut child = Workload::Cluster.object(owner.namespace.name(), "prod");
    child["metadata"]["annotations"] = json!({ PROTECTED: format!("main:{}/prod", owner.namespace) });
    child["metadata"]["finalizers"] = json!([FINALIZER]);
    child["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "run.tanzu.vmware.com/v1alpha3", "kind": "TanzuKubernetesCluster", "name": "prod",
        "uid": owner.uid, "controller": true, "blockOwnerDeletion": true,
    }]);
    uid(&site.cluster.create(child)?)?;
    let child = Workload::Cluster.path(owner.namespace.name(), "prod");
    operator.delete(&child)?.forbidden(&["prod"])?;
    operator.delete(&owner.path)?.forbidden(&["prod"])?;
    owner.choose(&decider, "Retain")?.ok()?;
    // The garbage collector takes the child first, with an account of its own. (After a background deletion the owner is
    // gone before its child is asked about: the child then needs a choice of its own.)
    operator
        .delete_with(&owner.path, &json!({ "propagationPolicy": "Foreground" }))?
        .ok()?;
    site.cluster
        .wait_until("the garbage collector to take the child", |cluster| {
            Ok(cluster
                .get(&child)?
                .is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
        })?;
    site.cluster
        .person(crate::gate_site::ACCOUNT)?
        .patch(&child, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    site.cluster.wait_until_gone(&child)?;
    owner.release(site.cluster)?;
    site.cluster.wait_until_gone(&owner.path)
}

#[test]
fn a_kind_stays_as_long_as_one_of_its_clusters_is_undecided() -> Result<()> {
    let site = site()?;
    let operator = operator(site.cluster)?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.cluster.x-k8s.io";
    for options in [json!({}), json!({ "dryRun": ["All"] })] {
        operator
            .delete_with(path, &options)?
            .forbidden(&["customresourcedefinition clusters.cluster.x-k8s.io", "cluster"])?;
    }
    ensure!(site.cluster.get(&prod.path)?.is_some());
    // Other kinds are nobody's business.
    let other =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/volumebackuppolicies.kubectl-backup.io";
    operator.delete_with(other, &json!({ "dryRun": ["All"] }))?.ok()?;
    Ok(())
}

#[test]
fn a_location_in_use_is_not_removed_unnoticed() -> Result<()> {
    let site = site()?;
    let operator = operator(site.cluster)?;
    let namespace = site.cluster.namespace()?;
    let name = format!("vault-{}", namespace.name());
    let location = |name: &str| {
        json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
            "metadata": { "name": name, "namespace": namespace.name() },
            "spec": { "provider": "aws", "objectStorage": { "bucket": "b" } },
        })
    };
    let path =
        |name: &str| format!("/apis/velero.io/v1/namespaces/{namespace}/backupstoragelocations/{name}");
    site.cluster.create(location(&name))?;
    site.cluster.create(location("unused"))?;
    let mut object = Workload::Cluster.object(namespace.name(), "prod");
    object["metadata"]["annotations"] = json!({ PROTECTED: format!("{name}:{namespace}/prod") });
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    site.cluster.create(object)?;
    let words = [name.as_str(), "prod", "undecided"];
    site.cluster.wait_until("the gate to know the cluster", |_| {
        let dry = json!({ "dryRun": ["All"] });
        Ok(operator.delete_with(&path(&name), &dry)?.code == 403)
    })?;
    operator.delete(&path(&name))?.forbidden(&words)?;
    operator.delete(&path("unused"))?.ok()?;
    Ok(())
}
