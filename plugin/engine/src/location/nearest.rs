//! The word that somebody probably meant.
//!
//! In comes what was typed and what would have been right, out goes the nearest of these if it is near enough to be
//! a slip.

/// The candidate with the fewest edits to `typed`, if they are at most a third of its length (and at least two).
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates
        .into_iter()
        .map(|candidate| (distance(typed, candidate), candidate));
    let (edits, candidate) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= (candidate.chars().count() / 3).max(2)).then_some(candidate)
}

/// Insertions, deletions and replacements between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, character) in left.chars().enumerate() {
        let mut next = vec![line + 1];
        let mut before = line + 1;
        for ((other, diagonal), above) in right.iter().zip(&row).zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(*other != character);
            before = replaced.min(above + 1).min(before + 1);
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["endpoint", "region", "path-style", "ca-file"];
        assert_eq!(nearest("enpoint", known), Some("endpoint"));
        assert_eq!(nearest("pathstyle", known), Some("path-style"));
        assert_eq!(nearest("Region", known), Some("region"));
        assert_eq!(nearest("bandwidth", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn distances() {
        for (left, right, edits) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
            assert_eq!(distance(right, left), edits, "{right} {left}");
        }
    }
}
