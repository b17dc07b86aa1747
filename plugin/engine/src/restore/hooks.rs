//! Hooks of a restore: containers that run before those of a pod, and commands in pods once they are up.
//!
//! In come pods as they are restored; those that their controllers make anew count too, as far as commands go: whichever pod
//! of the namespace is born during the restore and has the hooks is taken for one of them. Out go entries for the record. A
//! command whose pod does not come up in its time is a failure, and one that says `Fail` ends all others, as with Velero.

use std::time::Duration;

use backup_plan::hooks::{AfterRestore, HookedPod, OnError, after_restore, init_containers};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;
use velero_model::{outcome::HookOutcome, resource::ApiKind};

use super::{RestoreError, report::Subject, run::Run};
use crate::{exec, volumes::kind};

/// Between two looks at the pods.
const LOOK: Duration = Duration::from_secs(1);

/// How far the clocks of this machine and of the API server may be apart.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(30);

/// Hooks of a pod in the backup.
pub(super) struct Hooks {
    pod: HookedPod,
    containers: Vec<Value>,
    commands: Vec<AfterRestore>,
}

/// A pod in which commands are to be run.
pub(super) struct Hooked {
    namespace: String,
    name: String,
    /// Its controller makes it anew, under a name that may be another.
    is_made_anew: bool,
    commands: Vec<AfterRestore>,
}

impl Hooked {
    pub(super) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }
}

/// The hooks of an object; none for other kinds than pods.
pub(super) fn of(run: &Run, kind: &ApiKind, object: &Value, subject: &Subject) -> Option<Hooks> {
    if !kind.group.is_empty() || kind.plural != "pods" {
        return None;
    }
    let spec = run.request.hooks.as_deref();
    let mut pod = HookedPod::read(object);
    // As for Velero, hooks know the namespaces of the cluster.
    pod.namespace = subject.namespace.clone().unwrap_or_default();
    let (containers, commands) = (init_containers(&pod, spec), after_restore(&pod, spec));
    (!containers.is_empty() || !commands.is_empty()).then_some(Hooks {
        pod,
        containers,
        commands,
    })
}

impl Hooks {
    /// The pod with the containers before its own; `None` where there are none.
    pub(super) fn with_containers(&self, body: &Value) -> Option<Value> {
        if self.containers.is_empty() {
            return None;
        }
        let mut body = body.clone();
        let mut all = self.containers.clone();
        all.extend(
            body["spec"]["initContainers"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
        body["spec"]["initContainers"] = Value::Array(all);
        Some(body)
    }

    /// Says what is done to a pod that is restored.
    pub(super) fn announced(self, run: &Run, subject: &Subject) -> Hooked {
        for container in &self.containers {
            let name = container["name"].as_str().unwrap_or_default();
            run.remark(
                subject,
                &format!("container {name} of its hooks runs before its own"),
            );
        }
        self.hooked(run, subject, false)
    }

    /// Says what is not done to a pod that its controller makes.
    pub(super) fn left_to_its_controller(self, run: &Run, subject: &Subject) -> Hooked {
        if !self.containers.is_empty() {
            run.note(
                subject,
                "containers of its restore hooks are not run, since its controller makes it; have them in the template, or use \
                 --engine velero",
            );
        }
        self.hooked(run, subject, true)
    }

    fn hooked(self, run: &Run, subject: &Subject, is_made_anew: bool) -> Hooked {
        for command in &self.commands {
            if let (Ok(hook), Some(_)) = (&command.read.hook, &run.plan) {
                let text = format!(
                    "once it is up, {:?} is run in its container {}",
                    hook.command.join(" "),
                    hook.container
                );
                run.remark(subject, &text);
            }
            for warning in &command.read.warnings {
                run.note(subject, &format!("its restore hook: {warning}"));
            }
        }
        Hooked {
            namespace: self.pod.namespace,
            name: self.pod.name,
            is_made_anew,
            commands: self.commands,
        }
    }
}

/// Runs the commands of all pods.
pub(super) async fn run_all(run: &Run) -> Result<(), RestoreError> {
    let mut expected = run.take_hooked();
    if run.plan.is_some() || expected.is_empty() {
        return Ok(());
    }
    run.progress.set_step("running the hooks of pods");
    expected.sort_by(|a, b| {
        (&a.namespace, a.is_made_anew, &a.name).cmp(&(&b.namespace, b.is_made_anew, &b.name))
    });
    let mut namespaces: Vec<Vec<Hooked>> = Vec::new();
    for hooked in expected {
        match namespaces.last_mut() {
            Some(same)
                if same
                    .first()
                    .is_some_and(|first| first.namespace == hooked.namespace) =>
            {
                same.push(hooked);
            }
            _ => namespaces.push(vec![hooked]),
        }
    }
    let done = join_all(namespaces.into_iter().map(|expected| of_namespace(run, expected))).await;
    done.into_iter().collect()
}

/// Waits for the pods of a namespace, and runs their commands in the order in which they come up.
async fn of_namespace(run: &Run, mut expected: Vec<Hooked>) -> Result<(), RestoreError> {
    let begun = Instant::now();
    let mut seen: Vec<String> = Vec::new();
    loop {
        run.check_interrupted()?;
        let Some(namespace) = expected.first().map(|hooked| hooked.namespace.clone()) else {
            return Ok(());
        };
        let pods = match run.api.objects(kind::pods(), Some(&namespace), "").await {
            Ok(pods) => pods,
            Err(error) if error.is_forbidden() => {
                for (hooked, command) in expected.iter().flat_map(of_pod) {
                    let reason = format!("pods may not be looked at, so the command was not run: {error}");
                    settle(run, hooked, &hooked.name, command, Some(reason));
                }
                return Ok(());
            }
            // Whoever waits for pods can wait for a server.
            Err(error) => {
                run.report
                    .log(&format!("pods of {namespace} cannot be looked at: {error}"));
                Vec::new()
            }
        };
        for pod in pods.iter().filter(|pod| is_new(run, pod)) {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            if seen.iter().any(|one| one == uid) {
                continue;
            }
            let Some(position) = expected.iter().position(|hooked| is_meant(run, hooked, pod)) else {
                continue;
            };
            let is_up = expected.get(position).is_some_and(|hooked| {
                let mut containers = hooked.commands.iter();
                containers.all(|command| is_up(pod, command))
            });
            if is_up {
                seen.push(uid.to_owned());
                let hooked = expected.remove(position);
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                if !commands(run, &hooked, name).await {
                    return Ok(());
                }
            }
        }
        let is_late = |hooked: &Hooked| {
            let longest = hooked.commands.iter().map(|command| command.wait).max();
            longest.is_none_or(|longest| begun.elapsed() > longest)
        };
        let (late, waiting): (Vec<_>, Vec<_>) = expected.into_iter().partition(is_late);
        expected = waiting;
        for (hooked, command) in late.iter().flat_map(of_pod) {
            let reason = format!(
                "it was not up within {} s, so the command was not run",
                command.wait.as_secs()
            );
            settle(run, hooked, &hooked.name, command, Some(reason));
        }
        if !expected.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = run.stop.cancelled() => {}
            }
        }
    }
}

