//! Into another namespace, another cluster, another version: what is mapped, what the user's rules change, what only a
//! person can decide and is reported, and objects in versions that the cluster does not serve.

use std::sync::Arc;

use anyhow::{Context, Result};
use backup_engine::restore::{RestoreRequest, RestoreSummary};
use backup_engine::storage::Put;
use backup_plan::restore::modifier::Modifiers;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::runtime;
use backup_tests::store::Store;
use serde_json::{Value, json};
use velero_model::backup::Backup;
use velero_model::member::{MemberBuilder, deflate};
use velero_model::phase::Phase;

use crate::site::{Site, assert_completed, config_map, object, of_namespaces, path, request};

fn pair(from: &str, to: &str) -> std::collections::BTreeMap<String, String> {
    [(from.to_owned(), to.to_owned())].into()
}

fn said(summary: &RestoreSummary) -> String {
    summary.warnings.join("\n")
}

const RULES: &str = r"
version: v1
resourceModifierRules:
- conditions: {groupResource: deployments.apps, namespaces: [NAMESPACE]}
  strategicPatches:
  - patchData: |
      spec: {replicas: 0, template: {spec: {containers: [{name: web, env: [{name: MODE, value: copy}]}]}}}
- conditions:
    groupResource: configmaps
    matches: [{path: /data/mode, value: live}]
  patches:
  - {operation: replace, path: /data/mode, value: copy}
- conditions: {groupResource: secrets}
  mergePatches:
  - patchData: 'metadata: {labels: {never: used}}'
";

#[test]
fn a_copy_gets_other_classes_images_and_values_and_its_references_follow() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let name = namespace.name();
    let pod = json!({ "containers": [{ "name": "web", "image": "registry.old/team/web:1",
        "env": [{ "name": "DB", "value": format!("postgres://db.{name}.svc:5432") }] }] });
    cluster.create(json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": name },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod } } }))?;
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "fast-old",
            "resources": { "requests": { "storage": "1Gi" } } } }),
    )?;
    cluster.create(
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "own", "namespace": name },
        "spec": { "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": {
            "matchLabels": { "kubernetes.io/metadata.name": name } } }] }] } }),
    )?;
    let mut settings = config_map(&namespace, "settings", "1");
    settings["data"]["mode"] = "live".into();
    cluster.create(settings)?;
    site.back_up(cluster, "b", of_namespaces(&[name]))?;

    let target = format!("{name}-copy");
    let modifiers = Modifiers::parse(&RULES.replace("NAMESPACE", name))?;
    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            namespace_mappings: [
                (name.to_owned(), target.clone()),
                ("no-such".to_owned(), "elsewhere".to_owned()),
            ]
            .into(),
            storage_class_mappings: pair("fast-old", "fast-new"),
            image_mappings: pair("registry.old/team", "mirror.new/ours"),
            modifiers: Some(Arc::new(modifiers)),
            ..request("r")
        },
    )?;
    assert_completed(&summary);

    let web = object(
        cluster,
        &format!("/apis/apps/v1/namespaces/{target}/deployments/web"),
    )?;
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(web["spec"]["replicas"], 0);
    assert_eq!(container["image"], "mirror.new/ours/web:1");
    assert_eq!(container["env"].as_array().map(Vec::len), Some(2));
    let claim = object(cluster, &path(&target, "persistentvolumeclaims", "data"))?;
    assert_eq!(claim["spec"]["storageClassName"], "fast-new");
    let settings = object(cluster, &path(&target, "configmaps", "settings"))?;
    assert_eq!(settings["data"]["mode"], "copy");
    let policy = object(
        cluster,
        &format!("/apis/networking.k8s.io/v1/namespaces/{target}/networkpolicies/own"),
    )?;
    assert_eq!(
        policy["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        target.as_str()
    );

    let said = said(&summary);
    assert!(
        said.contains(&format!(
            "deployments.apps {target}/web: text that still names a mapped namespace was left as it is: \
             spec.template.spec.containers[web].env[DB].value ({name})"
        )),
        "{said}"
    );
    for idle in [
        "rule 3 of the resource modifiers matched nothing in this restore",
        "--namespace-mappings no-such:elsewhere matched nothing in this restore",
    ] {
        assert!(said.contains(idle), "{said}");
    }
    assert_eq!(said.matches("matched nothing").count(), 2, "{said}");
    cluster.delete(&format!("/api/v1/namespaces/{target}"))
}

