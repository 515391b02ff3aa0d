//! Names by pattern, as a shell has them: `*` also matches `/`, because names of tags and files are matched one by one.

/// Whether `text` matches a glob of `*`, `?` and `[...]`. Works through both once, with one place to go back to: a
/// hostile pattern costs at most the product of both lengths.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => match class_matches(&pattern[p..], text[t]) {
                Some((length, true)) => Some(length),
                Some((_, false)) => None,
                None => (text[t] == '[').then_some(1),
            },
            Some('\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(2),
            Some(c) => (*c == text[t]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((star_p, star_t))) => {
                p = star_p + 1;
                t = star_t + 1;
                star = Some((star_p, t));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// For a pattern that begins with `[`: how long the class is, and whether it holds `c`. `None`: it never ends.
fn class_matches(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let end = (start + 1..pattern.len()).find(|i| pattern[*i] == ']')?;
    let class = &pattern[start..end];
    let mut found = false;
    let mut i = 0;
    while i < class.len() {
        if i + 2 < class.len() && class[i + 1] == '-' {
            found |= (class[i]..=class[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= class[i] == c;
            i += 1;
        }
    }
    Some((end + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("v*", "v1.0", true),
            ("v*", "1.0", false),
            ("*.*.*", "1.2.3", true),
            ("*.*.*", "1.2", false),
            ("v?.0", "v1.0", true),
            ("v[0-9]*", "v7x", true),
            ("v[!0-9]*", "v7x", false),
            ("release/*", "release/a/b", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("[", "[", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!glob_matches(&"*a".repeat(2000), &"b".repeat(20_000)));
    }
}
