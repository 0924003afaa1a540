//! PostgreSQL's exact numbers.

use bytes::Buf;

/// Sign words of the binary form.
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Decimal digits of one digit of the binary form.
const GROUP_DIGITS: i32 = 4;
const GROUP_MAX: u16 = 9999;

/// A `numeric` as its binary form holds it: digits to the base 10000, the first of which counts 10000^weight.
#[derive(Debug)]
pub(super) enum Numeric {
    Finite {
        negative: bool,
        weight: i16,
        fraction_digits: u16,
        groups: Vec<u16>,
    },
    Special(&'static str),
}

impl Numeric {
    /// Reads the binary form (`numeric_send`).
    pub(super) fn from_binary(mut bytes: &[u8]) -> Result<Self, String> {
        let short = |_| "a numeric that ends too early".to_owned();
        let count = bytes.try_get_u16().map_err(short)?;
        let weight = bytes.try_get_i16().map_err(short)?;
        let sign = bytes.try_get_u16().map_err(short)?;
        let fraction_digits = bytes.try_get_u16().map_err(short)?;
        let groups = (0..count)
            .map(|_| bytes.try_get_u16().map_err(short))
            .collect::<Result<Vec<_>, _>>()?;
        if bytes.has_remaining() || groups.iter().any(|&group| group > GROUP_MAX) {
            return Err("a malformed numeric".into());
        }
        Ok(match sign {
            POSITIVE | NEGATIVE => Numeric::Finite {
                negative: sign == NEGATIVE,
                weight,
                fraction_digits,
                groups,
            },
            NAN => Numeric::Special("NaN"),
            POSITIVE_INFINITY => Numeric::Special("Infinity"),
            NEGATIVE_INFINITY => Numeric::Special("-Infinity"),
            _ => return Err("a malformed numeric".into()),
        })
    }

    /// The number times 10^scale.
    pub(super) fn unscaled(&self, scale: u8) -> Result<i128, String> {
        let (negative, weight, groups) = match self {
            Numeric::Special(text) => return Err(format!("{text} is no decimal number")),
            Numeric::Finite {
                negative,
                weight,
                groups,
                ..
            } => (*negative, *weight, groups),
        };
        let mut sum = 0i128;
        let mut exponent = i32::from(weight) * GROUP_DIGITS + i32::from(scale);
        for &group in groups {
            let group = i128::from(group);
            let share = if group == 0 {
                0
            } else if let Ok(power) = u32::try_from(exponent) {
                10i128
                    .checked_pow(power)
                    .and_then(|factor| group.checked_mul(factor))
                    .ok_or_else(too_large)?
            } else {
                let divisor = 10i128
                    .checked_pow(exponent.unsigned_abs())
                    .ok_or_else(too_fine)?;
                if group % divisor != 0 {
                    return Err(too_fine());
                }
                group / divisor
            };
            sum = sum.checked_add(share).ok_or_else(too_large)?;
            exponent -= GROUP_DIGITS;
        }
        Ok(if negative { -sum } else { sum })
    }

    /// The text form (`numeric_out`).
    pub(super) fn to_text(&self) -> String {
        let (negative, weight, fraction_digits, groups) = match self {
            Numeric::Special(text) => return (*text).to_owned(),
            Numeric::Finite {
                negative,
                weight,
                fraction_digits,
                groups,
            } => (
                *negative,
                i32::from(*weight),
                usize::from(*fraction_digits),
                groups,
            ),
        };
        let group = |position: i32| {
            usize::try_from(position)
                .ok()
                .and_then(|position| groups.get(position))
                .copied()
                .unwrap_or(0)
        };
        let mut text = String::new();
        if negative {
            text.push('-');
        }
        if weight < 0 {
            text.push('0');
        } else {
            text.push_str(&group(0).to_string());
            for position in 1..=weight {
                text.push_str(&format!("{:04}", group(position)));
            }
        }
        if fraction_digits > 0 {
            text.push('.');
            let end = text.len() + fraction_digits;
            let mut position = weight + 1;
            while text.len() < end {
                text.push_str(&format!("{:04}", group(position)));
                position += 1;
            }
            text.truncate(end);
        }
        text
    }
}

fn too_large() -> String {
    "a number of more than 38 digits".into()
}

fn too_fine() -> String {
    "a number with more digits after the point than its column states".into()
}

/// Reads the text form of a number as the number times 10^scale.
pub(super) fn unscaled_from_text(text: &str, scale: u8) -> Result<i128, String> {
    let malformed = || format!("'{text}' is no decimal number");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(malformed());
    }
    let kept = fraction.get(..usize::from(scale)).unwrap_or(fraction);
    if fraction
        .get(kept.len()..)
        .is_some_and(|rest| rest.bytes().any(|byte| byte != b'0'))
    {
        return Err(too_fine());
    }
    let padding = usize::from(scale).saturating_sub(kept.len());
    let digits = whole
        .bytes()
        .chain(kept.bytes())
        .chain(std::iter::repeat_n(b'0', padding));
    let mut sum = 0i128;
    for digit in digits {
        let digit = i128::from(digit - b'0');
        sum = sum
            .checked_mul(10)
            .and_then(|sum| sum.checked_add(digit))
            .ok_or_else(too_large)?;
    }
    Ok(if negative { -sum } else { sum })
}
