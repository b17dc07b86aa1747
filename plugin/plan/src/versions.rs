//! Which versions of the parts in a cluster a plugin of another version may take over.
//!
//! In come two versions as `MAJOR.MINOR.PATCH`, out goes what may be done. Parts are never moved back: an older server may
//! not understand what a newer one has written. One minor version at a time, since each may change what the one before
//! it has written, and only that.

use std::fmt;

/// What moving from one version to another would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// They are the same.
    Same,
    /// Forward by a patch or one minor version.
    Forward,
    /// The cluster is ahead.
    Back,
    /// A minor version would be left out; the one to go through first, as `MAJOR.MINOR`.
    TooFar {
        /// The next on the way.
        through: String,
    },
    /// One of them is no version.
    Unknown,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "the same version",
            Self::Forward => "an upgrade",
            Self::Back => "a step back",
            Self::TooFar { .. } => "too big a step",
            Self::Unknown => "not known",
        })
    }
}

/// The three numbers of `v1.2.3-rest`.
pub(crate) fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = version.strip_prefix('v').unwrap_or(version).splitn(3, '.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    let patch = numbers.next()?;
    let end = patch.find(['-', '+']).unwrap_or(patch.len());
    Some((major, minor, patch.get(..end)?.parse().ok()?))
}

/// From the version in the cluster to that of the plugin.
pub fn between(installed: &str, ours: &str) -> Move {
    let (Some(from), Some(to)) = (parse(installed), parse(ours)) else {
        return Move::Unknown;
    };
    match () {
        () if from == to => Move::Same,
        () if from > to => Move::Back,
        () if from.0 == to.0 && to.1 <= from.1 + 1 => Move::Forward,
        // What the last minor version of a major one is called is not known here; the next is the way out of any.
        () if from.0 == to.0 => Move::TooFar {
            through: format!("{}.{}", from.0, from.1 + 1),
        },
        () if to.0 == from.0 + 1 && to.1 == 0 => Move::Forward,
        () => Move::TooFar {
            through: format!("{}.0", from.0 + 1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_forward_one_minor_at_a_time() {
        let through = |through: &str| Move::TooFar {
            through: through.to_owned(),
        };
        for (installed, ours, expected) in [
            ("0.1.0", "0.1.0", Move::Same),
            ("v0.1.0", "0.1.0", Move::Same),
            ("0.1.0", "0.1.7", Move::Forward),
            ("0.1.9", "0.2.0", Move::Forward),
            ("0.1.0", "0.3.0", through("0.2")),
            ("0.9.0", "1.0.0", Move::Forward),
            ("0.9.0", "1.1.0", through("1.0")),
            ("0.2.0", "0.1.9", Move::Back),
            ("1.0.0", "0.9.0", Move::Back),
            ("0.1.0-rc.1", "0.1.0", Move::Same),
            ("", "0.1.0", Move::Unknown),
            ("0.1", "0.1.0", Move::Unknown),
        ] {
            assert_eq!(between(installed, ours), expected, "{installed} -> {ours}");
        }
    }
}
