//! Commands that run in pods around a backup and after a restore, as Velero knows them.
//!
//! Pure. In come a pod ([`HookedPod`]) and, where there is one, the `spec.hooks` of a Backup or Restore ([`Spec`]); out go hooks with
//! everything decided: container, words, what an error means, how long they may take. What a pod says itself, by annotation,
//! counts before what the spec says. As Velero reads them (`internal/hook/item_hook_handler.go`, `pkg/podexec`): a command is
//! a JSON list or one word, the first container is meant where none is named. What Velero only logs is a warning here.

mod backup;
mod restore;
mod spec;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use velero_model::duration::GoDuration;

pub use self::{
    backup::of_backup,
    restore::{AfterRestore, after_restore, init_containers},
    spec::{Spec, SpecError},
};

/// Longest time of a hook that says nothing about it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the pod's volumes are read.
    Pre,
    /// After that.
    Post,
}

impl Phase {
    /// `pre` or `post`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
        }
    }
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The pod's volumes are not read.
    Fail,
    /// They are read all the same.
    Continue,
}

/// A command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The container, which is there.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What its failure means.
    pub on_error: OnError,
    /// Longest time.
    pub timeout: Duration,
}

/// A hook as the annotations say it; `Err` is why it cannot run, which counts as its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The hook, or why there is none to run.
    pub hook: Result<Hook, String>,
    /// What its failure means.
    pub on_error: OnError,
    /// What was not understood.
    pub warnings: Vec<String>,
}

/// What of a pod decides about its hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookedPod {
    /// Namespace, as the hooks know it.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Names of its regular containers.
    pub containers: Vec<String>,
}

impl HookedPod {
    /// Reads a pod's JSON.
    pub fn read(pod: &Value) -> Self {
        let text = |pointer: &str| {
            let found = pod.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let map = |pointer: &str| -> BTreeMap<String, String> {
            let found = pod.pointer(pointer).and_then(Value::as_object);
            found
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        Self {
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            labels: map("/metadata/labels"),
            annotations: map("/metadata/annotations"),
            containers: containers
                .into_iter()
                .flatten()
                .filter_map(|container| container["name"].as_str().map(str::to_owned))
                .collect(),
        }
    }

    /// The container that is meant; the first one where none is named.
    fn container(&self, named: &str) -> Result<String, String> {
        match (named, self.containers.first()) {
            ("", Some(first)) => Ok(first.clone()),
            ("", None) => Err("the pod has no containers".to_owned()),
            (name, _) if self.containers.iter().any(|container| container == name) => Ok(name.to_owned()),
            (name, _) => Err(format!("the pod has no container {name}")),
        }
    }
}

/// A hook by annotations, of which `value` gives the one of a key; `None` where there is no command.
fn of_annotations<'a>(
    pod: &HookedPod,
    value: &dyn Fn(&str) -> &'a str,
    by_default: OnError,
    timeout_key: &str,
) -> Option<Read> {
    let command = value("command");
    if command.is_empty() {
        return None;
    }
    let mut warnings = Vec::new();
    let on_error = on_error(value("on-error"), by_default, &mut warnings);
    let timeout = time(timeout_key, value(timeout_key), TIMEOUT, &mut warnings);
    Some(Read {
        hook: pod.container(value("container")).map(|container| Hook {
            container,
            command: words(command),
            on_error,
            timeout,
        }),
        on_error,
        warnings,
    })
}

/// `Fail` or `Continue`; what is neither is the given one, and a warning.
fn on_error(word: &str, by_default: OnError, warnings: &mut Vec<String>) -> OnError {
    match word {
        "Continue" => OnError::Continue,
        "Fail" => OnError::Fail,
        "" => by_default,
        other => {
            let taken = match by_default {
                OnError::Fail => "Fail",
                OnError::Continue => "Continue",
            };
            warnings.push(format!(
                "on-error {other:?} is neither Fail nor Continue; {taken} is taken"
            ));
            by_default
        }
    }
}

/// A time such as `90s`; what is none is the given one, and a warning.
fn time(key: &str, text: &str, by_default: Duration, warnings: &mut Vec<String>) -> Duration {
    match text {
        "" => by_default,
        text => match GoDuration::parse(text) {
            Ok(GoDuration(time)) if time.is_zero() => by_default,
            Ok(GoDuration(time)) => time,
            Err(_) => {
                warnings.push(format!(
                    "{key} {text:?} is no duration; {}s is taken",
                    by_default.as_secs()
                ));
                by_default
            }
        },
    }
}

/// A JSON list of words; what is none is one word.
fn words(command: &str) -> Vec<String> {
    let list = command
        .starts_with('[')
        .then(|| serde_json::from_str::<Vec<String>>(command).ok())
        .flatten();
    match list {
        Some(words) if !words.is_empty() => words,
        _ => vec![command.to_owned()],
    }
}
