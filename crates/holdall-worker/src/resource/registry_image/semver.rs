//! Tags that are versions, and constraints on them, in the language that the community's type has: comparisons,
//! `~`, `^`, wildcards, ranges with a hyphen, space or comma for "and", `||` for "or".

use std::cmp::Ordering;
use std::str::FromStr;

/// A version as it stands in a tag: one to three numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagVersion {
    numbers: [u64; 3],
    /// How many of the numbers were written.
    pub(super) precision: usize,
    pre_release: Vec<String>,
}

/// What begins a pre-release; anything else after a hyphen is a variant.
pub(super) const PRE_RELEASES: [&str; 3] = ["alpha", "beta", "rc"];

impl TagVersion {
    /// Reads `1`, `1.2`, `1.2.3`, `v1.2.3` and `1.2.3-rc.1`. With a variant, `-VARIANT` must follow, and is not part
    /// of the version. `None` for any other tag.
    pub(super) fn of_tag(tag: &str, variant: Option<&str>, pre_releases: &[String]) -> Option<TagVersion> {
        let tag = match variant {
            Some(variant) => tag.strip_suffix(variant)?.strip_suffix('-')?,
            None => tag,
        };
        let version = TagVersion::parse(tag)?;
        let known = |first: &String| {
            PRE_RELEASES.iter().any(|start| first.starts_with(start))
                || pre_releases.iter().any(|start| first.starts_with(start.as_str()))
        };
        version.pre_release.first().is_none_or(known).then_some(version)
    }

    /// Reads a version with anything as its pre-release.
    fn parse(text: &str) -> Option<TagVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        // What is built of a version is the same version.
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (core, pre_release) = match text.split_once('-') {
            Some((core, pre_release)) => (core, pre_release.split('.').map(str::to_owned).collect()),
            None => (text, Vec::new()),
        };
        let mut numbers = [0; 3];
        let mut precision = 0;
        for part in core.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *numbers.get_mut(precision)? = part.parse().ok()?;
            precision += 1;
        }
        Some(TagVersion { numbers, precision, pre_release })
    }

    /// Whether it comes before its release.
    pub(super) fn is_pre_release(&self) -> bool {
        !self.pre_release.is_empty()
    }

    /// Its first numbers: `1.2` of `1.2.3` for 2.
    pub(super) fn prefix(&self, length: usize) -> String {
        self.numbers[..length.min(3)].iter().map(u64::to_string).collect::<Vec<_>>().join(".")
    }

    /// Whether the first numbers are the same.
    pub(super) fn shares(&self, other: &TagVersion, length: usize) -> bool {
        self.numbers[..length.min(3)] == other.numbers[..length.min(3)]
    }
}

impl Ord for TagVersion {
    /// Semantic versioning's order; of equal versions the more precisely written one is later.
    fn cmp(&self, other: &TagVersion) -> Ordering {
        let by_pre_release = match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_identifiers(&self.pre_release, &other.pre_release),
        };
        self.numbers.cmp(&other.numbers).then(by_pre_release).then(self.precision.cmp(&other.precision))
    }
}

impl PartialOrd for TagVersion {
    fn partial_cmp(&self, other: &TagVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn compare_identifiers(a: &[String], b: &[String]) -> Ordering {
    let one = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    };
    let first = a.iter().zip(b).map(|(a, b)| one(a, b)).find(|order| order.is_ne());
    first.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// What a version must be: all conditions of one of the alternatives.
#[derive(Debug, Clone)]
pub(super) struct Constraint(Vec<Vec<Condition>>);

#[derive(Debug, Clone)]
struct Condition {
    lowest: Option<TagVersion>,
    /// The first version above that does not count any more.
    below: Option<TagVersion>,
    /// The other way round.
    negated: bool,
    /// Whether pre-releases were asked for by naming one.
    pre_releases: bool,
}

/// A constraint of more text than this is a mistake.
const MAX_CONSTRAINT: usize = 1000;

impl FromStr for Constraint {
    type Err = String;

    /// The error is a sentence.
    fn from_str(text: &str) -> Result<Constraint, String> {
        let malformed =
            || format!("`{text}` is not a constraint: write for example `>= 1.2, < 2`, `~1.2.3`, `^1` or `1.x || 2.x`");
        if text.len() > MAX_CONSTRAINT {
            return Err(format!("a constraint of more than {MAX_CONSTRAINT} characters"));
        }
        let alternatives = text.split("||").map(|part| parse_alternative(part).ok_or_else(malformed));
        Ok(Constraint(alternatives.collect::<Result<_, _>>()?))
    }
}

impl Constraint {
    /// Whether the version is one of those that are wanted. A pre-release is only where the constraint names one.
    pub(super) fn allows(&self, version: &TagVersion) -> bool {
        self.0.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(version)))
    }
}

