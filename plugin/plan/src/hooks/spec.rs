//! `spec.hooks` of a Backup or of a Restore, as somebody has written it into a file or a ConfigMap.
//!
//! In comes YAML: the whole object, or what stands under `hooks`; out goes a checked [`Spec`]. Unlike in a server's log, a word
//! that nobody knows is an error here, before anything runs. Shapes are those of `velero.io/v1` (`BackupResourceHookSpec`,
//! `RestoreResourceHookSpec`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use velero_model::duration::GoDuration;

use super::{AfterRestore, Hook, HookedPod, OnError, Phase, Read, TIMEOUT, restore::WAIT};
use crate::{
    glob::Globs,
    selector::{LabelSelector, Selector},
    yaml,
};

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Document(String),
    /// It has another shape.
    #[error(
        "it is no list of hooks: {0}; write `resources:` with a list as under spec.hooks of Velero's objects"
    )]
    Shape(String),
    /// One entry means nothing.
    #[error("hook {name}: {reason}")]
    Entry {
        /// Name of the entry.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Hooks for pods that are chosen by namespace and label.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    entries: Vec<Entry>,
    /// As it was written, for Velero.
    source: Value,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    included: Globs,
    excluded: Globs,
    selector: Selector,
    pre: Vec<Exec>,
    post: Vec<Exec>,
    after: Vec<Post>,
}

