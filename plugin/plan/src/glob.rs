//! Namespace patterns with Velero's wildcards: `*`, `?`, `[abc]`, `[a-z]` and `{a,b}`.
//!
//! In come the words after `--include-namespaces` and `--exclude-namespaces`; out goes a compiled [`Globs`]. A word without
//! wildcard is a literal name. Velero checks a pattern before it compiles it, and so do we: what would silently mean
//! something else (`**`, regular expressions, brackets or braces that do not close) is refused with the rule. Velero 1.18.3
//! itself refuses braces; a caller that hands patterns to Velero expands them first.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namespace pattern \"{pattern}\": {problem}; allowed are names with * ? [abc] [a-z] {{a,b}}")]
pub struct GlobError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: GlobProblem,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobProblem {
    /// Empty text.
    #[error("it is empty")]
    Empty,
    /// `**`.
    #[error("only a single * is allowed, not **")]
    ConsecutiveAsterisks,
    /// A character that belongs to regular expressions or cannot be in a name.
    #[error("the character '{0}' is not supported")]
    Character(char),
    /// `[` without `]`.
    #[error("a '[' is not closed")]
    UnclosedBracket,
    /// `[]`.
    #[error("'[]' is empty")]
    EmptyBracket,
    /// `]` without `[`.
    #[error("a ']' has no '['")]
    UnmatchedBracket,
    /// `{` without `}`.
    #[error("a '{{' is not closed")]
    UnclosedBrace,
    /// `{}` or an empty alternative.
    #[error("'{{}}' has an empty alternative")]
    EmptyBrace,
    /// `}` without `{`, or a comma outside braces.
    #[error("a '}}' or ',' has no '{{'")]
    UnmatchedBrace,
    /// Braces inside braces.
    #[error("braces cannot be nested")]
    NestedBrace,
    /// `[z-a]` and the like.
    #[error("it cannot be compiled")]
    Malformed,
}

/// Whether a word has wildcards and is not just a name.
pub fn has_wildcard(word: &str) -> bool {
    word.contains(['*', '?', '[', '{'])
}

/// Checks one pattern by Velero's rules.
///
/// # Errors
/// Names the first problem.
pub fn check(pattern: &str) -> Result<(), GlobError> {
    problem(pattern).map_or(Ok(()), |problem| {
        Err(GlobError {
            pattern: pattern.to_owned(),
            problem,
        })
    })
}

fn problem(pattern: &str) -> Option<GlobProblem> {
    if pattern.is_empty() {
        return Some(GlobProblem::Empty);
    }
    if pattern.contains("**") {
        return Some(GlobProblem::ConsecutiveAsterisks);
    }
    let refused = |c: char| !c.is_ascii_alphanumeric() && !"-_.+*?[]{},".contains(c);
    if let Some(character) = pattern.chars().find(|c| refused(*c)) {
        return Some(GlobProblem::Character(character));
    }
    let mut rest = pattern;
    while let Some(at) = rest.find(['[', ']', '{', '}', ',']) {
        let (opener, tail) = (rest.as_bytes().get(at).copied(), &rest[at + 1..]);
        rest = match opener {
            Some(b'[') => match bracket(tail) {
                Ok(after) => after,
                Err(problem) => return Some(problem),
            },
            Some(b'{') => match brace(tail) {
                Ok(after) => after,
                Err(problem) => return Some(problem),
            },
            Some(b']') => return Some(GlobProblem::UnmatchedBracket),
            _ => return Some(GlobProblem::UnmatchedBrace),
        };
    }
    None
}

/// What follows the bracket whose inside begins at `tail`.
fn bracket(tail: &str) -> Result<&str, GlobProblem> {
    let (inside, after) = tail.split_once(']').ok_or(GlobProblem::UnclosedBracket)?;
    if inside.is_empty() {
        return Err(GlobProblem::EmptyBracket);
    }
    match inside
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c))
    {
        Some(character) => Err(GlobProblem::Character(character)),
        None => Ok(after),
    }
}

/// What follows the brace whose inside begins at `tail`.
fn brace(tail: &str) -> Result<&str, GlobProblem> {
    let (inside, after) = tail.split_once('}').ok_or(GlobProblem::UnclosedBrace)?;
    if inside.contains('{') {
        return Err(GlobProblem::NestedBrace);
    }
    for alternative in inside.split(',') {
        if alternative.is_empty() {
            return Err(GlobProblem::EmptyBrace);
        }
        if let Some(problem) = problem(alternative) {
            return Err(problem);
        }
    }
    Ok(after)
}

