//! Applications to protect: real in shape, accepted by a kube-apiserver without kubelets.
//!
//! The YAML lies in `fixtures/applications`, readable as a user would write it. What YAML cannot say (an owner's uid) and
//! what would be long (ballast) is made here.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::{Cluster, base64};

/// A web shop: namespace `web-shop`.
pub const WEB_SHOP: &str = include_str!("../fixtures/applications/web-shop.yaml");
/// A database with claims and volumes: namespace `database`.
pub const DATABASE: &str = include_str!("../fixtures/applications/database.yaml");
/// Roles of people and policies of the cluster; no namespace of its own but `platform`.
pub const RBAC: &str = include_str!("../fixtures/applications/rbac.yaml");
const KIOSK: &str = include_str!("../fixtures/applications/kiosk.yaml");
const OPERATOR: &str = include_str!("../fixtures/applications/operator.yaml");

/// The namespaces that [`install_all`] makes.
pub const NAMESPACES: [&str; 4] = ["web-shop", "database", "operator", "platform"];

/// Installs all four applications and waits until their controllers have nothing left to do.
pub fn install_all(cluster: &Cluster) -> Result<()> {
    install_web_shop(cluster)?;
    install_database(cluster)?;
    install_operator(cluster)?;
    cluster.apply(RBAC)?;
    let aggregated = "/apis/rbac.authorization.k8s.io/v1/clusterroles/platform-operators";
    cluster.wait_until("the aggregated role to have rules", |cluster| {
        let role = cluster.get(aggregated)?;
        Ok(role.and_then(|role| {
            role.pointer("/rules")
                .and_then(Value::as_array)
                .map(|rules| !rules.is_empty())
        }) == Some(true))
    })
}

/// Installs the web shop and waits for its ReplicaSets and the Job's pod.
pub fn install_web_shop(cluster: &Cluster) -> Result<()> {
    cluster.apply(WEB_SHOP)?;
    let pods = "/api/v1/namespaces/web-shop/pods";
    cluster.wait_until("the shop's seven pods to be made", |cluster| {
        Ok(cluster.list(pods)?.len() >= 7)
    })
}

/// Installs the database and waits until its claims are bound.
pub fn install_database(cluster: &Cluster) -> Result<()> {
    cluster.apply(DATABASE)?;
    let claims = "/api/v1/namespaces/database/persistentvolumeclaims";
    cluster.wait_until("three claims to be bound", |cluster| {
        let claims = cluster.list(claims)?;
        Ok(claims
            .iter()
            .filter(|claim| claim.pointer("/status/phase") == Some(&json!("Bound")))
            .count()
            >= 3)
    })
}

/// Installs an operator's definitions and objects: a `Fountain` that owns a ConfigMap and a Secret, whose references carry
/// the uid that the server gave their owner.
pub fn install_operator(cluster: &Cluster) -> Result<()> {
    let (definitions, objects) = OPERATOR
        .split_once("# --- objects of the definitions above\n")
        .context("operator.yaml lacks the line between definitions and objects")?;
    cluster.apply(definitions)?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/fountains.water.example.com",
        "crd/waterworks.water.example.com",
    ])?;
    cluster.wait_until("the definitions to be served", |cluster| {
        Ok(cluster
            .get("/apis/water.example.com/v1/namespaces/operator/fountains")?
            .is_some())
    })?;
    cluster.apply(objects)?;
    let fountain = "/apis/water.example.com/v1/namespaces/operator/fountains/market-square";
    let owner = cluster
        .get(fountain)?
        .with_context(|| format!("{fountain} is not there"))?;
    let uid = owner
        .pointer("/metadata/uid")
        .context("the fountain has no uid")?;
    let reference = json!({
        "apiVersion": "water.example.com/v1", "kind": "Fountain", "name": "market-square", "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let metadata = |name: &str| json!({ "name": name, "namespace": "operator", "labels": { "fountain": "market-square" }, "ownerReferences": [reference] });
    cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("market-square-schedule"),
        "data": { "open": "08:00", "close": "22:00" },
    }))?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata("market-square-valve"),
        "data": { "code": base64(b"4711") },
    }))?;
    // The status subresource, as the operator itself would write it.
    let status = json!({ "status": { "phase": "Running", "observedLitres": 1200 } });
    cluster.patch(&format!("{fountain}/status"), status).map(drop)
}

