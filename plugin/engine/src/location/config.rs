//! The user's file of named locations, and what a word on the command line means.
//!
//! `$XDG_CONFIG_HOME/kubectl-backup/locations.yaml`: names, their URLs, the default. It is read whole, changed in
//! memory and written beside itself before it is renamed, so that a reader never meets half of it; only its owner may
//! read it, though it holds no keys. [`resolve`] gives a word its meaning: a URL, else a name in the file, else the
//! file's default. BackupStorageLocations in the cluster are for the caller to try when the name is unknown here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::nearest::nearest;
use super::{Location, LocationError, url};

/// Named locations and the default among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocationsFile {
    /// Name of the location to use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Locations by name.
    #[serde(default)]
    pub locations: BTreeMap<String, NamedLocation>,
}

/// One named location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedLocation {
    /// Its URL, as [`url::parse`] reads it.
    pub url: String,
}

/// The file's path: below `XDG_CONFIG_HOME` if that is absolute, else below `~/.config`.
pub fn default_path(xdg_config_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let xdg = xdg_config_home
        .map(Path::new)
        .filter(|path| path.is_absolute())
        .map(Path::to_owned);
    let folder = xdg.or_else(|| Some(Path::new(home?).join(".config")))?;
    Some(folder.join("kubectl-backup").join("locations.yaml"))
}

impl LocationsFile {
    /// Reads the file; a missing one is empty.
    pub fn load(path: &Path) -> Result<Self, LocationError> {
        let fail = |reason: String| LocationError::File {
            path: path.display().to_string(),
            reason,
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(fail(error.to_string())),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: Self = serde_saphyr::from_str(&text).map_err(|error| fail(error.to_string()))?;
        for (name, location) in &file.locations {
            check_name(name).map_err(|reason| fail(format!("locations.{name}: {reason}")))?;
            url::parse(&location.url).map_err(|error| fail(format!("locations.{name}: {error}")))?;
        }
        if let Some(default) = file
            .default
            .as_ref()
            .filter(|name| !file.locations.contains_key(*name))
        {
            return Err(fail(format!(
                "default: there is no location {default:?}; {}",
                file.known()
            )));
        }
        Ok(file)
    }

    /// Writes the file, whole or not at all, readable by its owner only.
    pub fn save(&self, path: &Path) -> Result<(), LocationError> {
        let fail = |reason: String| LocationError::File {
            path: path.display().to_string(),
            reason,
        };
        let text = serde_saphyr::to_string(self).map_err(|error| fail(error.to_string()))?;
        let folder = path.parent().ok_or_else(|| fail("it has no folder".into()))?;
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            // Made with mode 0600, under a name of its own.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| fail(error.to_string()))
    }

    /// Adds or replaces a location. The first one becomes the default.
    pub fn add(&mut self, name: &str, location: &Location) -> Result<(), LocationError> {
        check_name(name).map_err(|reason| LocationError::UnknownName {
            name: name.into(),
            known: reason,
        })?;
        self.locations.insert(
            name.to_owned(),
            NamedLocation {
                url: url::print(location),
            },
        );
        if self.default.is_none() {
            self.default = Some(name.to_owned());
        }
        Ok(())
    }

    /// Removes a location, and the default if it was that.
    pub fn remove(&mut self, name: &str) -> Result<(), LocationError> {
        if self.locations.remove(name).is_none() {
            return Err(self.unknown(name));
        }
        self.default.take_if(|default| default == name);
        Ok(())
    }

    /// Chooses the default.
    pub fn set_default(&mut self, name: &str) -> Result<(), LocationError> {
        if !self.locations.contains_key(name) {
            return Err(self.unknown(name));
        }
        self.default = Some(name.to_owned());
        Ok(())
    }

    /// The location of a name.
    pub fn get(&self, name: &str) -> Result<Location, LocationError> {
        match self.locations.get(name) {
            Some(named) => url::parse(&named.url),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> LocationError {
        let known = match nearest(name, self.locations.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}? {}", self.known()),
            None => self.known(),
        };
        LocationError::UnknownName {
            name: name.to_owned(),
            known,
        }
    }

    fn known(&self) -> String {
        let names: Vec<_> = self.locations.keys().map(String::as_str).collect();
        if names.is_empty() {
            return "no locations are known; add one with `kubectl backup location add NAME URL`".into();
        }
        format!("known locations: {}", names.join(", "))
    }
}

/// Names are short words, so that they cannot be taken for URLs or paths.
fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = name.len() <= 63 && ends(name.chars().next()) && ends(name.chars().last());
    if fits && name.chars().all(legal) {
        Ok(())
    } else {
        Err("a name has at most 63 lower-case letters, digits, dashes and dots, and begins and ends with a letter or digit".into())
    }
}

/// What a word means, given the environment's `KUBECTL_BACKUP_LOCATION` and the file: the word itself, else the
/// environment's, else the file's default.
pub fn resolve(
    word: Option<&str>,
    environment: Option<&str>,
    file: &LocationsFile,
) -> Result<Location, LocationError> {
    let given = word.or(environment).filter(|word| !word.is_empty());
    match given.or(file.default.as_deref()) {
        None => Err(LocationError::Nothing),
        Some(word) if url::is_url(word) => url::parse(word),
        Some(name) => file.get(name),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str) -> Result<LocationsFile, LocationError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locations.yaml");
        std::fs::write(&path, text).unwrap();
        LocationsFile::load(&path)
    }

