//! What may be a name (reference, section 1.12; validation, section 24).

use std::fmt;

/// What is the matter with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identifier {
    /// Nothing.
    Fine,
    /// It is empty: an error.
    Empty,
    /// It is not what names should be: a warning that says why.
    Odd(String),
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identifier::Fine => f.write_str("fine"),
            Identifier::Empty => f.write_str("identifier cannot be an empty string"),
            Identifier::Odd(why) => f.write_str(why),
        }
    }
}

/// Judges a name: letters that are not capitals, and digits; behind the first character also `-`, `_` and `.`.
pub fn identifier(name: &str) -> Identifier {
    let letter = |c: char| (c.is_alphabetic() && !c.is_uppercase()) || c.is_ascii_digit();
    let Some(first) = name.chars().next() else { return Identifier::Empty };
    let odd = |why: String| Identifier::Odd(format!("'{name}' is not a valid identifier: {why}"));
    if !letter(first) {
        return odd("must start with a lowercase letter or a number".into());
    }
    if let Some(c) = name.chars().find(|c| !letter(*c) && !matches!(c, '-' | '_' | '.')) {
        return odd(format!("illegal character '{c}'"));
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return odd("cannot be just numbers".into());
    }
    Identifier::Fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_concourse_judges_them() {
        for name in ["a", "1a", "a-b_c.d", "straße", "名前"] {
            assert_eq!(identifier(name), Identifier::Fine, "{name}");
        }
        assert_eq!(identifier(""), Identifier::Empty);
        for (name, why) in [
            ("A", "must start with a lowercase letter or a number"),
            ("-a", "must start with a lowercase letter or a number"),
            ("aB", "illegal character 'B'"),
            ("a b", "illegal character ' '"),
            ("12", "cannot be just numbers"),
            ("e\u{301}", "illegal character '\u{301}'"),
        ] {
            assert!(identifier(name).to_string().ends_with(why), "{name}");
        }
    }
}