#[test]
fn a_rule_that_cannot_be_applied_fails_its_objects_alone() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for name in ["one", "two"] {
        cluster.create(config_map(&namespace, name, "1"))?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let target = format!("{namespace}-copy");
    let rules = "version: v1\nresourceModifierRules:\n- conditions: {groupResource: configmaps, resourceNameRegex: ^one$}\n  \
                 patches: [{operation: remove, path: /data/missing}]";
    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            namespace_mappings: pair(namespace.name(), &target),
            modifiers: Some(Arc::new(Modifiers::parse(rules)?)),
            ..request("r")
        },
    )?;
    assert_eq!(summary.record.phase, Phase::PartiallyFailed);
    assert_eq!(summary.failures.len(), 1);
    assert_eq!(summary.failures[0].object, format!("configmaps {target}/one"));
    assert!(
        summary.failures[0]
            .reason
            .contains("rule 1 of the resource modifiers: the object has no /data/missing"),
        "{:?}",
        summary.failures
    );
    assert!(cluster.get(&path(&target, "configmaps", "one"))?.is_none());
    assert!(cluster.get(&path(&target, "configmaps", "two"))?.is_some());
    cluster.delete(&format!("/api/v1/namespaces/{target}"))
}

#[test]
fn a_kept_address_that_is_taken_is_refused_with_a_way_out() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": namespace.name() },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
    )?;
    let own = path(namespace.name(), "services", "web");
    let address = object(cluster, &own)?["spec"]["clusterIP"].clone();
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let target = format!("{namespace}-copy");
    let keeping = |restore: &str| RestoreRequest {
        namespace_mappings: pair(namespace.name(), &target),
        preserve_cluster_ips: true,
        ..request(restore)
    };
    let summary = site.restore(cluster, "b", keeping("taken"))?;
    assert_eq!(summary.failures.len(), 1, "{:?}", summary.failures);
    let reason = &summary.failures[0].reason;
    assert!(
        reason.contains("already allocated") && reason.contains("without --preserve-cluster-ips"),
        "{reason}"
    );
    cluster.delete(&own)?;
    cluster.wait_until_gone(&own)?;
    assert_completed(&site.restore(cluster, "b", keeping("free"))?);
    let copy = object(cluster, &path(&target, "services", "web"))?;
    assert_eq!(copy["spec"]["clusterIP"], address);
    cluster.delete(&format!("/api/v1/namespaces/{target}"))
}

/// Puts a backup as Velero writes it, of these files below `resources/`.
fn velero_backup(site: &Site, name: &str, files: &[(String, Value)]) -> Result<()> {
    let mut builder = MemberBuilder::new(0);
    builder.append("metadata/version", b"1.1.0\n")?;
    for (file, object) in files {
        builder.append(&format!("resources/{file}.json"), object.to_string().as_bytes())?;
    }
    let tarball = deflate(&[builder.take(), vec![0; 1024]].concat(), 6)?;
    let marker: Backup = serde_json::from_value(json!({
        "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": name, "namespace": "velero" },
        "status": { "version": 1, "formatVersion": "1.1.0", "phase": "Completed",
            "startTimestamp": "2026-11-22T01:00:00Z" },
    }))?;
    let marker = marker.to_bytes()?;
    let (bucket, folder) = (Arc::clone(&site.bucket), format!("backups/{name}"));
    let tarball_key = format!("{folder}/{name}.tar.gz");
    let marker_key = format!("{folder}/velero-backup.json");
    runtime::run(async move {
        for (key, bytes) in [(tarball_key, tarball), (marker_key, marker)] {
            let put = bucket.put(&key, bytes.into(), Put::default()).await?;
            anyhow::ensure!(put.is_stored(), "{key} is there already");
        }
        Ok(())
    })
}

