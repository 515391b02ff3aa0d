//! Which tags are versions, their order, and what constraints allow.

use super::*;

fn version(tag: &str) -> TagVersion {
    TagVersion::of_tag(tag, None, &[]).unwrap_or_else(|| panic!("{tag} is a version"))
}

#[test]
fn tags_that_are_versions() {
    for tag in ["1", "1.2", "1.2.3", "v1.2.3", "1.2.3-rc.1", "1.2.3-beta2", "1.2.3-alpha", "1.2.3+build"] {
        assert!(TagVersion::of_tag(tag, None, &[]).is_some(), "{tag}");
    }
    for tag in ["latest", "", "v", "1.2.3.4", "1.2.3-alpine", "1.x", "-1", "1..2", "99999999999999999999", "main-1.2.3"]
    {
        assert!(TagVersion::of_tag(tag, None, &[]).is_none(), "{tag}");
    }
    assert!(TagVersion::of_tag("1.2.3-alpine", Some("alpine"), &[]).is_some());
    assert!(TagVersion::of_tag("1.2.3-rc.1-alpine", Some("alpine"), &[]).is_some());
    for tag in ["1.2.3", "1.2.3-php7.3-alpine", "alpine", "-alpine"] {
        assert!(TagVersion::of_tag(tag, Some("alpine"), &[]).is_none(), "{tag}");
    }
    assert!(TagVersion::of_tag("1.2.3-dev.1", None, &["dev".to_owned()]).is_some());
}

#[test]
fn order() {
    let sorted = [
        "0.9",
        "1-alpha",
        "1-alpha.2",
        "1-alpha.10",
        "1-alpha.x",
        "1-beta",
        "1-rc.1",
        "1",
        "1.0",
        "1.0.0",
        "1.0.1",
        "1.2",
        "1.10",
        "2",
    ];
    for pair in sorted.windows(2) {
        assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
    }
}

#[test]
fn constraints() {
    for (constraint, allowed, refused) in [
        ("1.2.3", &["1.2.3", "v1.2.3"][..], &["1.2.4", "1.2"][..]),
        ("=1.2", &["1.2", "1.2.0", "1.2.9"], &["1.3", "1.1.9"]),
        ("1.2.x", &["1.2.0", "1.2.9"], &["1.3.0"]),
        ("1.*", &["1.0", "1.9.9"], &["2", "0.9"]),
        ("*", &["0", "9.9.9"], &["1.0.0-rc.1"]),
        ("!=1.2.3", &["1.2.4"], &["1.2.3"]),
        (">1.2", &["1.3.0", "2"], &["1.2.0", "1.2.9"]),
        (">1.2.3", &["1.2.4"], &["1.2.3"]),
        (">= 1.2 < 3.0.0 || >= 4.2.3", &["1.2", "2.9.9", "4.2.3", "5"], &["1.1", "3.0.0", "4.2.2"]),
        (">=1.2, <2", &["1.2.0", "1.9.9"], &["2.0.0", "1.1"]),
        ("<=1.2", &["1.2.9", "0"], &["1.3"]),
        ("<1.2", &["1.1.9"], &["1.2.0"]),
        ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
        ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
        ("~1", &["1.0", "1.9"], &["2.0"]),
        ("~1.2.x", &["1.2.5"], &["1.3"]),
        ("~>1.2.3", &["1.2.4"], &["1.3.0"]),
        ("^1.2.3", &["1.2.3", "1.9.0"], &["2.0.0", "1.2.2"]),
        ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0"]),
        ("^0.0.3", &["0.0.3"], &["0.0.4"]),
        ("^0", &["0.9.9"], &["1.0.0"]),
        ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.4.6", "1.1"]),
        ("1.2 - 1.4", &["1.4.9"], &["1.5"]),
        // Pre-releases only where one is named.
        (">=1.2.0", &["1.2.0"], &["1.3.0-rc.1"]),
        (">=1.2.0-rc.1", &["1.2.0-rc.1", "1.2.0-rc.2", "1.3.0-beta"], &["1.2.0-beta"]),
        ("<2.0.0-0", &["1.9.9", "1.9.9-rc.1"], &["2.0.0-rc.1"]),
        ("1.2.0-rc.1", &["1.2.0-rc.1"], &["1.2.0-rc.2", "1.2.0"]),
        (">*", &[], &["1", "9.9.9"]),
    ] {
        let parsed: Constraint = constraint.parse().unwrap_or_else(|error| panic!("{error}"));
        for tag in allowed {
            assert!(parsed.allows(&version(tag)), "{constraint} allows {tag}");
        }
        for tag in refused {
            assert!(!parsed.allows(&version(tag)), "{constraint} refuses {tag}");
        }
    }
    for text in ["", "||", "1 ||", ">=", "abc", "1.2.3.4", "1.x.3", ">= 1.2 <", "1 - ", "18446744073709551616"] {
        let error = text.parse::<Constraint>().expect_err(text);
        assert!(error.contains("is not a constraint"), "{error}");
    }
    assert!("1 ".repeat(10_000).parse::<Constraint>().is_err());
    assert!(!"^18446744073709551615".parse::<Constraint>().expect("odd, but a constraint").allows(&version("1")));
}
