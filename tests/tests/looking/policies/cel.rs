//! The policies as a MutatingAdmissionPolicy: what a real API server makes of it is what the rules say.

use anyhow::{Context, Result, bail};
use backup_plan::volumes::{
    NamespaceFacts, PodFacts, Policy, Rules,
    cel::{self, Options, Version},
};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use serde_json::{Value, json};
use velero_model::api::VolumeBackupPolicy;

use super::{Bench, annotation, corpus, start, start_without_effect};

/// Pods of the corpus for each set of policies.
const PODS: usize = 250;

/// Namespaces with every label that decides.
const NAMESPACES: [(&str, &[(&str, &str)]); 5] = [
    ("plain", &[]),
    ("team-a", &[("team", "a")]),
    (
        "team-b",
        &[("team", "b"), ("kubectl-backup.io/volumes", "include")],
    ),
    ("included", &[("kubectl-backup.io/volumes", "include")]),
    (
        "excluded",
        &[("team", "a"), ("kubectl-backup.io/volumes", "exclude")],
    ),
];

/// Policies that are rendered together, as name and spec.
fn sets() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let everything = json!({});
    let selected = json!({
        "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "In", "values": ["a", "b"] }] },
        "podSelector": { "matchLabels": { "app": "db" }, "matchExpressions": [
            { "key": "tier", "operator": "NotIn", "values": ["front"] }
        ] },
        "volumes": { "claimNames": ["data-*", "pg-?al", "scratch-tmp"] }
    });
    let folders = json!({
        "podSelector": { "matchExpressions": [
            { "key": "app", "operator": "Exists" }, { "key": "tier", "operator": "DoesNotExist" }
        ] },
        "volumes": { "types": ["EmptyDir", "Csi", "Nfs", "Ephemeral"] }
    });
    let no_scratch = json!({ "action": "Exclude", "volumes": { "claimNames": ["scratch-*", "*-logs"] } });
    let no_cache = json!({
        "action": "Exclude", "podSelector": { "matchLabels": { "app": "cache" } },
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["plain"] }
        ] },
        "volumes": { "types": ["PersistentVolumeClaim", "EmptyDir"] }
    });
    let named_folders =
        json!({ "volumes": { "types": ["EmptyDir", "Ephemeral"], "claimNames": ["web-*-data"] } });
    vec![
        ("everything", vec![("everything", everything.clone())]),
        ("selected", vec![("selected", selected.clone())]),
        (
            "together",
            vec![
                ("everything", everything),
                ("folders", folders),
                ("no-scratch", no_scratch.clone()),
                ("no-cache", no_cache),
                ("selected", selected),
            ],
        ),
        ("names", vec![("named-folders", named_folders)]),
        ("exclusions", vec![("no-scratch", no_scratch)]),
    ]
}

fn compiled(name: &str, spec: &Value) -> Result<Policy> {
    let policy: VolumeBackupPolicy = serde_json::from_value(json!({
        "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
        "metadata": { "name": name, "generation": 1 }, "spec": spec
    }))?;
    Ok(Policy::compile(&policy)?)
}

/// What the rules give a pod: its own list, or that with what is added.
fn expected(rules: &Rules, pod: &Value, labels: &[(&str, &str)]) -> Result<Option<String>> {
    let json = pod.to_string();
    let facts = PodFacts::parse(json.as_bytes())?;
    let name = pod["metadata"]["namespace"].as_str().context("a namespace")?;
    let mut all: std::collections::BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    all.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    let namespace = NamespaceFacts {
        name,
        labels: Some(&all),
    };
    let decision = rules.decide(&facts, namespace, &|_| None);
    Ok(decision
        .annotation()
        .or_else(|| annotation(pod).map(str::to_owned)))
}

/// A pod that every rendering annotates, because its label says so.
fn probe() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "probe", "namespace": "plain", "labels": { "kubectl-backup.io/volumes": "include" } },
        "spec": {
            "containers": [{ "name": "a", "image": "a", "volumeMounts": [{ "name": "probed", "mountPath": "/a" }] }],
            "volumes": [{ "name": "probed", "persistentVolumeClaim": { "claimName": "probed" } }]
        }
    })
}