#[test]
fn objects_of_versions_that_are_gone_come_from_copies_by_moves_or_are_refused() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let group = format!("{namespace}.example.com");
    let definition = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{group}");
    cluster.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{ "name": "v2", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] }
    }))?;
    cluster.wait_until("the things to be served", |cluster| {
        Ok(cluster.list(&format!("/apis/{group}/v2/things")).is_ok())
    })?;
    let of = |version: &str, kind: &str, name: &str, spec: Value| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": namespace.name() }, "spec": spec });
    let file = |folder: &str, name: &str| format!("{folder}/namespaces/{namespace}/{name}");
    let scaler = |version: &str| {
        let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
        let cpu = json!({ "type": "Resource", "resource": { "name": "cpu",
            "target": { "type": "Utilization", "averageUtilization": 60 } } });
        of(
            version,
            "HorizontalPodAutoscaler",
            "web",
            json!({ "scaleTargetRef": target, "maxReplicas": 4, "metrics": [cpu] }),
        )
    };
    let budget = |name: &str, selector: Value| {
        of(
            "policy/v1beta1",
            "PodDisruptionBudget",
            name,
            json!({ "maxUnavailable": 1, "selector": selector }),
        )
    };
    let old_ingress = |name: &str| {
        let backend = json!({ "serviceName": "web", "servicePort": 80 });
        of(
            "networking.k8s.io/v1beta1",
            "Ingress",
            name,
            json!({ "backend": backend }),
        )
    };
    let new_ingress = |name: &str| {
        let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
        of(
            "networking.k8s.io/v1",
            "Ingress",
            name,
            json!({ "defaultBackend": backend }),
        )
    };
    let job = json!({ "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "a", "image": "b" }] } } });
    let (ingresses, budgets) = ("ingresses.networking.k8s.io", "poddisruptionbudgets.policy");
    let files = [
        (
            file("horizontalpodautoscalers.autoscaling", "web"),
            scaler("autoscaling/v2beta2"),
        ),
        (
            file("cronjobs.batch", "nightly"),
            of(
                "batch/v1beta1",
                "CronJob",
                "nightly",
                json!({ "schedule": "0 1 * * *", "jobTemplate": { "spec": job } }),
            ),
        ),
        (
            file(budgets, "good"),
            budget("good", json!({ "matchLabels": { "app": "web" } })),
        ),
        (file(budgets, "all"), budget("all", json!({}))),
        (file(ingresses, "copied"), old_ingress("copied")),
        (
            file(&format!("{ingresses}/v1beta1-preferredversion"), "copied"),
            old_ingress("copied"),
        ),
        (file(&format!("{ingresses}/v1"), "copied"), new_ingress("copied")),
        (file(ingresses, "alone"), old_ingress("alone")),
        (
            file(&format!("things.{group}"), "one"),
            of(&format!("{group}/v1"), "Thing", "one", json!({ "size": 3 })),
        ),
    ];
    velero_backup(&site, "old", &files)?;
    let summary = site.restore(cluster, "old", request("r"))?;
    assert_eq!(
        summary.record.phase,
        Phase::PartiallyFailed,
        "{:?}",
        summary.failures
    );
    let live = |path: &str| object(cluster, &format!("/apis/{path}").replace("NS", namespace.name()));
    let scaler = live("autoscaling/v2/namespaces/NS/horizontalpodautoscalers/web")?;
    assert_eq!(
        scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        60
    );
    assert_eq!(
        live("batch/v1/namespaces/NS/cronjobs/nightly")?["spec"]["schedule"],
        "0 1 * * *"
    );
    let budget = live("policy/v1/namespaces/NS/poddisruptionbudgets/good")?;
    assert_eq!(budget["spec"]["selector"]["matchLabels"]["app"], "web");
    let copied = live("networking.k8s.io/v1/namespaces/NS/ingresses/copied")?;
    assert_eq!(copied["spec"]["defaultBackend"]["service"]["name"], "web");

    let reason = |object: &str| {
        let failed = summary.failures.iter().find(|failure| failure.object == object);
        failed
            .map(|failure| failure.reason.clone())
            .context(object.to_owned())
    };
    assert_eq!(summary.failures.len(), 3, "{:?}", summary.failures);
    for (object, parts) in [
        (
            format!("{budgets} {namespace}/all"),
            vec!["empty selector", "version v1 only"],
        ),
        (
            format!("{ingresses} {namespace}/alone"),
            vec![
                "in version networking.k8s.io/v1beta1",
                "pathType is required",
                "convert the object to networking.k8s.io/v1",
            ],
        ),
        (
            format!("things.{group} {namespace}/one"),
            vec!["it serves", "example.com/v2", "apply it by hand"],
        ),
    ] {
        let reason = reason(&object)?;
        for part in parts {
            assert!(reason.contains(part), "{object}: {reason}");
        }
    }
    let said = said(&summary);
    for part in [
        "ingresses.networking.k8s.io: the cluster does not serve version v1beta1; restored from the copies in version v1",
        "cronjobs.batch: the cluster does not serve version v1beta1; restored in version v1",
    ] {
        assert_eq!(said.matches(part).count(), 1, "{said}");
    }
    cluster.delete(&definition)?;
    cluster.wait_until_gone(&definition)
}

#[test]
fn modifiers_come_from_a_file_or_a_config_map_and_faults_end_the_restore_before_it_begins() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (store, namespace) = (Store::folder()?, cluster.namespace()?);
    let velero = cluster.namespace()?;
    let plugin = Plugin::new(cluster, &store)?;
    cluster.create(config_map(&namespace, "prices", "1"))?;
    plugin.run(["create", "b", "-n", namespace.name()])?.ok();
    let rules = "version: v1\nresourceModifierRules:\n- conditions: {groupResource: configmaps}\n  \
                 mergePatches: [{patchData: '{data: {a: changed}}'}]\n";
    std::fs::write(plugin.home().join("rules.yaml"), rules)?;
    std::fs::write(
        plugin.home().join("bad.yaml"),
        rules.replace("conditions: {groupResource: configmaps}", "conditions: {}"),
    )?;
    let map = |name: &str, data: Value| {
        cluster.create(json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": velero.name() }, "data": data }))
    };
    map("rules", json!({ "any-key": rules }))?;
    map("two", json!({ "a": rules, "b": rules }))?;
    let copy = |number: usize| format!("{namespace}-copy{number}");
    let restore = |number: usize, flag: &str, value: &str| {
        let mapping = format!("{namespace}:{}", copy(number));
        plugin.run([
            "restore",
            "b",
            "--namespace-mappings",
            &mapping,
            "--velero-namespace",
            velero.name(),
            flag,
            value,
        ])
    };
    for (number, flag, value, code, text) in [
        (0, "--resource-modifier-file", "rules.yaml", 0, "Completed"),
        (1, "--resource-modifier-configmap", "rules", 0, "Completed"),
        (
            2,
            "--resource-modifier-file",
            "bad.yaml",
            2,
            "rule 1: conditions need a groupResource",
        ),
        (3, "--resource-modifier-file", "none.yaml", 1, "none.yaml"),
        (4, "--resource-modifier-configmap", "two", 2, "exactly one key"),
        (
            5,
            "--resource-modifier-configmap",
            "none",
            5,
            "there is no ConfigMap none",
        ),
        (6, "--image-mappings", "a:5000/x:b:5000/x", 2, "write OLD=NEW"),
        (7, "--storage-class-mappings", "fast", 2, "write OLD:NEW"),
    ] {
        let ran = restore(number, flag, value)?.exits(code);
        if code == 0 {
            ran.stdout_has(text);
            let live = object(cluster, &path(&copy(number), "configmaps", "prices"))?;
            assert_eq!(live["data"]["a"], "changed");
            cluster.delete(&format!("/api/v1/namespaces/{}", copy(number)))?;
        } else {
            ran.stderr_has(text);
            assert!(
                cluster
                    .get(&format!("/api/v1/namespaces/{}", copy(number)))?
                    .is_none(),
                "{value}"
            );
        }
    }
    Ok(())
}
