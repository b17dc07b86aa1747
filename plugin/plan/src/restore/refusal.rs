//! What an API server's refusal stands for.
//!
//! In come the words of the server; out goes who refused (a webhook, an admission policy), which fields cannot be changed,
//! or what is missing, each with the next step for a person. The server's own words always stay in the text.

/// The refusal with its next step, if one is known. `kind` is the resource group of the object.
pub fn explain(kind: &str, message: &str) -> String {
    if let Some(fields) = fixed_fields(message) {
        return format!(
            "{} cannot be changed on an object that exists; --existing-resource-policy {kind}=recreate deletes it and makes \
             it anew; the server says: {message}",
            fields.join(", ")
        );
    }
    let next = if let Some(webhook) = quoted_after(message, "failed calling webhook ") {
        format!(
            "webhook {webhook} of the cluster does not answer; repair what stands behind it, or remove it (kubectl get \
             validatingwebhookconfigurations,mutatingwebhookconfigurations shows where it is configured), and restore again"
        )
    } else if let Some(webhook) = quoted_after(message, "admission webhook ") {
        format!(
            "webhook {webhook} of the cluster refuses the object; change the one or the other, and restore again"
        )
    } else if let Some(policy) = quoted_after(message, "ValidatingAdmissionPolicy ") {
        format!(
            "the cluster's ValidatingAdmissionPolicy {policy} refuses the object; change the one or the other, and restore again"
        )
    } else {
        return message.to_owned();
    };
    format!("{message}; {next}")
}

/// The webhook that keeps a dry run from being done.
pub fn without_dry_run(message: &str) -> Option<&str> {
    message
        .contains("does not support dry run")
        .then(|| quoted_after(message, "admission webhook "))?
}

/// The text in quotes behind some words.
fn quoted_after<'m>(message: &'m str, words: &str) -> Option<&'m str> {
    let (_, after) = message.split_once(words)?;
    let quote = after.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    let (name, _) = after.get(1..)?.split_once(quote)?;
    (!name.is_empty()).then_some(name)
}

/// Words by which the API says that a field stays as it is. The last four are those of validation by declaration, which
/// from 1.35 on judges more kinds with each release.
const FIXED: [&str; 10] = [
    "immutable",
    "may not change",
    "may not be changed",
    "cannot change",
    "updates to",
    "may not be unset",
    "cannot be set once created",
    "cannot be cleared once set",
    "cannot be modified once set",
    "item may not be",
];

/// The fields that cannot be changed, if that is why an object was refused.
pub fn fixed_fields(message: &str) -> Option<Vec<String>> {
    if !message.contains(" is invalid: ") || !FIXED.iter().any(|words| message.contains(words)) {
        return None;
    }
    let mut fields: Vec<String> = Vec::new();
    for mark in [": Invalid value: ", ": Forbidden: "] {
        let mut rest = message;
        while let Some((before, after)) = rest.split_once(mark) {
            let is_fixed = after
                .split(": Invalid value: ")
                .next()
                .is_some_and(|own| FIXED.iter().any(|words| own.contains(words)));
            let field = before.rsplit(char::is_whitespace).next().unwrap_or_default();
            let field = field.trim_start_matches('[').to_owned();
            if is_fixed && is_path(&field) && !fields.contains(&field) {
                fields.push(field);
            }
            rest = after;
        }
    }
    (!fields.is_empty()).then_some(fields)
}

fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/[]".contains(&byte))
}

/// An object that another one needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its resource group.
    pub resource: String,
    /// Its name.
    pub name: String,
}