/// A pod's commands, each with the pod.
fn of_pod(hooked: &Hooked) -> impl Iterator<Item = (&Hooked, &AfterRestore)> {
    hooked.commands.iter().map(move |command| (hooked, command))
}

/// Whether a pod was born during this restore, or an earlier try of it, and is not going.
fn is_new(run: &Run, pod: &Value) -> bool {
    let born = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    let born: Option<Timestamp> = born.parse().ok();
    pod["metadata"]["deletionTimestamp"].is_null()
        && born.is_some_and(|born| born + CLOCKS_DIFFER >= run.begun())
}

fn is_meant(run: &Run, hooked: &Hooked, pod: &Value) -> bool {
    if pod["metadata"]["name"] == hooked.name.as_str() {
        return true;
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let has_controller = owners
        .into_iter()
        .flatten()
        .any(|owner| owner["controller"] == true);
    let commands = || after_restore(&HookedPod::read(pod), run.request.hooks.as_deref());
    hooked.is_made_anew && has_controller && commands() == hooked.commands
}

/// Whether the container of a command runs, and is ready where that is asked for.
fn is_up(pod: &Value, command: &AfterRestore) -> bool {
    let Ok(hook) = &command.read.hook else {
        // There is nothing to wait for.
        return true;
    };
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses.into_iter().flatten().any(|status| {
        status["name"] == hook.container.as_str()
            && status["state"]["running"].is_object()
            && (!command.when_ready || status["ready"] == true)
    })
}

/// Runs the commands of a pod; whether others may follow.
async fn commands(run: &Run, hooked: &Hooked, pod: &str) -> bool {
    for command in &hooked.commands {
        let done = match &command.read.hook {
            Err(reason) => Err(reason.clone()),
            Ok(hook) => {
                let (container, words) = (&hook.container, &hook.command);
                exec::run(&run.api, &hooked.namespace, pod, container, words, hook.timeout)
                    .await
                    .map_err(|error| error.to_string())
            }
        };
        let has_failed = done.is_err();
        settle(run, hooked, pod, command, done.err());
        if has_failed && command.read.on_error == OnError::Fail {
            return false;
        }
    }
    true
}

/// Puts what came of a command into the record and the report.
fn settle(run: &Run, hooked: &Hooked, pod: &str, command: &AfterRestore, error: Option<String>) {
    let error = error.map(|error| format!("restore hook: {error}"));
    let namespace = Some(hooked.namespace.as_str());
    let subject = format!("pods/{pod}");
    match (&error, command.read.on_error) {
        (None, _) => run.report.log(&format!(
            "{subject} in {}: its restore hook was run",
            hooked.namespace
        )),
        (Some(error), OnError::Fail) => run.report.error(&subject, namespace, error),
        (Some(error), OnError::Continue) => run.report.warn(namespace, &format!("{subject}: {error}")),
    }
    run.note_hook(HookOutcome {
        namespace: hooked.namespace.clone(),
        pod: pod.to_owned(),
        container: command
            .read
            .hook
            .as_ref()
            .map(|hook| hook.container.clone())
            .unwrap_or_default(),
        phase: "restore".to_owned(),
        error,
    });
}
