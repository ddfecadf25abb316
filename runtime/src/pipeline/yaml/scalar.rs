//! What a scalar without quotes is.

/// Returns whether it is null, or nothing.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a scalar without quotes is.
#[derive(PartialEq, Debug)]
pub(super) enum Plain {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

/// Returns what a scalar without quotes is, or why that is not clear.
pub(super) fn plain(text: &str) -> Result<Plain, &'static str> {
    match text {
        _ if is_null(text) => return Ok(Plain::Null),
        "true" | "True" | "TRUE" => return Ok(Plain::Boolean(true)),
        "false" | "False" | "FALSE" => return Ok(Plain::Boolean(false)),
        _ => (),
    }
    if let Some(reason) = ambiguous(text) {
        return Err(reason);
    }
    if let Ok(number) = text.parse() {
        return Ok(Plain::Unsigned(number));
    }
    if let Ok(number) = text.parse() {
        return Ok(Plain::Signed(number));
    }
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let only = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let is_number = has_digit && only && !text.starts_with(['e', 'E']);
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Ok(Plain::Float(number)),
        Ok(_) if is_number => Err(NOT_JSON),
        _ => Ok(Plain::Text),
    }
}

const NOT_JSON: &str = "is not a number that JSON has";

/// Returns why a scalar without quotes is not clearly a number, if it looks like one.
pub(super) fn ambiguous(scalar: &str) -> Option<&'static str> {
    let digits = scalar.strip_prefix(['-', '+']).unwrap_or(scalar);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&digits) {
        return Some(NOT_JSON);
    }
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let only = |text: &str, allowed: &[u8]| text.bytes().all(|byte| is_digit(&byte) || allowed.contains(&byte));
    if !digits.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
        return None;
    }
    let radix = ["0b", "0o", "0x"].iter().any(|radix| digits.starts_with(radix));
    if radix && digits[2..].bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_') {
        return Some("is a number in some versions of YAML only");
    }
    if digits.contains('_') && only(digits, b"_.eE+-") {
        return Some("is a number in some versions of YAML only");
    }
    if only(digits, b"") {
        if digits.len() > 1 && digits.starts_with('0') || scalar.starts_with('+') {
            return Some("is not clearly a number");
        }
        let fits = scalar.parse::<i64>().is_ok() || scalar.parse::<u64>().is_ok();
        return (!fits).then_some("has more than 64 bits");
    }
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
    let is_float = only(mantissa, b".") && mantissa.matches('.').count() <= 1 && only(exponent, b"+-");
    let significant = mantissa.trim_matches(['0', '.']).bytes().filter(is_digit).count();
    if is_float && mantissa.len() > 1 && mantissa.starts_with('0') && !mantissa.starts_with("0.") {
        return Some("is not clearly a number");
    }
    (is_float && significant > 17).then_some("has more digits than a number holds")
}
