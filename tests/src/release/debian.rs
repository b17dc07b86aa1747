//! Which Debian packages files of this machine come from.
//!
//! In come paths, out come the packages that own them, asked of dpkg. A file that no package owns, or that is not as its
//! package brought it, is an error: an SBOM that passes over a file says less than none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// Source package and its version.
    pub(super) source: (String, String),
    /// `debian` and `debian-12`, as the machine calls itself.
    pub(super) vendor: String,
    pub(super) distribution: String,
}

/// The packages that own these files.
pub(super) fn packages(files: &BTreeSet<PathBuf>) -> Result<Vec<Package>> {
    let (vendor, distribution) = distribution()?;
    let candidates = files
        .iter()
        .map(|file| Ok((file, paths(file)?)))
        .collect::<Result<Vec<_>>>()?;
    let owners = owners(candidates.iter().flat_map(|(_, paths)| paths))?;
    let mut owned: BTreeMap<&str, BTreeSet<&Path>> = BTreeMap::new();
    for (file, paths) in &candidates {
        let (path, package) = paths
            .iter()
            .find_map(|path| Some((path, owners.get(path)?)))
            .with_context(|| {
                format!(
                    "{} goes into the image and no Debian package owns it, so the SBOM cannot name where it comes from",
                    file.display()
                )
            })?;
        owned.entry(package).or_default().insert(path);
    }
    let format = "${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\n";
    let mut found = Vec::new();
    for (package, files) in &owned {
        untouched(package, files)?;
        let shown = run("dpkg-query", &["--show", "--showformat", format, package])?;
        let line = String::from_utf8(shown.stdout)?;
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        let [name, version, architecture, source, source_version] = fields.as_slice() else {
            bail!("dpkg-query says {line:?} of {package}");
        };
        found.push(Package {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: (*architecture).to_owned(),
            source: ((*source).to_owned(), (*source_version).to_owned()),
            vendor: vendor.clone(),
            distribution: distribution.clone(),
        });
    }
    Ok(found)
}

/// The paths by which dpkg may know a file: since /lib is a link to /usr/lib a file has two, and releases of Debian differ
/// in which of them it is.
fn paths(file: &Path) -> Result<Vec<PathBuf>> {
    let real = std::fs::canonicalize(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut paths = vec![file.to_owned(), real.clone()];
    for path in [file, &real] {
        paths.push(match path.strip_prefix("/usr") {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path)),
        });
    }
    Ok(paths)
}

/// Which of these paths are owned, and by what. dpkg fails if it does not know one of them and still prints the others.
fn owners<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<BTreeMap<PathBuf, String>> {
    let paths: BTreeSet<&str> = paths.filter_map(|path| path.to_str()).collect();
    let mut arguments = vec!["--search"];
    arguments.extend(paths);
    let printed = String::from_utf8(run("dpkg-query", &arguments)?.stdout)?;
    // `PACKAGE: PATH`, or `PACKAGE, PACKAGE: PATH`; diversions are lines of another form.
    Ok(printed
        .lines()
        .filter(|line| !line.starts_with("diversion "))
        .filter_map(|line| {
            let (packages, path) = line.split_once(": /")?;
            let package = packages.split(", ").next()?;
            Some((Path::new("/").join(path), package.to_owned()))
        })
        .collect())
}

/// Fails where a file is not as its package brought it. dpkg names what differs, one file a line.
fn untouched(package: &str, files: &BTreeSet<&Path>) -> Result<()> {
    let printed = run("dpkg", &["--verify", package])?;
    let printed = String::from_utf8(printed.stdout)?;
    let changed: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.find('/').and_then(|start| line.get(start..)))
        .filter(|path| files.contains(Path::new(path)))
        .collect();
    ensure!(
        changed.is_empty(),
        "{} is not as {package} brought it: apt-get install --reinstall {package}",
        changed.join(", ")
    );
    Ok(())
}

fn distribution() -> Result<(String, String)> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let vendor = value("ID").context("/etc/os-release has no ID")?;
    let distribution = match value("VERSION_ID") {
        Some(version) => format!("{vendor}-{version}"),
        // Debian's unreleased versions have a name alone.
        None => format!("{vendor}-{}", value("VERSION_CODENAME").unwrap_or_default()),
    };
    Ok((vendor, distribution))
}

fn run(program: &str, arguments: &[&str]) -> Result<std::process::Output> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .with_context(|| {
            format!("{program} does not start: the image is made on Debian, whose packages the SBOM names")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_no_package_is_an_error_and_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = BTreeSet::from([PathBuf::from("/bin/sh"), file.path().to_owned()]);
        let error = packages(&files).unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()) && error.contains("no Debian package"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_found_by_either_of_its_paths() {
        let of = |path: &str| packages(&BTreeSet::from([PathBuf::from(path)])).unwrap();
        assert_eq!(of("/bin/ls"), of("/usr/bin/ls"));
        assert_eq!(of("/bin/ls")[0].name, "coreutils");
    }
}