/// Installs the kiosk: namespace `kiosk`, a custom resource that owns a ConfigMap, bound claims, a running pod. Needs no
/// controllers.
pub fn install_kiosk(cluster: &Cluster) -> Result<()> {
    cluster.apply(KIOSK)?;
    let vouchers = "/apis/kiosk.example.com/v1/namespaces/kiosk/vouchers";
    cluster.wait_until("vouchers to be served", |cluster| {
        Ok(cluster.get(vouchers)?.is_some())
    })?;
    let voucher = cluster.create(json!({
        "apiVersion": "kiosk.example.com/v1", "kind": "Voucher",
        "metadata": { "name": "birthday", "namespace": "kiosk", "labels": { "app": "kiosk" } }, "spec": { "euros": 20 },
    }))?;
    let reference = json!({
        "apiVersion": "kiosk.example.com/v1", "kind": "Voucher", "name": "birthday", "uid": voucher["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "code": "HAPPY" },
        "metadata": { "name": "birthday-code", "namespace": "kiosk", "ownerReferences": [reference] },
    }))?;
    // What controllers and a kubelet would write.
    for (object, phase) in [
        ("persistentvolumes/kiosk-stock", "Bound"),
        ("persistentvolumes/kiosk-ledger", "Bound"),
        ("namespaces/kiosk/persistentvolumeclaims/stock", "Bound"),
        ("namespaces/kiosk/persistentvolumeclaims/ledger", "Bound"),
        ("namespaces/kiosk/pods/seller-0", "Running"),
    ] {
        cluster.patch(
            &format!("/api/v1/{object}/status"),
            json!({ "status": { "phase": phase } }),
        )?;
    }
    Ok(())
}

/// Creates `count` objects of about 1 KiB in namespaces `ballast-0` to `ballast-<namespaces - 1>`: seven in ten are
/// ConfigMaps, two Secrets, one is a Role. Gives the time that the objects took (without the namespaces).
pub fn ballast(cluster: &Cluster, count: usize, namespaces: usize) -> Result<Duration> {
    let namespaces = namespaces.max(1);
    cluster.create_many(namespaces, |number| {
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": format!("ballast-{number}"), "labels": { "ballast": "true" } } })
    })?;
    cluster.create_many(count, move |number| ballast_object(number, namespaces))
}

/// The object number `number` of the ballast.
pub fn ballast_object(number: usize, namespaces: usize) -> Value {
    let metadata = json!({
        "name": format!("ballast-{number:06}"),
        "namespace": format!("ballast-{}", number % namespaces),
        "labels": { "app.kubernetes.io/name": "ballast", "tenth": (number % 10).to_string() },
    });
    // Differs from object to object and compresses about as well as configuration does.
    let mut text = String::new();
    for line in 0..20 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "setting-{line:02}.of.{number:06} = value-{:08x}",
            number * 7919 + line
        );
    }
    match number % 10 {
        0..=6 => {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "settings": text } })
        }
        7 | 8 => {
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": { "settings": base64(text.as_bytes()) } })
        }
        _ => json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": [format!("ballast-{number:06}")] }],
        }),
    }
}

/// Deletes what [`install_all`] made, as a disaster or a careless person would, and waits until it is gone. The operator's
/// finalizer is taken off first, since no operator runs that would do it.
pub fn delete_all(cluster: &Cluster) -> Result<()> {
    for fountain in cluster.list("/apis/water.example.com/v1/fountains")? {
        let text = |pointer: &str| {
            fountain
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let path = format!("/apis/water.example.com/v1/namespaces/{namespace}/fountains/{name}");
        cluster.patch(&path, json!({ "metadata": { "finalizers": null } }))?;
    }
    let namespaces = NAMESPACES.map(|name| format!("/api/v1/namespaces/{name}"));
    let paths = namespaces.iter().map(String::as_str).chain(CLUSTER_SCOPED);
    for path in paths.clone() {
        cluster.delete(path)?;
    }
    // A volume is only let go when its claim is gone, hence the waiting comes after all deletions.
    for path in paths {
        cluster.wait_until_gone(path)?;
    }
    Ok(())
}

const CLUSTER_SCOPED: [&str; 18] = [
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/fountains.water.example.com",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/waterworks.water.example.com",
    "/apis/scheduling.k8s.io/v1/priorityclasses/database",
    "/apis/storage.k8s.io/v1/storageclasses/local-retained",
    "/api/v1/persistentvolumes/database-0",
    "/api/v1/persistentvolumes/database-1",
    "/api/v1/persistentvolumes/database-archive",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/platform-operators",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/platform-read-nodes",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/platform-operators",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/platform-checks",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/platform-defaults",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/platform-replicas",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/platform-replicas",
    "/apis/networking.k8s.io/v1/ingressclasses/nginx",
    "/apis/node.k8s.io/v1/runtimeclasses/sandboxed",
    "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/platform-batch",
    "/apis/water.example.com/v1/waterworks/north",
];
