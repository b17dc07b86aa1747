//! Shell completion: for `kubectl backup` as kubectl asks for it, for `kubectl-backup` as shells do.
//!
//! kubectl runs a program called `kubectl_complete-backup` with the words typed so far and wants cobra's answer: one
//! candidate a line, with a tab before its description, and a last line `:4` (no file names). It is this binary under
//! another name. Shells that sourced our script ask through the variable `COMPLETE`. Names of backups come from the
//! location that the words name, else the default one, names of pods and policies from the cluster, and only if they
//! answer soon: completion must never hang.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use backup_engine::{
    api::{ApiClient, ApiError, ConnectOptions},
    location::LocationsFile,
    storage::StorageError,
    volumes,
};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate, complete},
    env::{Bash, EnvCompleter, Fish, Zsh},
};
use velero_model::{layout, name::BackupName};

use crate::{
    arguments::{completion::Shell, environment::Environment, help},
    exit::Failure,
    request::Place,
    view,
};

/// How long a location has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// cobra's ShellCompDirectiveNoFileComp.
const NO_FILES: &str = ":4";

/// The words of the command line that is being completed, for completers that depend on another flag.
static WORDS: OnceLock<Vec<OsString>> = OnceLock::new();

/// Answers a request for completion; `false` if the words are none.
pub(crate) fn answer(words: &[OsString]) -> bool {
    let Some(called_as) = words.first() else {
        return false;
    };
    let is_kubectl = Path::new(called_as)
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("kubectl_complete-"));
    if is_kubectl {
        // kubectl shows nothing when the answer cannot be written.
        let _ = view::print(&cobra(words));
        return true;
    }
    if std::env::var_os("COMPLETE").is_none() {
        return false;
    }
    let _ = WORDS.set(words.to_vec());
    CompleteEnv::with_factory(help::tree)
        .try_complete(words.to_vec(), None)
        // A shell gets no candidates rather than an error in the middle of its line.
        .unwrap_or(true)
}

/// The candidates for the last word in cobra's form.
fn cobra(words: &[OsString]) -> String {
    let mut line = vec![OsString::from("kubectl-backup")];
    line.extend(words.iter().skip(1).cloned());
    if line.len() == 1 {
        line.push(OsString::new());
    }
    let _ = WORDS.set(line.clone());
    let last = line.len() - 1;
    let mut command = help::tree();
    let mut text = String::new();
    // As cobra does: flags are offered to whoever has typed a dash.
    let wants_flags = line
        .last()
        .is_some_and(|word| word.to_string_lossy().starts_with('-'));
    for candidate in complete(&mut command, line, last, None).unwrap_or_default() {
        let is_flag = candidate.get_value().to_string_lossy().starts_with('-');
        if candidate.is_hide_set() || (is_flag && !wants_flags) {
            continue;
        }
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        let tab = if help.is_empty() { "" } else { "\t" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{tab}{help}", candidate.get_value().to_string_lossy());
    }
    text.push_str(NO_FILES);
    text.push('\n');
    text
}

/// Prints the script that a shell sources.
pub(crate) fn script(shell: Shell) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let program = "kubectl-backup";
    let mut script = Vec::new();
    shell.write_registration("COMPLETE", program, program, program, &mut script)?;
    Ok(view::print(&String::from_utf8_lossy(&script))?)
}

/// Completes names of backups.
pub(crate) fn backups() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, backup_names()))
}

/// Completes names of locations.
pub(crate) fn locations() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, location_names()))
}

/// Completes names of policies.
pub(crate) fn policies() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, cluster_names(&Wanted::Policies)))
}

/// Completes names of pods in the namespace that the words name, else in that of the context.
pub(crate) fn pods() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        matching(current, cluster_names(&Wanted::Pods(namespace_word())))
    })
}

fn matching(current: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    names
        .into_iter()
        .filter(|name| name.starts_with(&*typed))
        .map(CompletionCandidate::new)
        .collect()
}

fn location_names() -> Vec<String> {
    let file = Environment::read().locations_file;
    let file = file
        .and_then(|path| LocationsFile::load(&path).ok())
        .unwrap_or_default();
    file.locations.into_keys().collect()
}

