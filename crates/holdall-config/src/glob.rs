//! The two glob languages of pipelines: one for `groups[].jobs`, one for `passed` (reference, validation,
//! section 18).
//!
//! Both become the same little automaton, which is run without backtracking: no pattern takes more time than its
//! length times the length of the name.

/// A pattern that was read.
#[derive(Debug, Clone)]
pub struct Glob {
    states: Vec<State>,
}

#[derive(Debug, Clone)]
enum State {
    /// One character of a kind.
    One(Kind),
    /// Any number of characters of a kind.
    Many(Kind),
    /// Goes on at each of these.
    Split(Vec<usize>),
    /// The end.
    End,
}

#[derive(Debug, Clone)]
enum Kind {
    Char(char),
    Any,
    NoSlash,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Kind {
    fn accepts(&self, c: char) -> bool {
        match self {
            Kind::Char(wanted) => *wanted == c,
            Kind::Any => true,
            Kind::NoSlash => c != '/',
            Kind::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

impl Glob {
    /// A pattern of `groups[].jobs`: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`, `{a,b}` and `\`; everything crosses `/`, and
    /// a brace that is not closed is closed by the end. `None` if it is not a pattern.
    pub fn of_group(pattern: &str) -> Option<Glob> {
        let mut glob = Glob { states: Vec::new() };
        let mut chars = pattern.chars().peekable();
        // For each open brace: where its alternatives start, and which states jump to its end.
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        while let Some(c) = chars.next() {
            match (c, open.last_mut()) {
                ('*', _) => glob.states.push(State::Many(Kind::Any)),
                ('?', _) => glob.states.push(State::One(Kind::Any)),
                ('[', _) => {
                    let negated = chars.next_if_eq(&'!').is_some();
                    glob.states.push(State::One(class(&mut chars, negated)?));
                }
                ('{', _) => {
                    open.push((glob.states.len(), Vec::new()));
                    glob.states.push(State::Split(vec![glob.states.len() + 1]));
                }
                (',', Some((start, jumps))) => {
                    jumps.push(glob.states.len());
                    glob.states.push(State::Split(Vec::new()));
                    let next = glob.states.len();
                    if let State::Split(targets) = &mut glob.states[*start] {
                        targets.push(next);
                    }
                }
                ('}', Some(_)) => glob.close(&mut open),
                ('\\', _) => glob.states.push(State::One(Kind::Char(chars.next()?))),
                (c, _) => glob.states.push(State::One(Kind::Char(c))),
            }
        }
        while !open.is_empty() {
            glob.close(&mut open);
        }
        glob.states.push(State::End);
        Some(glob)
    }

    /// Ends the innermost brace: its alternatives go on here.
    fn close(&mut self, open: &mut Vec<(usize, Vec<usize>)>) {
        let here = self.states.len();
        for jump in open.pop().map(|(_, jumps)| jumps).unwrap_or_default() {
            self.states[jump] = State::Split(vec![here]);
        }
    }

    /// A pattern of `passed`, in the language of Go's `path.Match`: `*` and `?` stop at `/`, `[^a]` negates, no
    /// braces. `None` if it is not a pattern; then it matches nothing.
    pub fn of_passed(pattern: &str) -> Option<Glob> {
        let mut states = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            states.push(match c {
                '*' => State::Many(Kind::NoSlash),
                '?' => State::One(Kind::NoSlash),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    State::One(class(&mut chars, negated)?)
                }
                '\\' => State::One(Kind::Char(chars.next()?)),
                c => State::One(Kind::Char(c)),
            });
        }
        states.push(State::End);
        Some(Glob { states })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut now = vec![false; self.states.len()];
        self.enter(&mut now, 0);
        for c in name.chars() {
            let mut next = vec![false; self.states.len()];
            for (at, state) in self.states.iter().enumerate().filter(|(at, _)| now[*at]) {
                match state {
                    State::One(kind) if kind.accepts(c) => self.enter(&mut next, at + 1),
                    State::Many(kind) if kind.accepts(c) => self.enter(&mut next, at),
                    _ => {}
                }
            }
            now = next;
        }
        now.last().copied().unwrap_or(false)
    }

    /// Marks a state and all that are reached from it without a character.
    fn enter(&self, marked: &mut [bool], at: usize) {
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            if std::mem::replace(&mut marked[at], true) {
                continue;
            }
            match &self.states[at] {
                State::Many(_) => waiting.push(at + 1),
                State::Split(targets) => waiting.extend(targets),
                State::One(_) | State::End => {}
            }
        }
    }
}

/// What stands in brackets, the opening one and the negation read already. `None` if it does not end or is empty.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, negated: bool) -> Option<Kind> {
    let mut ranges = Vec::new();
    loop {
        let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
            '\\' => chars.next(),
            c => Some(c),
        };
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Kind::Class { negated, ranges });
        }
        if matches!(chars.peek(), Some(']' | '-')) {
            return None;
        }
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { low };
        ranges.push((low, high));
    }
}

/// Whether a `passed` entry is a pattern at all, and not just a job's name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pattern: &str, name: &str) -> bool {
        Glob::of_group(pattern).is_some_and(|glob| glob.matches(name))
    }

    fn passed(pattern: &str, name: &str) -> bool {
        Glob::of_passed(pattern).is_some_and(|glob| glob.matches(name))
    }

    #[test]
    fn group_globs() {
        for (pattern, name, matches) in [
            ("a*", "a/b/c", true),
            ("{a,b}-x", "b-x", true),
            ("{a,b}-x", "c-x", false),
            ("{a,{b,c}d}", "cd", true),
            ("{a", "a", true),
            ("[!z]", "a", true),
            ("[^z]", "a", false),
            ("[^z]", "^", true),
            ("[a-c]?", "bx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("x**", "x/y/z", true),
            ("a,b", "a,b", true),
            ("", "", true),
        ] {
            assert_eq!(group(pattern, name), matches, "{pattern} {name}");
        }
        for bad in ["[a", "[]", "a\\", "[a-"] {
            assert!(Glob::of_group(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn passed_globs() {
        for (pattern, name, matches) in [
            ("a-*", "a-1", true),
            ("a*", "a/b", false),
            ("{a,c}", "a", false),
            ("[!b]", "b", true),
            ("[!b]", "a", false),
            ("[^b]", "a", true),
            ("?", "/", false),
            ("\\[", "[", true),
            ("[a", "[a", false),
        ] {
            assert_eq!(passed(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "*a".repeat(2000);
        assert!(!group(&pattern, &("a".repeat(1999) + "b")));
        assert!(group(&"{a,".repeat(2000), "a"));
    }
}
