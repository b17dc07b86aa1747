//! The command tree as clap shows it: called as the user called it, commands in groups.
//!
//! In comes the name in `argv[0]`, out goes the `clap::Command`. Groups hold names only; each command's sentence is its
//! own, so the overview cannot drift from the commands.

use std::{ffi::OsStr, fmt::Write as _, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Arguments;

/// Commands by what a person wants to do.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Back up", &["create"]),
    (
        "Look at backups",
        &[
            "list", "describe", "contents", "cat", "diff", "find", "logs", "verify",
        ],
    ),
    (
        "Move and delete backups",
        &["download", "import", "copy", "delete"],
    ),
    ("Keep backups", &["schedule", "hold", "release", "retention"]),
    ("Restore", &["restore", "restores"]),
    ("Choose volumes", &["volumes", "policy"]),
    ("Guard", &["cluster"]),
    (
        "Set up",
        &[
            "location",
            "enable",
            "upgrade",
            "disable",
            "status",
            "doctor",
            "completion",
            "version",
        ],
    ),
];

const EXAMPLES: &str =
    "  kubectl backup location add main s3://backups/prod     name a bucket; the first one is the default
  kubectl backup create                                  back up everything
  kubectl backup list                                    which backups are there
  kubectl backup restore nightly -n shop                 bring one namespace back
  kubectl backup restore nightly secret/login -n shop    bring one object back";

const EXIT_CODES: &str = "  0 done   1 failed   2 usage   3 done with errors   4 refused   5 not found   6 timed out   130 interrupted";

/// The command tree, called by the name in `argv[0]`.
pub(crate) fn command(called_as: &OsStr) -> Command {
    let command = tree();
    let name = shown_name(called_as);
    let groups = groups(&command);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}\nExamples:\n{EXAMPLES}\n\n{{all-args}}\n\n\
         Exit codes:\n{EXIT_CODES}\n\n\
         Every command also takes kubectl's connection flags; `{name} COMMAND --help` explains all of its flags.\n"
    );
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help("Print help");
    command
        .override_usage(format!("{name} COMMAND [OPTIONS]"))
        .bin_name(name)
        .help_template(template)
        .disable_help_flag(true)
        .arg(help)
        // The groups list them.
        .mut_subcommands(|command| with_help(command).hide(true))
}

/// The overview's own help flag switches clap's off for the whole tree; every other command gets it back: `-h` is
/// short, `--help` explains every flag.
fn with_help(command: Command) -> Command {
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .help("Print help; --help explains all flags");
    command.arg(help).mut_subcommands(with_help)
}

/// The command tree as it is declared.
pub(crate) fn tree() -> Command {
    Arguments::command()
}

/// `kubectl backup` for a program called `kubectl-backup`; krew turns dashes of a plugin's name into underscores.
fn shown_name(called_as: &OsStr) -> String {
    let file = Path::new(called_as)
        .file_name()
        .unwrap_or(called_as)
        .to_string_lossy();
    match file.strip_prefix("kubectl-") {
        Some(plugin) => format!("kubectl {}", plugin.replace('_', "-")),
        None => "kubectl backup".to_owned(),
    }
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading}:");
        for name in names {
            let about = command
                .find_subcommand(name)
                .and_then(Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default();
            let _ = writeln!(text, "  {name:<12}{about}");
        }
        text.push('\n');
    }
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn called() -> Command {
        command(OsStr::new("/usr/local/bin/kubectl-backup"))
    }

    #[test]
    fn clap_finds_no_contradiction() {
        called().debug_assert();
    }

    #[test]
    fn every_command_is_in_exactly_one_group() {
        let tree = tree();
        // Those that only pods of ours are started with are hidden.
        let known: BTreeSet<_> = tree
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(Command::get_name)
            .collect();
        let grouped: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(grouped.len(), known.len());
    }

    #[test]
    fn every_flag_and_command_has_one_plain_sentence() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id();
                if matches!(name.as_str(), "help" | "version") {
                    continue;
                }
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(
                    !help.is_empty() && !help.contains('\n') && help.len() <= 125,
                    "{} {name}: {help:?}",
                    command.get_name()
                );
            }
            for below in command.get_subcommands() {
                let about = below.get_about().map(ToString::to_string).unwrap_or_default();
                assert!(
                    !about.is_empty() && !about.ends_with('.') && about.len() <= 90,
                    "{}: {about:?}",
                    below.get_name()
                );
                check(below);
            }
        }
        check(&tree());
    }

    #[test]
    fn what_only_our_pods_run_is_not_shown() {
        let help = called().render_help().to_string();
        assert!(!help.contains("\n  metrics "), "{help}");
        assert!(
            help.contains("Usage: kubectl backup COMMAND [OPTIONS]\n"),
            "{help}"
        );
    }

    #[test]
    fn the_overview_fits_on_a_page() {
        let help = called().render_help().to_string();
        assert!(help.lines().count() <= 80, "{help}");
        assert!(help.lines().all(|line| line.len() <= 130), "{help}");
        assert!(help.contains("\n  kubectl backup create   "), "{help}");
    }

    #[test]
    fn it_is_called_as_the_user_called_it() {
        let table = [
            ("kubectl-backup", "kubectl backup"),
            ("/opt/krew/bin/kubectl-velero_protect", "kubectl velero-protect"),
            ("backup", "kubectl backup"),
        ];
        for (called_as, expected) in table {
            assert_eq!(shown_name(OsStr::new(called_as)), expected);
        }
    }
}