fn backup_names() -> Vec<String> {
    let word = location_word(WORDS.get().map(Vec::as_slice).unwrap_or_default())
        .or_else(|| std::env::var("KUBECTL_BACKUP_LOCATION").ok());
    let Ok(Place::Known { location, .. }) = crate::request::place_of(word.as_deref(), &Environment::read())
    else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let names = async {
        let bucket = backup_engine::location::open(&location).await?;
        bucket.list_folders(layout::BACKUPS).await
    };
    let folders: Result<Vec<String>, StorageError> = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, names)
            .await
            .unwrap_or(Ok(Vec::new()))
    });
    folders
        .unwrap_or_default()
        .into_iter()
        .filter(|name| BackupName::parse(name).is_ok())
        .collect()
}

/// What stands after `--location` among the words.
fn location_word(words: &[OsString]) -> Option<String> {
    flag_word(words, &["--location"])
}

/// What stands after a flag among the words, under whichever of its names.
fn flag_word(words: &[OsString], names: &[&str]) -> Option<String> {
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if names.contains(&&*word) {
            return words.next().map(Cow::into_owned);
        }
        let value = names
            .iter()
            .find_map(|name| word.strip_prefix(name)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(value.to_owned());
        }
    }
    None
}

/// What is completed from the cluster.
enum Wanted {
    Policies,
    /// Pods of this namespace, else of the context's.
    Pods(Option<String>),
}

fn cluster_names(wanted: &Wanted) -> Vec<String> {
    let words = WORDS.get().map(Vec::as_slice).unwrap_or_default();
    let options = ConnectOptions {
        kubeconfig: flag_word(words, &["--kubeconfig"]).map(Into::into),
        context: flag_word(words, &["--context"]),
        ..ConnectOptions::default()
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let names = async {
        let api = ApiClient::connect(&options).await?;
        match wanted {
            Wanted::Policies => volumes::policy_names(&api).await,
            Wanted::Pods(namespace) => {
                let namespace = namespace.as_deref().unwrap_or_else(|| api.default_namespace());
                volumes::pod_names(&api, namespace).await
            }
        }
    };
    let names: Result<Vec<String>, ApiError> = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, names)
            .await
            .unwrap_or(Ok(Vec::new()))
    });
    names.unwrap_or_default()
}

fn namespace_word() -> Option<String> {
    flag_word(
        WORDS.get().map(Vec::as_slice).unwrap_or_default(),
        &["-n", "--namespace"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn kubectl_gets_cobras_form() {
        let text = cobra(&words(&["kubectl_complete-backup", "desc"]));
        assert_eq!(text, "describe\tShow all about a backup\n:4\n");
    }

    #[test]
    fn commands_are_offered_for_an_empty_word() {
        for words in [
            words(&["kubectl_complete-backup"]),
            words(&["kubectl_complete-backup", ""]),
        ] {
            let text = cobra(&words);
            assert!(
                text.contains("create\tBack up") && text.ends_with("\n:4\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn flags_are_offered_after_a_dash() {
        let of = |word| cobra(&words(&["kubectl_complete-backup", "version", word]));
        assert_eq!(of(""), ":4\n");
        assert!(
            of("--cl").starts_with("--client\tDo not ask the cluster"),
            "{}",
            of("--cl")
        );
    }

    #[test]
    fn values_of_flags_are_offered() {
        let text = cobra(&words(&["kubectl_complete-backup", "list", "--sort-by", "s"]));
        assert!(text.starts_with("size"), "{text}");
    }

    #[test]
    fn nonsense_gives_no_candidates() {
        assert_eq!(
            cobra(&words(&["kubectl_complete-backup", "no-such-command", "x"])),
            ":4\n"
        );
    }

    #[test]
    fn the_location_is_found_among_the_words() {
        let table = [
            (
                vec!["kubectl-backup", "cat", "--location", "main", ""],
                Some("main"),
            ),
            (vec!["kubectl-backup", "--location=main", "cat", ""], Some("main")),
            (vec!["kubectl-backup", "cat", ""], None),
        ];
        for (line, expected) in table {
            assert_eq!(location_word(&words(&line)).as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_flag_is_found_under_each_of_its_names() {
        for line in [
            ["kubectl-backup", "volumes", "-n", "shop"].as_slice(),
            &["kubectl-backup", "--namespace=shop", "volumes"],
        ] {
            let found = flag_word(&words(line), &["-n", "--namespace"]);
            assert_eq!(found.as_deref(), Some("shop"), "{line:?}");
        }
    }

    #[test]
    fn only_matching_names_are_offered() {
        let names = matching(OsStr::new("a"), vec!["ab".into(), "b".into()]);
        assert_eq!(names.len(), 1);
    }
}
