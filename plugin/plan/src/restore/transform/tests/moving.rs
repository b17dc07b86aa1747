//! Into another namespace, onto other storage, from other registries, and through the user's own rules.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};

use super::*;

fn mapped(options: &Options, api_version: &str, plural: &str, object: Value) -> Transformed {
    transform(&api(api_version, plural), object, options, &|_| VolumeFate::Kept)
}

#[test]
fn namespaces_are_mapped_in_selectors_and_nothing_else() {
    let selector = |name: &str| {
        json!({"matchLabels": {"kubernetes.io/metadata.name": name, "team": "shop"}, "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [name, "bank"]},
            {"key": "team", "operator": "In", "values": ["shop"]}]})
    };
    let policy = |name: &str| {
        json!({"spec": {"ingress": [{"from": [{"namespaceSelector": selector(name), "podSelector": {}}]}],
            "egress": [{"to": [{"namespaceSelector": selector(name)}]}]}})
    };
    let affinity = |name: &str| {
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"namespaces": [name, "bank"], "namespaceSelector": selector(name)}]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"podAffinityTerm": {"namespaces": [name]}}]}})
    };
    let hooks =
        |name: &str| json!({"webhooks": [{"sideEffects": "None", "namespaceSelector": selector(name)}]});
    let admission = |name: &str| json!({"spec": {"paramRef": {"namespace": name}, "matchResources": {"namespaceSelector": selector(name)}}});
    for (api_version, plural, before, after) in [
        (
            "networking.k8s.io/v1",
            "networkpolicies",
            policy("shop"),
            policy("shop2"),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "validatingwebhookconfigurations",
            hooks("shop"),
            hooks("shop2"),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "validatingadmissionpolicybindings",
            admission("shop"),
            admission("shop2"),
        ),
        (
            "v1",
            "pods",
            json!({"spec": {"affinity": affinity("shop")}}),
            json!({"spec": {"affinity": affinity("shop2")}}),
        ),
        (
            "apps/v1",
            "deployments",
            json!({"spec": {"template": {"spec": {"affinity": affinity("shop")}}}}),
            json!({"spec": {"template": {"spec": {"affinity": affinity("shop2")}}}}),
        ),
        ("x.io/v1", "xs", policy("shop"), policy("shop")),
    ] {
        assert_eq!(run(api_version, plural, before).body, after, "{plural}");
    }
}

/// The places of a note on text, without their names.
fn places(done: &Transformed) -> Vec<String> {
    let of = |note: &Note| match note {
        Note::NamespaceInText { places, .. } => places.clone(),
        _ => Vec::new(),
    };
    let named = done.notes.iter().flat_map(of);
    named.map(|place| place.replace(" (shop)", "")).collect()
}

#[test]
fn text_that_names_a_mapped_namespace_is_reported_with_its_path() {
    let container = json!({"name": "web", "image": "shop.io/web", "args": ["-n", "shop", "--host=db.shop.svc", "shop"],
        "command": ["run", "--namespace=shop"],
        "env": [{"name": "TARGET_NAMESPACE", "value": "shop"}, {"name": "APP", "value": "shop"},
            {"name": "URL", "value": "http://x.shop:80"}]});
    let deployment = json!({"metadata": {"name": "web", "annotations": {"hook": "https://h.shop.svc/x",
        "kubectl.kubernetes.io/last-applied-configuration": "http://x.shop:80"}},
        "spec": {"template": {"spec": {"containers": [container]}}}, "status": {"x": "a.shop.svc"}});
    let done = run("apps/v1", "deployments", deployment.clone());
    assert_eq!(
        places(&done),
        [
            "metadata.annotations.hook",
            "spec.template.spec.containers[web].args[1]",
            "spec.template.spec.containers[web].args[2]",
            "spec.template.spec.containers[web].command[1]",
            "spec.template.spec.containers[web].env[TARGET_NAMESPACE].value",
            "spec.template.spec.containers[web].env[URL].value",
        ]
    );
    assert_eq!(done.body["spec"], deployment["spec"], "text is left as it is");
    let secret = json!({"type": "Opaque", "data": {"url": BASE64.encode("postgres://u:p4ss@db.shop/x"),
        "word": BASE64.encode("shop"), "namespace": BASE64.encode("shop"), "bytes": "/w=="}});
    let done = run("v1", "secrets", secret);
    assert_eq!(places(&done), ["data.url"]);
    let said = done.notes[0].to_string();
    assert!(
        said.contains("data.url (shop)") && !said.contains("p4ss"),
        "{said}"
    );
    for (api_version, plural, object, expected) in [
        (
            "networking.k8s.io/v1",
            "ingresses",
            json!({"spec": {"rules": [{"host": "shop.example.com"}], "tls": [{"hosts": ["www.shop.com", "shopping.com"]}]}}),
            vec!["spec.rules[0].host", "spec.tls[0].hosts[0]"],
        ),
        (
            "v1",
            "services",
            json!({"spec": {"externalName": "db.shop.svc.cluster.local"}}),
            vec!["spec.externalName"],
        ),
        (
            "v1",
            "configmaps",
            json!({"data": {"app.yaml": "host: db.shop\n", "watchNamespace": "shop", "title": "shop"}}),
            vec!["data[app.yaml]", "data.watchNamespace"],
        ),
        (
            "shop.io/v1",
            "orders",
            json!({"spec": {"ref": {"namespace": "shop", "name": "shop"}}}),
            vec!["spec.ref.namespace"],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "rolebindings",
            json!({"subjects": [{"namespace": "shop"}]}),
            vec![],
        ),
    ] {
        assert_eq!(places(&run(api_version, plural, object)), expected, "{plural}");
    }
    let many: Map<String, Value> = (0..20)
        .map(|n| (format!("k{n:02}"), "a.shop.svc".into()))
        .collect();
    let done = run("v1", "configmaps", json!({"data": many}));
    assert_eq!(places(&done).len(), 8);
    assert!(done.notes[0].to_string().contains(" and 12 more;"));
}

