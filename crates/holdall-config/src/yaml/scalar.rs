//! What a plain scalar means, by the rules of Go's yaml.v2 that sigs.k8s.io/yaml keeps.

use serde_json::{Number, Value};

use super::node::Yaml;

/// The value of a scalar that is written without quotes.
pub(super) fn resolve(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Yaml::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Yaml::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Yaml::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Yaml::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Yaml::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' if !is_timestamp(text) => {
            let plain = text.replace('_', "");
            int(&plain).map(Yaml::Int).or_else(|| float(&plain))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Yaml::String(text.to_owned()))
}

/// A whole number: decimal, `0x`, `0o`, `0b` or, with a leading zero, octal.
fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -value } else { value };
    // Go reads a signed number as 64 bits with sign, and only an unsigned one up to 2^64 - 1.
    (value >= i128::from(i64::MIN) && (value <= i128::from(i64::MAX) || !text.starts_with('+'))).then_some(value)
}

/// A number with a fraction or an exponent. Out of range is no number.
fn float(text: &str) -> Option<Yaml> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) || !exponent_is_right {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Yaml::Float)
}

/// Whether it is a date, with or without a time: such a scalar stays text.
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
    year.len() == 4 && digits(year) && digits(month) && rest.starts_with(|c: char| c.is_ascii_digit())
}

/// A float as Go writes one where a string is wanted: the shortest text that gives the same 32-bit float, with an
/// exponent below 1e-4 and from 1e6 (reference, validation, section 8).
pub fn go_float(value: f64) -> String {
    let single = value as f32;
    if single == 0.0 {
        return if single.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{single:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return single.to_string();
    }
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A number as JSON tools keep it: a 64-bit float, without a point where it is whole.
pub fn number(value: f64) -> Value {
    let whole = value.fract() == 0.0;
    if whole && value >= i64::MIN as f64 && value < i64::MAX as f64 {
        (value as i64).into()
    } else if whole && value >= 0.0 && value < u64::MAX as f64 {
        (value as u64).into()
    } else {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_typed_as_go_types_them() {
        for text in ["y", "Yes", "ON", "true"] {
            assert_eq!(resolve(text), Yaml::Bool(true), "{text}");
        }
        for (text, value) in [
            ("0755", 493),
            ("0o17", 15),
            ("0x1F", 31),
            ("0b101", 5),
            ("-0b11", -3),
            ("+3", 3),
            ("1_000", 1000),
            ("18446744073709551615", i128::from(u64::MAX)),
            ("-9223372036854775808", i128::from(i64::MIN)),
        ] {
            assert_eq!(resolve(text), Yaml::Int(value), "{text}");
        }
        for (text, value) in
            [("09", 9.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("12e03", 12000.0), ("-1.5", -1.5)]
        {
            assert_eq!(resolve(text), Yaml::Float(value), "{text}");
        }
        for text in
            ["12:30:45", "2001-12-14", "2001-12-14t21:59:43.10-05:00", "yES", "nULL", "1.2.3", "0xg", "+-3", "-", "."]
        {
            assert_eq!(resolve(text), Yaml::String(text.into()), "{text}");
        }
        assert_eq!(resolve(&"9".repeat(400)), Yaml::String("9".repeat(400)));
    }

    #[test]
    fn floats_become_text_in_32_bits() {
        for (value, text) in [
            (1.1, "1.1"),
            (1.234_567_890_12, "1.2345679"),
            (12000.0, "12000"),
            (18_446_744_073_709_551_616.0, "1.8446744e+19"),
            (1e6, "1e+06"),
            (0.00001, "1e-05"),
            (-0.5, "-0.5"),
            (0.0, "0"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn numbers_beyond_53_bits_are_rounded_as_json_tools_do() {
        assert_eq!(number(9_007_199_254_740_993_i64 as f64).to_string(), "9007199254740992");
        assert_eq!(number(1.5).to_string(), "1.5");
        assert_eq!(number(-3.0).to_string(), "-3");
    }
}
