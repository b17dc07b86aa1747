//! Hooks after a restore: containers that run before those of a pod, and commands that run in them once they are up.
//!
//! As Velero reads them (`internal/hook/item_hook_handler.go`): an init hook by annotation wants an image, and its command may
//! be left to that; a command that fails is passed over unless it says `Fail`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{HookedPod, OnError, Read, Spec, of_annotations, time, words};

/// Longest wait for a container where nobody says one; Velero would wait for ever.
pub(super) const WAIT: Duration = Duration::from_mins(10);

/// A command for a pod that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterRestore {
    /// The command, or why there is none to run.
    pub read: Read,
    /// Longest wait for its container to run.
    pub wait: Duration,
    /// Whether the container has to be ready, too.
    pub when_ready: bool,
}

/// The commands for a pod in their order: what it says itself, else what the spec says.
pub fn after_restore(pod: &HookedPod, spec: Option<&Spec>) -> Vec<AfterRestore> {
    match by_annotations(pod) {
        Some(hook) => vec![hook],
        None => spec.map(|spec| spec.after_restore(pod)).unwrap_or_default(),
    }
}

fn by_annotations(pod: &HookedPod) -> Option<AfterRestore> {
    let value = |key: &str| {
        let found = pod.annotations.get(&format!("post.hook.restore.velero.io/{key}"));
        found.map(String::as_str).unwrap_or_default()
    };
    let mut read = of_annotations(pod, &value, OnError::Continue, "exec-timeout")?;
    let wait = time("wait-timeout", value("wait-timeout"), WAIT, &mut read.warnings);
    Some(AfterRestore {
        read,
        wait,
        when_ready: matches!(
            value("wait-for-ready"),
            "1" | "t" | "T" | "true" | "TRUE" | "True"
        ),
    })
}

/// Containers that are to run before a pod's own, in their order.
pub fn init_containers(pod: &HookedPod, spec: Option<&Spec>) -> Vec<Value> {
    match init_of_annotations(pod) {
        Some(container) => vec![container],
        None => spec.map(|spec| spec.init_containers(pod)).unwrap_or_default(),
    }
}

fn init_of_annotations(pod: &HookedPod) -> Option<Value> {
    let value = |key: &str| {
        let found = pod.annotations.get(&format!("init.hook.restore.velero.io/{key}"));
        found.map(String::as_str).unwrap_or_default()
    };
    let image = value("container-image");
    if image.is_empty() {
        return None;
    }
    let name = match value("container-name") {
        "" => "restore-hook",
        name => name,
    };
    let mut container = json!({ "name": name, "image": image });
    if !value("command").is_empty() {
        container["command"] = json!(words(value("command")));
    }
    Some(container)
}

#[cfg(test)]
mod tests {
    use super::super::TIMEOUT;
    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> HookedPod {
        HookedPod {
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            containers: vec!["db".into()],
            ..HookedPod::default()
        }
    }

    #[test]
    fn a_command_waits_and_its_failure_is_passed_over_unless_it_says_otherwise() {
        let found = after_restore(
            &pod(&[(
                "post.hook.restore.velero.io/command",
                r#"["psql","-c","analyze"]"#,
            )]),
            None,
        );
        let hook = found[0].read.hook.clone().unwrap();
        assert_eq!(hook.command, ["psql", "-c", "analyze"]);
        assert_eq!((hook.on_error, hook.timeout), (OnError::Continue, TIMEOUT));
        assert_eq!((found[0].wait, found[0].when_ready), (WAIT, false));
        let found = after_restore(
            &pod(&[
                ("post.hook.restore.velero.io/command", "x"),
                ("post.hook.restore.velero.io/on-error", "Fail"),
                ("post.hook.restore.velero.io/exec-timeout", "2m"),
                ("post.hook.restore.velero.io/wait-timeout", "5m"),
                ("post.hook.restore.velero.io/wait-for-ready", "true"),
                ("post.hook.restore.velero.io/container", "web"),
            ]),
            None,
        );
        assert_eq!(found[0].read.hook, Err("the pod has no container web".into()));
        assert_eq!(found[0].read.on_error, OnError::Fail);
        assert_eq!(
            (found[0].wait, found[0].when_ready),
            (Duration::from_mins(5), true)
        );
        assert!(after_restore(&pod(&[]), None).is_empty());
    }

    #[test]
    fn an_init_container_needs_an_image() {
        assert!(init_containers(&pod(&[("init.hook.restore.velero.io/command", "x")]), None).is_empty());
        let found = init_containers(
            &pod(&[
                ("init.hook.restore.velero.io/container-image", "busybox"),
                ("init.hook.restore.velero.io/command", r#"["rm","/data/lock"]"#),
            ]),
            None,
        );
        assert_eq!(
            found,
            [json!({ "name": "restore-hook", "image": "busybox", "command": ["rm", "/data/lock"] })]
        );
    }
}
