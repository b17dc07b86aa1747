//! Patterns of names in a policy: `*` stands for any text, `?` for any character, the rest for itself.
//!
//! Names of claims are DNS subdomains, so a pattern may hold nothing else beside its wildcards: whoever writes a regular
//! expression or braces is told so instead of matching nothing.

use std::fmt;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is written.
    #[error("a name is empty; leave the list out to match every name")]
    Empty,
    /// A character that no name has.
    #[error("\"{pattern}\" has '{character}', which no name can have; allowed are a-z 0-9 - . * ?")]
    Character {
        /// The pattern.
        pattern: String,
        /// The first such character.
        character: char,
    },
}

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePattern {
    text: Box<str>,
}

impl NamePattern {
    /// Checks it.
    ///
    /// # Errors
    /// When it could match no name.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*?".contains(c);
        match pattern.chars().find(|c| !allowed(*c)) {
            Some(character) => Err(PatternError::Character {
                pattern: pattern.to_owned(),
                character,
            }),
            None => Ok(Self { text: pattern.into() }),
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has wildcards and is not just a name.
    pub fn has_wildcard(&self) -> bool {
        self.text.contains(['*', '?'])
    }

    /// Whether it matches the whole name. Takes time in proportion to both lengths at worst.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        let (mut at, mut in_name) = (0, 0);
        // Where the last star stands and how much of the name it has taken.
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = name.get(in_name) {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, in_name));
                    at += 1;
                }
                Some(wanted) if *wanted == b'?' || wanted == byte => {
                    at += 1;
                    in_name += 1;
                }
                _ => match star {
                    Some((position, taken)) => {
                        star = Some((position, taken + 1));
                        at = position + 1;
                        in_name = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(at).all(|byte| *byte == b'*')
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("data", "data", true),
            ("data", "data-0", false),
            ("data-*", "data-0", true),
            ("data-*", "data-", true),
            ("data-*", "my-data-0", false),
            ("*-data-?", "pg-data-1", true),
            ("*-data-?", "pg-data-10", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(
                NamePattern::parse(pattern).unwrap().matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        assert_eq!(NamePattern::parse(""), Err(PatternError::Empty));
        for (pattern, character) in [
            ("^data$", '^'),
            ("{a,b}", '{'),
            ("Data", 'D'),
            ("a b", ' '),
            ("[ab]", '['),
        ] {
            let error = NamePattern::parse(pattern).unwrap_err();
            assert_eq!(
                error,
                PatternError::Character {
                    pattern: pattern.to_owned(),
                    character
                }
            );
        }
    }

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| naive(rest, &name[skip..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([wanted, rest @ ..], [first, tail @ ..]) => wanted == first && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(pattern in "[ab*?]{1,7}", name in "[ab]{0,8}") {
            let parsed = NamePattern::parse(&pattern).unwrap();
            prop_assert_eq!(parsed.matches(&name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