/// The patterns without braces that together mean the same as a checked pattern: `{a,b}-*` becomes `a-*` and `b-*`. `None`
/// when they would be more than `limit`.
pub fn expand_braces(pattern: &str, limit: usize) -> Option<Vec<String>> {
    let mut expanded = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, tail)) = rest.split_once('{') {
        let (inside, after) = tail.split_once('}').unwrap_or((tail, ""));
        let alternatives: Vec<&str> = inside.split(',').collect();
        if expanded.len().saturating_mul(alternatives.len()) > limit {
            return None;
        }
        expanded = expanded
            .iter()
            .flat_map(|begun| {
                alternatives
                    .iter()
                    .map(move |alternative| format!("{begun}{before}{alternative}"))
            })
            .collect();
        rest = after;
    }
    for pattern in &mut expanded {
        pattern.push_str(rest);
    }
    Some(expanded)
}

#[derive(Debug, Clone)]
enum Pattern {
    Literal(String),
    Wildcard(String, GlobMatcher),
}

/// A list of patterns; a name matches when one of them does.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    patterns: Vec<Pattern>,
}

impl Globs {
    /// Compiles the words.
    ///
    /// # Errors
    /// Names the first pattern that is refused and why.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, GlobError> {
        let patterns = words
            .iter()
            .map(|word| compile(word.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// Whether no pattern was given.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// How many patterns were given.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether one of the patterns is `*`, which stands for all namespaces and for no filter at all.
    pub fn has_everything(&self) -> bool {
        self.patterns
            .iter()
            .any(|pattern| matches!(pattern, Pattern::Wildcard(text, _) if text == "*"))
    }

    /// Whether the name matches one pattern.
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Literal(literal) => literal == name,
            Pattern::Wildcard(_, matcher) => matcher.is_match(name),
        })
    }

    /// The names given without a wildcard: one that does not exist is worth an error.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().filter_map(|pattern| match pattern {
            Pattern::Literal(literal) => Some(literal.as_str()),
            Pattern::Wildcard(..) => None,
        })
    }
}

fn compile(word: &str) -> Result<Pattern, GlobError> {
    check(word)?;
    if !has_wildcard(word) {
        return Ok(Pattern::Literal(word.to_owned()));
    }
    GlobBuilder::new(word)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map(|glob| Pattern::Wildcard(word.to_owned(), glob.compile_matcher()))
        .map_err(|_| GlobError {
            pattern: word.to_owned(),
            problem: GlobProblem::Malformed,
        })
}

impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self
            .patterns
            .iter()
            .map(|pattern| match pattern {
                Pattern::Literal(text) | Pattern::Wildcard(text, _) => text.as_str(),
            })
            .collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn braces_are_expanded_for_velero() {
        for (pattern, expected) in [
            ("shop", vec!["shop"]),
            ("shop-*", vec!["shop-*"]),
            ("{a,b}", vec!["a", "b"]),
            ("x-{a,b*}-[cd]", vec!["x-a-[cd]", "x-b*-[cd]"]),
            ("{a,b}{1,2}", vec!["a1", "a2", "b1", "b2"]),
        ] {
            assert_eq!(expand_braces(pattern, 4).unwrap(), expected, "{pattern}");
        }
        assert_eq!(expand_braces("{a,b}{1,2}{x,y}", 4), None);
    }

    proptest! {
        #[test]
        fn expanding_changes_no_match(
            pattern in "[ab*?]{0,2}(\\{[ab*]{1,2}(,[ab?]{1,2}){0,2}\\}[ab]{0,1}){0,2}", name in "[ab]{0,4}"
        ) {
            prop_assume!(check(&pattern).is_ok());
            let expanded = expand_braces(&pattern, 1000).unwrap();
            let has_brace = expanded.iter().any(|pattern| pattern.contains('{'));
            prop_assert!(!has_brace);
            // What stands beside a brace may make a `**` of it, which is no pattern any more.
            prop_assume!(expanded.iter().all(|pattern| check(pattern).is_ok()));
            let (one, all) = (Globs::parse(&[&pattern]).unwrap(), Globs::parse(&expanded).unwrap());
            prop_assert_eq!(one.matches(&name), all.matches(&name));
        }
    }

    #[test]
    fn velero_s_vectors() {
        for (pattern, expected) in [
            ("ns[abc]", None),
            ("ns[a-z]", None),
            ("ns[a-z0-9]", None),
            ("prefix-[abc]-suffix", None),
            ("app.prod", None),
            ("app+prod", None),
            ("{a,b}-prod", None),
            ("*", None),
            ("ns[abc", Some(GlobProblem::UnclosedBracket)),
            ("[abc", Some(GlobProblem::UnclosedBracket)),
            ("ns-abc]", Some(GlobProblem::UnmatchedBracket)),
            ("ns[abc]]", Some(GlobProblem::UnmatchedBracket)),
            ("ns[]", Some(GlobProblem::EmptyBracket)),
            ("[]ns", Some(GlobProblem::EmptyBracket)),
            ("**", Some(GlobProblem::ConsecutiveAsterisks)),
            ("app-**-prod", Some(GlobProblem::ConsecutiveAsterisks)),
            ("ns(1|2)", Some(GlobProblem::Character('('))),
            ("[!a]", Some(GlobProblem::Character('!'))),
            ("[^a]", Some(GlobProblem::Character('^'))),
            ("ns\\*", Some(GlobProblem::Character('\\'))),
            (" ", Some(GlobProblem::Character(' '))),
            ("", Some(GlobProblem::Empty)),
            ("{a,b", Some(GlobProblem::UnclosedBrace)),
            ("a,b", Some(GlobProblem::UnmatchedBrace)),
            ("a}", Some(GlobProblem::UnmatchedBrace)),
            ("{}", Some(GlobProblem::EmptyBrace)),
            ("{a,}", Some(GlobProblem::EmptyBrace)),
            ("{a,{b,c}}", Some(GlobProblem::NestedBrace)),
            ("[z-a]", Some(GlobProblem::Malformed)),
        ] {
            assert_eq!(
                Globs::parse(&[pattern]).err().map(|error| error.problem),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("app-*", "app-1", true),
            ("app-*", "my-app-1", false),
            ("ns?", "ns1", true),
            ("ns?", "ns", false),
            ("ns[a-c]", "nsb", true),
            ("ns[a-c]", "nsd", false),
            ("{shop,bank}-prod", "bank-prod", true),
            ("{shop,bank}-prod", "bar-prod", false),
            ("a.c", "abc", false),
            ("*", "anything", true),
            ("shop", "shop", true),
            ("shop", "shop2", false),
        ] {
            assert_eq!(
                Globs::parse(&[pattern]).unwrap().matches(name),
                expected,
                "{pattern} {name}"
            );
        }
        let globs = Globs::parse(&["a", "b*"]).unwrap();
        assert_eq!(globs.literals().collect::<Vec<_>>(), ["a"]);
        assert!(!globs.has_everything() && Globs::parse(&["a", "*"]).unwrap().has_everything());
    }

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| naive(rest, &name[skip..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([b'[', rest @ ..], [first, tail @ ..]) => {
                let close = rest.iter().position(|byte| *byte == b']').unwrap();
                rest[..close].contains(first) && naive(&rest[close + 1..], tail)
            }
            ([b'{', rest @ ..], _) => {
                let close = rest.iter().position(|byte| *byte == b'}').unwrap();
                rest[..close]
                    .split(|byte| *byte == b',')
                    .any(|alternative| naive(&[alternative, &rest[close + 1..]].concat(), name))
            }
            ([wanted, rest @ ..], [first, tail @ ..]) => wanted == first && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(
            pattern in "([ab]|\\*[ab]|\\?|\\[[ab]{1,2}\\]|\\{[ab]{1,2},[ab]{1,3}\\}){1,5}",
            name in "[ab]{0,8}",
        ) {
            let globs = Globs::parse(&[&pattern]).unwrap();
            prop_assert_eq!(globs.matches(&name), naive(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn parsing_never_panics(pattern in "[a\\[\\]{},*?!\u{e4}-]{0,10}") {
            let _ = Globs::parse(&[pattern]);
        }
    }
}