#[test]
fn storage_classes_and_images_are_mapped_wherever_pods_and_claims_are_made() {
    let pair = |from: &str, to: &str| BTreeMap::from([(from.to_owned(), to.to_owned())]);
    let options = Options {
        storage_class_mapping: pair("fast", "slow"),
        image_mapping: pair("old.io/a", "new.io/b"),
        ..Options::default()
    };
    let claim = |class: &str| {
        json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": class}},
            "spec": {"storageClassName": class}})
    };
    let pod = |class: &str, image: &str| {
        json!({"containers": [{"image": image}, {"image": "other.io/x"}], "initContainers": [{"image": image}],
            "volumes": [{"ephemeral": {"volumeClaimTemplate": claim(class)}}, {"image": {"reference": image}}]})
    };
    let (before, after) = (pod("fast", "old.io/a/web:1"), pod("slow", "new.io/b/web:1"));
    let template = |pod: &Value| json!({"spec": {"template": {"spec": pod}}});
    let set = |pod: &Value, class: &str| json!({"spec": {"template": {"spec": pod}, "volumeClaimTemplates": [claim(class)]}});
    let cron = |pod: &Value| json!({"spec": {"jobTemplate": template(pod)}});
    for (api_version, plural, before, after) in [
        ("v1", "persistentvolumeclaims", claim("fast"), claim("slow")),
        ("v1", "persistentvolumes", claim("fast"), claim("slow")),
        ("v1", "persistentvolumeclaims", claim("faster"), claim("faster")),
        ("v1", "pods", json!({"spec": before}), json!({"spec": after})),
        (
            "v1",
            "podtemplates",
            json!({"template": {"spec": before}}),
            json!({"template": {"spec": after}}),
        ),
        (
            "apps/v1",
            "statefulsets",
            set(&before, "fast"),
            set(&after, "slow"),
        ),
        ("apps/v1", "deployments", template(&before), template(&after)),
        ("batch/v1", "jobs", template(&before), template(&after)),
        ("batch/v1", "cronjobs", cron(&before), cron(&after)),
        ("x.io/v1", "xs", template(&before), template(&before)),
    ] {
        let is_changed = before != after;
        let done = mapped(&options, api_version, plural, before);
        assert_eq!(done.body, after, "{plural}");
        assert_eq!(done.applied.is_empty(), !is_changed, "{plural}");
    }
    let words: Vec<_> = options.rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "--storage-class-mappings fast:slow",
            "--image-mappings old.io/a=new.io/b"
        ]
    );
    assert!(options.for_live_objects().rules().is_empty());
}

#[test]
fn addresses_of_services_are_kept_on_request() {
    let service = json!({"spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"nodePort": 30_000}]}});
    let options = Options {
        preserve_cluster_ips: true,
        ..Options::default()
    };
    let done = mapped(&options, "v1", "services", service.clone());
    assert_eq!(done.body["spec"]["clusterIPs"], json!(["10.0.0.7"]));
    assert_eq!(done.body["spec"]["ports"], json!([{}]));
    assert_eq!(
        run("v1", "services", service).body["spec"],
        json!({"ports": [{}]})
    );
}

#[test]
fn modifiers_see_the_namespace_of_the_backup_and_never_namespaces() {
    let rules = "version: v1\nresourceModifierRules:\n- conditions: {groupResource: '**', namespaces: [shop]}\n  \
                 mergePatches: [{patchData: '{metadata: {labels: {a: b}, namespace: elsewhere}}'}]";
    let with = |rules: &str| Options {
        modifiers: Some(Arc::new(Modifiers::parse(rules).unwrap())),
        ..options()
    };
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}});
    let done = mapped(&with(rules), "v1", "configmaps", object.clone());
    assert_eq!(
        done.body["metadata"],
        json!({"name": "c", "namespace": "shop2", "labels": {"a": "b"}})
    );
    assert_eq!(
        (done.applied, done.problem),
        (vec![Applied::Modifier { rule: 1 }], None)
    );
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    let done = mapped(&with(rules), "v1", "namespaces", namespace.clone());
    assert_eq!((done.body, done.applied), (namespace, vec![]));
    for (path, part) in [
        ("/metadata/missing", "the object has no /metadata/missing"),
        ("/metadata/name", "changes its name"),
        ("/apiVersion", "changes its apiVersion"),
    ] {
        let operation = if path.ends_with("missing") {
            "remove"
        } else {
            "replace"
        };
        let rules = format!(
            "version: v1\nresourceModifierRules:\n- conditions: {{groupResource: configmaps}}\n  patches: \
             [{{operation: {operation}, path: {path}, value: x}}]"
        );
        let problem = mapped(&with(&rules), "v1", "configmaps", object.clone()).problem;
        assert!(
            problem.as_ref().is_some_and(|problem| problem.contains(part)),
            "{problem:?}"
        );
    }
}
