//! Numbers in CSV.

use std::str::FromStr;

fn parse<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Parses an integer, if its text says all of it: `007` and `+1` are text.
pub fn integer(field: &[u8]) -> Option<i64> {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    let is_negative = digits.len() < field.len();
    match digits {
        [] => return None,
        [b'0', ..] if field.len() > 1 => return None,
        // up to 16 digits, there is no overflow
        [..] if digits.len() > 16 => return digits[0].is_ascii_digit().then(|| parse(field)).flatten(),
        [..] => {}
    }
    let (high, low) = digits.split_at(digits.len().saturating_sub(8));
    let mut number = of_digits(word(low), low.len())?;
    if !high.is_empty() {
        number += of_digits(word(high), high.len())? * 100_000_000;
    }
    let number = number as i64;
    Some(if is_negative { -number } else { number })
}

/// Returns the bytes of a text of 1 to 8 bytes, the first one in the lowest bits.
fn word(text: &[u8]) -> u64 {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (text.len() - 4))
        }
        _ => (text.iter().rev()).fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Parses a word of `len` digits, the first one in the lowest bits, all at once; `None` if there are other characters.
fn of_digits(word: u64, len: usize) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let missing = 8 * (8 - len) as u32;
    // leading zeros
    let word = word << missing | (ZEROS & !u64::MAX.checked_shl(missing).unwrap_or_default());
    if word & HIGH != ZEROS || (word + 0x0606_0606_0606_0606) & HIGH != ZEROS {
        return None;
    }
    // pairs of digits, then of these, and so on
    let pairs = (word & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 << 16 | 1) >> 16;
    Some((fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 << 32 | 1) >> 32)
}

/// Parses a number of 1 to 8 bytes without a sign, with or without a point. Returns its digits, and how many of them are behind the point.
fn of_short(text: &[u8]) -> Option<(u64, usize)> {
    let (word, len) = (word(text), text.len());
    // a byte of `different` is zero where there is a point
    let different = word ^ 0x2e2e_2e2e_2e2e_2e2e;
    let points = different.wrapping_sub(0x0101_0101_0101_0101) & !different & 0x8080_8080_8080_8080;
    if points == 0 {
        return Some((of_digits(word, len)?, 0));
    }
    let place = points.trailing_zeros() as usize / 8;
    let before = word & !(u64::MAX << (8 * place));
    let behind = (word >> (8 * place)) >> 8 << (8 * place);
    let digits = len.checked_sub(1).filter(|digits| *digits > 0)?;
    Some((of_digits(before | behind, digits)?, digits - place))
}

/// Parses a double, if its text says all of it: `00.5` and integers beyond 64 bits are text.
pub fn float(field: &[u8]) -> Option<f64> {
    let number = field.strip_prefix(b"-").unwrap_or(field);
    let is_negative = number.len() < field.len();
    let of = |mantissa: u64, fraction: usize| {
        let value = mantissa as f64 / POWERS[fraction];
        Some(if is_negative { -value } else { value })
    };
    if (1..=8).contains(&number.len())
        && !matches!(number, [b'0', b'0'..=b'9', ..])
        && let Some((mantissa, fraction)) = of_short(number)
    {
        return of(mantissa, fraction);
    }
    let mut mantissa = 0;
    let whole = push_digits(number, 0, &mut mantissa);
    if whole > 1 && number[0] == b'0' {
        return None;
    }
    let has_point = number.get(whole) == Some(&b'.');
    let end = match has_point {
        true => push_digits(number, whole + 1, &mut mantissa),
        false => whole,
    };
    let fraction = end - whole - usize::from(has_point);
    let count = whole + fraction;
    if count == 0 {
        return matches!(field, b"NaN" | b"nan" | b"inf" | b"-inf")
            .then(|| parse(field))
            .flatten();
    }
    match &number[end..] {
        // both are doubles without a loss, so their quotient is as near as a double can be
        [] if count <= 15 => of(mantissa, fraction),
        // in a column with floats, an integer is a float only if it is within 64 bits
        [] if !has_point && integer(field).is_none() => None,
        [] => parse(field),
        [b'e' | b'E', exponent @ ..] => {
            let digits = exponent
                .strip_prefix(b"+")
                .or(exponent.strip_prefix(b"-"))
                .unwrap_or(exponent);
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            is_number.then(|| parse(field)).flatten()
        }
        _ => None,
    }
}

/// The powers of ten with 0 to 15 zeros.
const POWERS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Appends the digits from `start` on to a number, which may overflow. Returns their end.
fn push_digits(text: &[u8], start: usize, number: &mut u64) -> usize {
    let mut end = start;
    while let Some(byte) = text.get(end) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        end += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_that_are_no_digits_make_no_number(field in "-?[0-9./:;\\-e \u{80}]{1,18}") {
            let bytes = field.as_bytes();
            prop_assert_eq!(integer(bytes).map(|number| number.to_string()), integer(bytes).map(|_| field.clone()));
            if let Some(number) = float(bytes) {
                prop_assert_eq!(number.to_bits(), field.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn numbers_are_those_of_std(field in "-?[0-9]{0,21}(\\.[0-9]{0,21})?([eE][+-]?[0-9]{0,3})?") {
            let bytes = field.as_bytes();
            if let Some(number) = integer(bytes) {
                prop_assert_eq!(number.to_string(), field.clone());
            }
            if let Some(number) = float(bytes) {
                prop_assert_eq!(number.to_bits(), field.parse::<f64>().unwrap().to_bits());
            }
            let is_long = field.parse::<i64>().is_err();
            let has_zeros = field.trim_start_matches('-').starts_with('0') && field.trim_start_matches(['-', '0']).starts_with(|c: char| c.is_ascii_digit());
            let is_number = field.parse::<f64>().is_ok() && !has_zeros && (field.contains(['.', 'e', 'E']) || !is_long);
            prop_assert!(!is_number || float(bytes).is_some() || field.starts_with("00") || field.starts_with("-00"), "{}", field);
        }
    }
}