impl Condition {
    fn holds(&self, version: &TagVersion) -> bool {
        if version.is_pre_release() && !self.pre_releases {
            return false;
        }
        // How precisely a version was written makes no difference here.
        let order = |a: &TagVersion, b: &TagVersion| {
            TagVersion { precision: 3, ..a.clone() }.cmp(&TagVersion { precision: 3, ..b.clone() })
        };
        let inside = self.lowest.as_ref().is_none_or(|lowest| order(version, lowest).is_ge())
            && self.below.as_ref().is_none_or(|below| order(version, below).is_lt());
        inside != self.negated
    }
}

const OPERATORS: [&str; 12] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^", ""];

fn parse_alternative(text: &str) -> Option<Vec<Condition>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (low, high) = (Partial::parse(low.trim())?, Partial::parse(high.trim())?);
        let pre_releases = low.is_pre_release() || high.is_pre_release();
        return Some(vec![Condition { lowest: Some(low.lowest()), below: high.after(), negated: false, pre_releases }]);
    }
    let mut words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).peekable();
    words.peek()?;
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        let operator = OPERATORS.iter().find(|operator| word.starts_with(**operator)).copied().unwrap_or("");
        let rest = &word[operator.len()..];
        // `>= 1.2` as well as `>=1.2`.
        let operand = if rest.is_empty() { words.next()? } else { rest };
        conditions.push(condition(operator, &Partial::parse(operand)?));
    }
    Some(conditions)
}

fn condition(operator: &str, partial: &Partial) -> Condition {
    let lowest = Some(partial.lowest());
    let (lowest, below, negated) = match operator {
        "!=" => (lowest, partial.after(), true),
        ">=" | "=>" => (lowest, None, false),
        // Above everything that the operand stands for; nothing is above everything.
        ">" => match partial.after() {
            Some(after) => (Some(after), None, false),
            None => (None, None, true),
        },
        "<=" | "=<" => (None, partial.after(), false),
        "<" => (None, lowest, false),
        // The last number that was written may grow; of one number, anything after it may.
        "~" | "~>" => (lowest, partial.next_at(partial.written.min(2)), false),
        // The first number that is not zero may not grow.
        "^" => {
            let significant = partial.numbers[..partial.written].iter().position(|number| *number != 0);
            (lowest, partial.next_at(significant.map_or(partial.written, |position| position + 1)), false)
        }
        _ => (lowest, partial.after(), false),
    };
    Condition { lowest, below, negated, pre_releases: partial.is_pre_release() }
}

/// A version of which the last numbers may be missing or `x`.
struct Partial {
    numbers: [u64; 3],
    written: usize,
    pre_release: Vec<String>,
}

impl Partial {
    fn parse(text: &str) -> Option<Partial> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let wildcard = |part: &str| matches!(part, "x" | "X" | "*");
        let written: Vec<&str> = bare.split('.').take_while(|part| !wildcard(part)).collect();
        let rest = bare.split('.').skip(written.len());
        if bare.split('.').count() > 3 && rest.clone().next().is_some() || !rest.clone().all(wildcard) {
            return None;
        }
        if written.is_empty() {
            return (!bare.is_empty()).then_some(Partial { numbers: [0; 3], written: 0, pre_release: Vec::new() });
        }
        let version = TagVersion::parse(&written.join("."))?;
        Some(Partial { numbers: version.numbers, written: version.precision, pre_release: version.pre_release })
    }

    fn is_pre_release(&self) -> bool {
        !self.pre_release.is_empty()
    }

    fn lowest(&self) -> TagVersion {
        TagVersion { numbers: self.numbers, precision: 3, pre_release: self.pre_release.clone() }
    }

    /// The first version after all that this stands for.
    fn after(&self) -> Option<TagVersion> {
        if self.is_pre_release() {
            // Just after itself: the same with one more identifier, the lowest there is.
            let mut after = self.lowest();
            after.pre_release.push("0".to_owned());
            return Some(after);
        }
        self.next_at(self.written)
    }

    /// The first version in which one of the first `length` numbers has grown, its pre-releases included. `None`: there
    /// is none.
    fn next_at(&self, length: usize) -> Option<TagVersion> {
        let position = length.checked_sub(1)?;
        let mut numbers = [0; 3];
        numbers[..=position].copy_from_slice(&self.numbers[..=position]);
        numbers[position] = numbers[position].checked_add(1)?;
        Some(TagVersion { numbers, precision: 3, pre_release: vec!["0".to_owned()] })
    }
}

#[cfg(test)]
mod tests;