fn wait_until_active(cluster: &Cluster, is_active: bool) -> Result<()> {
    cluster.wait_until("the admission policy to take hold", |cluster| {
        let pod = cluster.create_dry(probe())?;
        Ok(annotation(&pod).is_some() == is_active)
    })
}

fn collection(version: Version, kind: &str) -> String {
    format!("/apis/admissionregistration.k8s.io/{}/{kind}", version.word())
}

/// The newest version that an API server has policies in: v1 from Kubernetes 1.36, and before what its flags switch on.
fn newest(cluster: &Cluster) -> Result<Version> {
    for version in Version::NEWEST_FIRST {
        if cluster
            .get(&collection(version, "mutatingadmissionpolicies"))?
            .is_some()
        {
            return Ok(version);
        }
    }
    bail!("this API server serves no MutatingAdmissionPolicy")
}

/// Applies one set, sends the corpus through the API server and gives what differs.
fn differences(
    cluster: &Cluster,
    version: Version,
    set: &[(&str, Value)],
    dice: &mut corpus::Dice,
) -> Result<(Vec<String>, usize)> {
    let policies: Vec<Policy> = set
        .iter()
        .map(|(name, spec)| compiled(name, spec))
        .collect::<Result<_>>()?;
    let options = Options {
        version,
        exempt_namespaces: vec!["velero".to_owned()],
    };
    let rendered = cel::render(&policies.iter().collect::<Vec<_>>(), &[], &options)?;
    cluster.apply(&rendered.text)?;
    wait_until_active(cluster, true)?;
    let rules = Rules::new(policies, ["velero".to_owned()]);
    let (mut differences, mut added) = (Vec::new(), 0);
    for number in 0..PODS {
        let (namespace, labels) = NAMESPACES[dice.below(NAMESPACES.len())];
        let pod = corpus::pod(dice, number, namespace);
        let expected = expected(&rules, &pod, labels)?;
        let made = cluster.create_dry(pod.clone())?;
        if annotation(&made) != expected.as_deref() {
            differences.push(format!(
                "rules: {expected:?}, server: {:?}, pod: {pod}",
                annotation(&made)
            ));
        }
        added += usize::from(annotation(&made) != annotation(&pod));
    }
    if expected(&rules, &large(), &[])?.is_some() {
        let made = cluster.create_dry(large())?;
        let listed = annotation(&made).map_or(0, |list| list.split(',').count());
        assert_eq!(listed, 60, "a large pod is beyond the server's budget: {made:#}");
    }
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        let collection = collection(version, kind);
        for object in cluster.list(&collection)? {
            let name = object["metadata"]["name"].as_str().context("a name")?;
            cluster.delete(&format!("{collection}/{name}"))?;
        }
    }
    wait_until_active(cluster, false)?;
    Ok((differences, added))
}

#[test]
fn an_api_server_gives_every_pod_what_the_rules_give_it() -> Result<()> {
    let seed = match std::env::var("KUBECTL_BACKUP_TEST_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => u64::from(std::process::id()) ^ 0x5eed,
    };
    println!("KUBECTL_BACKUP_TEST_SEED={seed} repeats this");
    let cluster = start(false)?;
    for (name, labels) in NAMESPACES {
        let labels: serde_json::Map<String, Value> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
            .collect();
        cluster.create(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels }
        }))?;
    }
    let version = newest(&cluster)?;
    let mut dice = corpus::Dice::new(seed);
    for (name, set) in sets() {
        let (differences, added) =
            differences(&cluster, version, &set, &mut dice).with_context(|| format!("set {name}"))?;
        println!(
            "set {name} as {}: {PODS} pods, {added} of them annotated, {} differences",
            version.word(),
            differences.len()
        );
        assert!(added > 0, "set {name} annotates nothing, so it shows nothing");
        assert!(
            differences.is_empty(),
            "seed {seed}, set {name}: {} of {PODS} pods differ, such as\n{}",
            differences.len(),
            differences[..differences.len().min(5)].join("\n")
        );
    }
    Ok(())
}