/// `resources[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    name: String,
    included_namespaces: Vec<String>,
    excluded_namespaces: Vec<String>,
    included_resources: Vec<String>,
    excluded_resources: Vec<String>,
    label_selector: Option<LabelSelector>,
    pre: Vec<OfBackup>,
    post: Vec<OfBackup>,
    post_hooks: Vec<Post>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OfBackup {
    exec: Option<Exec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exec {
    container: String,
    command: Vec<String>,
    on_error: String,
    /// Of a backup.
    timeout: String,
    /// Of a restore.
    exec_timeout: String,
    /// Of a restore.
    wait_timeout: String,
    /// Of a restore.
    wait_for_ready: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Post {
    exec: Option<Exec>,
    init: Option<Init>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Init {
    init_containers: Vec<Value>,
    #[allow(dead_code)] // Velero reads it and does nothing with it.
    timeout: String,
}

impl Spec {
    /// Reads it.
    ///
    /// # Errors
    /// [`SpecError`], with the name of the entry.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let document = yaml::parse(text, true).map_err(SpecError::Document)?;
        let hooks = ["/spec/hooks", "/hooks"]
            .iter()
            .find_map(|pointer| document.pointer(pointer))
            .unwrap_or(&document);
        let resources = hooks["resources"]
            .as_array()
            .ok_or_else(|| SpecError::Shape("there is no list `resources`".to_owned()))?;
        let entries = resources
            .iter()
            .enumerate()
            .map(|(number, entry)| {
                let name = entry["name"]
                    .as_str()
                    .map_or_else(|| format!("number {}", number + 1), str::to_owned);
                read(entry).map_err(|reason| SpecError::Entry { name, reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            entries,
            source: hooks.clone(),
        })
    }

    /// As it was written: what goes into `spec.hooks`.
    pub fn source(&self) -> &Value {
        &self.source
    }

    fn of<'a>(&'a self, pod: &'a HookedPod) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| {
            (entry.included.is_empty() || entry.included.matches(&pod.namespace))
                && !entry.excluded.matches(&pod.namespace)
                && entry.selector.matches_labels(&pod.labels)
        })
    }

    pub(super) fn of_backup(&self, pod: &HookedPod, phase: Phase) -> Vec<Read> {
        let hooks = self.of(pod).flat_map(|entry| match phase {
            Phase::Pre => &entry.pre,
            Phase::Post => &entry.post,
        });
        hooks
            .map(|exec| exec.read(pod, OnError::Fail, &exec.timeout))
            .collect()
    }

    pub(super) fn after_restore(&self, pod: &HookedPod) -> Vec<AfterRestore> {
        let hooks = self.of(pod).flat_map(|entry| &entry.after);
        hooks
            .filter_map(|hook| hook.exec.as_ref())
            .map(|exec| AfterRestore {
                read: exec.read(pod, OnError::Continue, &exec.exec_timeout),
                wait: duration(&exec.wait_timeout).ok().flatten().unwrap_or(WAIT),
                when_ready: exec.wait_for_ready.unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn init_containers(&self, pod: &HookedPod) -> Vec<Value> {
        let hooks = self.of(pod).flat_map(|entry| &entry.after);
        hooks
            .filter_map(|hook| hook.init.as_ref())
            .flat_map(|init| init.init_containers.iter().cloned())
            .collect()
    }
}

impl Exec {
    fn read(&self, pod: &HookedPod, by_default: OnError, timeout: &str) -> Read {
        let on_error = match self.on_error.as_str() {
            "Continue" => OnError::Continue,
            "Fail" => OnError::Fail,
            _ => by_default,
        };
        Read {
            hook: pod.container(&self.container).map(|container| Hook {
                container,
                command: self.command.clone(),
                on_error,
                timeout: duration(timeout).ok().flatten().unwrap_or(TIMEOUT),
            }),
            on_error,
            warnings: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.command.is_empty() {
            return Err("exec has no command".to_owned());
        }
        if !matches!(self.on_error.as_str(), "" | "Fail" | "Continue") {
            return Err(format!(
                "onError {:?} is neither Fail nor Continue",
                self.on_error
            ));
        }
        for text in [&self.timeout, &self.exec_timeout, &self.wait_timeout] {
            duration(text)?;
        }
        Ok(())
    }
}

/// None where nothing, or zero, is written.
fn duration(text: &str) -> Result<Option<Duration>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let GoDuration(time) =
        GoDuration::parse(text).map_err(|_| format!("{text:?} is no duration; write for example 30s"))?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

fn read(entry: &Value) -> Result<Entry, String> {
    let written = Written::deserialize(entry).map_err(|error| error.to_string())?;
    let is_pods = |word: &String| matches!(word.as_str(), "pods" | "pod" | "po" | "*");
    if !written.included_resources.is_empty() && !written.included_resources.iter().any(is_pods) {
        return Err("includedResources has no pods, and hooks run in pods alone".to_owned());
    }
    if written.excluded_resources.iter().any(is_pods) {
        return Err("excludedResources has pods, and hooks run in pods alone".to_owned());
    }
    let globs = |words: &[String]| Globs::parse(words).map_err(|error| error.to_string());
    let execs = |hooks: Vec<OfBackup>| -> Result<Vec<Exec>, String> {
        hooks
            .into_iter()
            .map(|hook| {
                let exec = hook.exec.ok_or("a hook of a backup has no exec")?;
                exec.check()?;
                Ok(exec)
            })
            .collect()
    };
    for hook in &written.post_hooks {
        match (&hook.exec, &hook.init) {
            (Some(exec), None) => exec.check()?,
            (None, Some(init)) if !init.init_containers.is_empty() => {}
            (None, Some(_)) => return Err("init has no initContainers".to_owned()),
            _ => return Err("a hook has either exec or init".to_owned()),
        }
    }
    let is_of_backup = !written.pre.is_empty() || !written.post.is_empty();
    if !written.post_hooks.is_empty() && is_of_backup {
        return Err(
            "pre and post are hooks of a backup, postHooks those of a restore; write two files".to_owned(),
        );
    }
    // A list with `*` includes everything, as an empty one does.
    let included = globs(&written.included_namespaces)?;
    Ok(Entry {
        included: if included.has_everything() {
            Globs::default()
        } else {
            included
        },
        excluded: globs(&written.excluded_namespaces)?,
        selector: match &written.label_selector {
            Some(selector) => Selector::try_from(selector).map_err(|error| error.to_string())?,
            None => Selector::default(),
        },
        pre: execs(written.pre)?,
        post: execs(written.post)?,
        after: written.post_hooks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, app: &str) -> HookedPod {
        HookedPod {
            namespace: namespace.into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            containers: vec!["db".into(), "web".into()],
            ..HookedPod::default()
        }
    }

    const BACKUP: &str = "
apiVersion: velero.io/v1
kind: Backup
spec:
  hooks:
    resources:
    - name: freeze
      includedNamespaces: ['shop*']
      excludedNamespaces: [shop-test]
      labelSelector: {matchLabels: {app: db}}
      pre:
      - exec: {command: [fsfreeze, --freeze, /data], container: web, onError: Continue, timeout: 2m}
      - exec: {command: [sync]}
      post:
      - exec: {command: [fsfreeze, --unfreeze, /data]}
";

    #[test]
    fn pods_are_chosen_by_namespace_and_label_and_speak_first_themselves() {
        let spec = Spec::parse(BACKUP).unwrap();
        let commands = |pod: &HookedPod, phase| -> Vec<String> {
            let hooks = crate::hooks::of_backup(pod, Some(&spec), phase);
            hooks
                .into_iter()
                .map(|read| read.hook.unwrap().command.join(" "))
                .collect()
        };
        assert_eq!(
            commands(&pod("shop", "db"), Phase::Pre),
            ["fsfreeze --freeze /data", "sync"]
        );
        assert_eq!(
            commands(&pod("shop-eu", "db"), Phase::Post),
            ["fsfreeze --unfreeze /data"]
        );
        for other in [pod("shop-test", "db"), pod("bank", "db"), pod("shop", "cache")] {
            assert!(commands(&other, Phase::Pre).is_empty(), "{other:?}");
        }
        let mut own = pod("shop", "db");
        own.annotations
            .insert("pre.hook.backup.velero.io/command".into(), "own".into());
        assert_eq!(commands(&own, Phase::Pre), ["own"]);
        let first = spec
            .of_backup(&pod("shop", "db"), Phase::Pre)
            .remove(0)
            .hook
            .unwrap();
        assert_eq!(
            (first.container.as_str(), first.on_error, first.timeout),
            ("web", OnError::Continue, Duration::from_mins(2))
        );
        assert_eq!(spec.source()["resources"][0]["name"], "freeze");
    }

    #[test]
    fn a_restore_has_commands_and_containers() {
        let spec = Spec::parse(
            "resources: [{postHooks: [{exec: {command: [psql], waitTimeout: 1m, waitForReady: true}}, {init: {initContainers: [{name: i, image: b}]}}]}]",
        )
        .unwrap();
        let after = crate::hooks::after_restore(&pod("shop", "db"), Some(&spec));
        assert_eq!(
            (after[0].wait, after[0].when_ready),
            (Duration::from_mins(1), true)
        );
        assert_eq!(after.len(), 1);
        assert_eq!(
            crate::hooks::init_containers(&pod("shop", "db"), Some(&spec))[0]["name"],
            "i"
        );
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_name() {
        for (text, expected) in [
            ("a: [", "no YAML"),
            ("{}", "no list `resources`"),
            (
                "resources: [{name: x, pre: [{exec: {}}]}]",
                "hook x: exec has no command",
            ),
            (
                "resources: [{name: x, pre: [{exec: {command: [a], onError: ignore}}]}]",
                "neither Fail nor Continue",
            ),
            (
                "resources: [{pre: [{exec: {command: [a], timeout: soon}}]}]",
                "hook number 1: \"soon\" is no duration",
            ),
            ("resources: [{name: x, included: [a]}]", "unknown field"),
            (
                "resources: [{name: x, includedResources: [services]}]",
                "has no pods",
            ),
            ("resources: [{name: x, postHooks: [{}]}]", "either exec or init"),
            (
                "resources: [{name: x, labelSelector: {matchExpressions: [{key: a, operator: Like}]}}]",
                "Like",
            ),
        ] {
            let error = Spec::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