/// What the server looked for in vain.
pub fn missing(message: &str) -> Option<Missing> {
    let found = |resource: &str, name: &str| {
        Some(Missing {
            resource: resource.to_owned(),
            name: name.to_owned(),
        })
    };
    if let Some((_, after)) = message.split_once("no PriorityClass with name ") {
        return found(
            "priorityclasses.scheduling.k8s.io",
            after.split_whitespace().next()?,
        );
    }
    let (before, _) = message.split_once("\" not found")?;
    let (before, name) = before.rsplit_once('"')?;
    let resource = before.trim_end().rsplit(char::is_whitespace).next()?;
    match resource {
        "" => None,
        "serviceaccount" => found("serviceaccounts", name),
        "RuntimeClass" | "runtimeclass.node.k8s.io" => found("runtimeclasses.node.k8s.io", name),
        "priorityclass.scheduling.k8s.io" => found("priorityclasses.scheduling.k8s.io", name),
        resource => found(resource, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_cannot_be_changed_are_named() {
        for (message, expected) in [
            (
                r#"Job.batch "x" is invalid: spec.template: Invalid value: {"a":"b: c"}: field is immutable"#,
                Some(vec!["spec.template"]),
            ),
            (
                "StatefulSet.apps \"web\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than \
                 'replicas' are forbidden",
                Some(vec!["spec"]),
            ),
            (
                "Service \"x\" is invalid: [spec.clusterIPs[0]: Invalid value: [\"10.0.0.9\"]: may not change once set, \
                 spec.selector: Invalid value: {}: field is immutable]",
                Some(vec!["spec.clusterIPs[0]", "spec.selector"]),
            ),
            (
                r#"ClusterRoleBinding.rbac.authorization.k8s.io "x" is invalid: roleRef: Invalid value: {"name":"a"}: cannot change roleRef"#,
                Some(vec!["roleRef"]),
            ),
            (
                "ConfigMap \"x\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
                Some(vec!["data"]),
            ),
            // A suspended Job on 1.36, where the resources of its containers can be changed.
            (
                r#"Job.batch "x" is invalid: spec.template.spec: Invalid value: {"a":"b: c"}: field is immutable"#,
                Some(vec!["spec.template.spec"]),
            ),
            (
                r#"Node "x" is invalid: spec.providerID: Invalid value: null: field cannot be modified once set"#,
                Some(vec!["spec.providerID"]),
            ),
            (
                r#"PodGroup.scheduling.k8s.io "x" is invalid: [spec.list[1]: Forbidden: item may not be added, spec.other: Invalid value: null: field cannot be cleared once set]"#,
                Some(vec!["spec.other", "spec.list[1]"]),
            ),
            (r#"Pod "x" is invalid: spec.containers: Required value"#, None),
            (
                r#"Service "x" is invalid: spec.type: Unsupported value: "Y""#,
                None,
            ),
            ("exceeded quota: q", None),
        ] {
            let fields = fixed_fields(message);
            let expected = expected.map(|fields| fields.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(fields, expected, "{message}");
        }
    }

    #[test]
    fn who_refuses_is_named_with_the_next_step() {
        for (message, parts) in [
            (
                r#"admission webhook "deny.example.com" denied the request: no"#,
                vec!["webhook deny.example.com of the cluster refuses"],
            ),
            (
                r#"Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: Post "https://127.0.0.1:1/": connection refused"#,
                vec![
                    "webhook w.example.com of the cluster does not answer",
                    "kubectl get",
                ],
            ),
            (
                r#"configmaps "x" is forbidden: ValidatingAdmissionPolicy 'floor' with binding 'floor-b' denied request: failed expression"#,
                vec!["ValidatingAdmissionPolicy floor refuses"],
            ),
            (
                r#"Job.batch "x" is invalid: spec.template: Invalid value: {}: field is immutable"#,
                vec!["spec.template cannot be changed", "jobs.batch=recreate"],
            ),
        ] {
            let text = explain("jobs.batch", message);
            assert!(text.contains(message), "the server's words stay: {text}");
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert_eq!(explain("pods", "exceeded quota: q"), "exceeded quota: q");
    }

    #[test]
    fn a_webhook_without_dry_run_is_told_from_one_that_denies() {
        let unsupported = r#"admission webhook "w.example.com" does not support dry run"#;
        assert_eq!(without_dry_run(unsupported), Some("w.example.com"));
        assert_eq!(
            without_dry_run(r#"admission webhook "w" denied the request: no"#),
            None
        );
    }

    #[test]
    fn what_is_missing_is_read_from_the_servers_words() {
        for (message, expected) in [
            (
                r#"pods "p" is forbidden: error looking up service account shop/web: serviceaccount "web" not found"#,
                Some(("serviceaccounts", "web")),
            ),
            (
                r#"pods "p" is forbidden: no PriorityClass with name high was found"#,
                Some(("priorityclasses.scheduling.k8s.io", "high")),
            ),
            (
                r#"pods "p" is forbidden: pod rejected: RuntimeClass "kata" not found"#,
                Some(("runtimeclasses.node.k8s.io", "kata")),
            ),
            (
                r#"clusterroles.rbac.authorization.k8s.io "edit-all" not found"#,
                Some(("clusterroles.rbac.authorization.k8s.io", "edit-all")),
            ),
            (r#"namespaces "shop" not found"#, Some(("namespaces", "shop"))),
            ("the server could not find the requested resource", None),
            (r#"" not found"#, None),
        ] {
            let found = missing(message);
            assert_eq!(
                found
                    .as_ref()
                    .map(|found| (found.resource.as_str(), found.name.as_str())),
                expected,
                "{message}"
            );
        }
    }
}