/// A pod of 60 claims that each of its 8 containers mounts.
fn large() -> Value {
    let names: Vec<String> = (0..60).map(|number| format!("data-{number}")).collect();
    let mounts: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "mountPath": format!("/mnt/{name}") }))
        .collect();
    let volumes: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
        .collect();
    let containers: Vec<Value> = (0..8)
        .map(|number| json!({ "name": format!("c-{number}"), "image": "a", "volumeMounts": mounts }))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "large", "namespace": "plain" },
        "spec": { "containers": containers, "volumes": volumes }
    })
}

#[test]
fn a_policy_is_rendered_and_what_is_missed_is_said() -> Result<()> {
    let bench = Bench::new()?;
    let include = bench.policy("data", json!({ "volumes": { "claimNames": ["data-*"] } }))?;
    let exclude = bench.policy(
        "no-wal",
        json!({ "action": "Exclude", "volumes": { "claimNames": ["wal-*"] } }),
    )?;
    // What the cluster serves is written without being asked.
    let version = newest(bench.cluster)?;
    let word = version.word();
    bench
        .plugin
        .run(["policy", "explain", &include, "--as-cel"])?
        .ok()
        .stdout_has(&format!(
            "apiVersion: admissionregistration.k8s.io/{word}\nkind: MutatingAdmissionPolicy\n"
        ))
        .stderr_has(&exclude);
    let ran = bench
        .plugin
        .run([
            "policy",
            "explain",
            &include,
            &exclude,
            "--as-cel",
            "--cel-version",
            "v1alpha1",
        ])?
        .ok();
    assert!(
        ran.stdout.contains("k8s.io/v1alpha1\n")
            && ran.stdout.contains(&format!("# whether policy {exclude}"))
    );
    assert!(!ran.stderr.contains(&format!("({exclude})")), "{ran}");
    // Applied as it is, it annotates.
    let rendered = bench
        .plugin
        .run(["policy", "explain", &include, "--as-cel"])?
        .ok();
    let ours = format!("kubectl-backup-{include}");
    bench.cluster.apply(&rendered.stdout)?;
    bench.cluster.wait_until("the policy to take hold", |cluster| {
        let pod = super::database(bench.namespace.name(), "db-0", &json!({}));
        Ok(annotation(&cluster.create_dry(pod)?) == Some("data"))
    })?;
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        let path = format!("{}/{ours}", collection(version, kind));
        assert!(bench.cluster.get(&path)?.is_some(), "{path}");
        bench.cluster.delete(&path)?;
    }
    bench.cluster.wait_until("the policy to be gone", |cluster| {
        let pod = super::database(bench.namespace.name(), "db-0", &json!({}));
        Ok(annotation(&cluster.create_dry(pod)?).is_none())
    })
}

#[test]
fn an_older_api_server_gets_the_version_that_it_serves() -> Result<()> {
    let cluster = start_without_effect("v1alpha1")?;
    let policy = json!({
        "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
        "metadata": { "name": "everything" }, "spec": {}
    });
    cluster.create(policy)?;
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    let word = newest(&cluster)?.word();
    let rendered = plugin
        .run(["policy", "explain", "everything", "--as-cel"])?
        .ok()
        .stdout_has(&format!("apiVersion: admissionregistration.k8s.io/{word}\n"));
    // Taken as it is. Whether it takes hold is not to be seen: these versions of the server act by v1beta1 alone.
    cluster.apply(&rendered.stdout)?;
    let ours = collection(newest(&cluster)?, "mutatingadmissionpolicies");
    assert_eq!(cluster.list(&ours)?.len(), 1);
    Ok(())
}

#[test]
fn what_cel_cannot_see_is_refused_with_the_field() -> Result<()> {
    let bench = Bench::new()?;
    for (name, rule, field) in [
        (
            "class",
            json!({ "storageClasses": ["fast"] }),
            "volumes.storageClasses",
        ),
        (
            "large",
            json!({ "minimumCapacity": "1Gi" }),
            "volumes.minimumCapacity",
        ),
        (
            "small",
            json!({ "maximumCapacity": "1Gi" }),
            "volumes.maximumCapacity",
        ),
    ] {
        let policy = bench.policy(name, json!({ "volumes": rule }))?;
        let ran = bench.plugin.run(["policy", "explain", &policy, "--as-cel"])?;
        ran.exits(4).stderr_has(field);
    }
    Ok(())
}
