//! How the binaries of a release are built.
//!
//! In comes a target triple, out come both binaries, built in the release profile by cargo with flags of a release's own:
//! no path of the building machine is in them, so that another machine with the same compiler builds the same bytes. What a
//! machine lacks for a target is said before anything is built, with the line that installs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{BINARIES, Binaries, Platform, root};
use crate::image::suite::{libraries_from, library_folder};
use crate::{plugin, process};

/// What a release is built for where nobody says otherwise.
pub const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// What stands between two flags in `CARGO_ENCODED_RUSTFLAGS`.
const BETWEEN: &str = "\x1f";

/// Builds both binaries for a target.
pub fn build(triple: &str) -> Result<(Platform, Binaries)> {
    let platform = Platform::of_triple(triple)?;
    let environment = environment(triple, &platform)?;
    let mut built = Binaries::new();
    for name in BINARIES {
        let file = plugin::binary_for(triple, name, &environment)?;
        built.insert(name, file.with_file_name(platform.executable(name)));
    }
    Ok((platform, built))
}

/// Fails where this machine cannot build for a target, and says what it lacks.
pub fn check(triple: &str) -> Result<()> {
    let platform = Platform::of_triple(triple)?;
    let missing = |what: &str, install: &str| {
        format!(
            "{triple} cannot be built here: {what} is missing; {install}. Or name what can be built with --target, and take \
             archives of other machines with --with"
        )
    };
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", triple])
        .current_dir(root())
        .output()
        .context("rustc does not start")?;
    let libraries = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if !output.status.success() || !libraries.is_dir() {
        bail!(missing(
            "Rust's standard library for it",
            &format!("rustup target add {triple}")
        ));
    }
    if let Some(compiler) = cross_compiler(&platform) {
        if let Some(error) = library_folder(&platform.arch).and_then(|folder| {
            let library = folder.join("libc.so.6");
            (!library.is_file())
                .then(|| missing(&library.display().to_string(), &libraries_from(&platform.arch)))
        }) {
            bail!(error);
        }
        let named = std::env::var_os(linker_variable(triple)).is_some();
        if !named && process::on_path(&compiler).is_none() {
            // Debian's packages have dashes where names of programs may have an underscore.
            let package = compiler
                .strip_suffix("-gcc")
                .unwrap_or(&compiler)
                .replace('_', "-");
            bail!(missing(
                &compiler,
                &format!(
                    "as root: apt-get install gcc-{package} libc6-dev-{}-cross",
                    platform.arch
                )
            ));
        }
    }
    Ok(())
}

/// The name of Debian's C compiler for another Linux than this one.
fn cross_compiler(platform: &Platform) -> Option<String> {
    if *platform == Platform::here() || platform.os != "linux" {
        return None;
    }
    match platform.arch.as_str() {
        "amd64" => Some("x86_64-linux-gnu-gcc".to_owned()),
        "arm64" => Some("aarch64-linux-gnu-gcc".to_owned()),
        _ => None,
    }
}

fn linker_variable(triple: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", upper(triple))
}

fn upper(triple: &str) -> String {
    triple.to_uppercase().replace('-', "_")
}

fn environment(triple: &str, platform: &Platform) -> Result<Vec<(String, OsString)>> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let places = places()?;
    // cargo takes the first of these alone, so what was said stays said. Flags that stand in a configuration do not count here.
    let of_target = format!("CARGO_TARGET_{}_RUSTFLAGS", upper(triple));
    let mut flags: Vec<String> = match said("CARGO_ENCODED_RUSTFLAGS") {
        Some(flags) => flags.split(BETWEEN).map(str::to_owned).collect(),
        None => said("RUSTFLAGS")
            .or_else(|| said(&of_target))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    };
    let mut c_flags = said(&format!("CFLAGS_{}", triple.replace('-', "_")))
        .or_else(|| said("CFLAGS"))
        .unwrap_or_default();
    for (from, to) in &places {
        let from = from
            .to_str()
            .with_context(|| format!("{} is not UTF-8", from.display()))?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
        c_flags = format!("{c_flags} -ffile-prefix-map={from}={to}");
    }
    let mut environment = vec![
        ("CARGO_ENCODED_RUSTFLAGS".to_owned(), flags.join(BETWEEN).into()),
        (
            format!("CFLAGS_{}", triple.replace('-', "_")),
            c_flags.trim().into(),
        ),
    ];
    if platform.arch == "arm64" {
        // Kernels there have pages of 4, 16 or 64 KiB. jemalloc ends where pages are larger than it was built for, and runs
        // where they are smaller.
        environment.push(("JEMALLOC_SYS_WITH_LG_PAGE".to_owned(), "16".into()));
    }
    if let Some(compiler) = cross_compiler(platform) {
        let linker = linker_variable(triple);
        if said(&linker).is_none() {
            environment.push((linker, compiler.into()));
        }
    }
    Ok(environment)
}

/// Folders of this machine and what they are called in a release. Where several fit the last counts, for rustc as for gcc.
fn places() -> Result<Vec<(PathBuf, &'static str)>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let mut places = vec![
        (std::fs::canonicalize(root())?, "/kubectl-backup"),
        (plugin::target_folder()?, "/target"),
        (home.clone(), "/cargo"),
    ];
    // Each registry has a folder of its own there, and a mirror's has another name.
    places.extend(
        folders(&home.join("registry/src"))
            .into_iter()
            .map(|folder| (folder, "/crates")),
    );
    Ok(places)
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(of)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_the_way_to_get_it() {
        let error = check("x86_64-pc-windows-nope").unwrap_err().to_string();
        assert!(
            error.contains("rustup target add x86_64-pc-windows-nope") && error.contains("--with"),
            "{error}"
        );
        assert!(check("riscv64gc-unknown-linux-gnu").is_err());
    }

    #[test]
    fn places_of_this_machine_have_other_names() {
        let triple = TARGETS[0];
        let environment = environment(triple, &Platform::of_triple(triple).unwrap()).unwrap();
        let flags = environment[0].1.to_str().unwrap();
        let root = std::fs::canonicalize(root()).unwrap();
        assert!(
            flags.contains(&format!("--remap-path-prefix={}=/kubectl-backup", root.display())),
            "{flags}"
        );
        // The more special one stands behind the more general one.
        let at = |to: &str| flags.find(to).unwrap();
        assert!(at("=/cargo") < at("=/crates"), "{flags}");
    }
}
