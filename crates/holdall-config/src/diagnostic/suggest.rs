//! "Did you mean": the known word that is nearest to an unknown one.

/// Words longer than this are never compared: nobody mistypes them, and it would cost.
const LONGEST: usize = 64;

/// So many known words are looked at, at most.
const MOST: usize = 2000;

/// The known word nearest to `word`, if one is near enough to be what was meant: at most one edit in three
/// characters (swapped neighbours count once), letters compared without case.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let typed: Vec<char> = word.to_lowercase().chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known.into_iter().take(MOST) {
        if candidate == word || candidate.len() > LONGEST {
            continue;
        }
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        let allowed = (typed.len().max(other.len()) / 3).max(1);
        let distance = distance(&typed, &other);
        if distance <= allowed && distance < typed.len() && best.is_none_or(|(found, _)| distance < found) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["trigger", "passed", "params", "tags", "get"];
        for (word, meant) in [
            ("triger", Some("trigger")),
            ("pasesd", Some("passed")),
            ("Params", Some("params")),
            ("tag", Some("tags")),
            ("zzz", None),
            ("", None),
            ("get", None),
        ] {
            assert_eq!(did_you_mean(word, known), meant, "{word}");
        }
        assert_eq!(did_you_mean(&"x".repeat(1_000_000), known), None);
    }
}