    #[test]
    fn the_path_follows_xdg() {
        let path =
            |xdg: Option<&str>, home: Option<&str>| default_path(xdg.map(OsStr::new), home.map(OsStr::new));
        let expected = Some(PathBuf::from("/x/kubectl-backup/locations.yaml"));
        assert_eq!(path(Some("/x"), Some("/home/me")), expected);
        let expected = Some(PathBuf::from("/home/me/.config/kubectl-backup/locations.yaml"));
        assert_eq!(path(None, Some("/home/me")), expected);
        assert_eq!(path(Some("relative"), Some("/home/me")), expected);
        assert_eq!(path(None, None), None);
    }

    #[test]
    fn a_file_reads_back_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("locations.yaml");
        assert_eq!(LocationsFile::load(&path).unwrap(), LocationsFile::default());
        let mut file = LocationsFile::default();
        file.add(
            "prod",
            &url::parse("s3://b/p?endpoint=http://127.0.0.1:9000&region=us-east-1").unwrap(),
        )
        .unwrap();
        file.add("disk", &url::parse("file:///srv/backups").unwrap())
            .unwrap();
        file.save(&path).unwrap();
        assert_eq!(LocationsFile::load(&path).unwrap(), file);
        assert_eq!(file.default.as_deref(), Some("prod"));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        file.remove("prod").unwrap();
        assert_eq!(file.default, None);
        file.save(&path).unwrap();
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing but the file"
        );
    }

    #[test]
    fn mistakes_in_the_file_are_named_with_their_place() {
        let table = [
            ("locations:\n  prod:\n    ulr: s3://b\n", "ulr"),
            ("locatoins: {}\n", "locatoins"),
            (
                "locations:\n  prod:\n    url: s3://b?regoin=x\n",
                "locations.prod",
            ),
            ("locations:\n  Prod/1:\n    url: s3://b\n", "lower-case"),
            ("default: gone\n", "\"gone\""),
            ("- 1\n", "locations.yaml"),
        ];
        for (text, expected) in table {
            let error = file(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(file("\n").unwrap(), LocationsFile::default());
    }

    #[test]
    fn a_word_is_a_url_or_a_name_or_the_default() {
        let text = "default: disk\nlocations:\n  disk: {url: file:///srv/backups}\n  prod: {url: s3://b}\n";
        let file = file(text).unwrap();
        let described = |word, environment| resolve(word, environment, &file).unwrap().describe();
        assert_eq!(described(Some("s3://c/p"), Some("prod")), "s3://c/p");
        assert_eq!(described(Some("prod"), Some("disk")), "s3://b");
        assert_eq!(described(None, Some("prod")), "s3://b");
        assert_eq!(described(None, Some("")), "file:///srv/backups");
        assert_eq!(described(None, None), "file:///srv/backups");
        let unknown = resolve(Some("prdo"), None, &file).unwrap_err().to_string();
        assert!(
            unknown.contains("did you mean \"prod\"") && unknown.contains("disk, prod"),
            "{unknown}"
        );
        assert_eq!(
            resolve(None, None, &LocationsFile::default()).unwrap_err(),
            LocationError::Nothing
        );
    }
}
