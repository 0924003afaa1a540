//! Decimals without a float in between.

/// Reads JSON number text or the same within a string (`-12.50`, `1e3`) as that number times 10^scale.
pub(super) fn from_text(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    let not_a_number = || format!("'{text}' is not a decimal number");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.parse::<i32>().map_err(|_| not_a_number())?,
        ),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| byte.is_ascii_digit())
    {
        return Err(not_a_number());
    }
    let fraction = fraction.trim_end_matches('0');
    let mut unscaled: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        unscaled = unscaled
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')))
            .ok_or_else(|| {
                format!("{text} has too many digits for decimal({precision},{scale})")
            })?;
    }
    let unscaled = if negative { -unscaled } else { unscaled };
    let own_scale =
        i64::try_from(fraction.len()).map_err(|_| not_a_number())? - i64::from(exponent);
    rescale(unscaled, own_scale, precision, scale)
        .ok_or_else(|| format!("{text} does not fit decimal({precision},{scale})"))
}

/// Reads Kafka Connect's `Decimal`: the number times 10^own_scale as big-endian two's complement bytes.
pub(super) fn from_bytes(
    bytes: &[u8],
    own_scale: i64,
    precision: u8,
    scale: u8,
) -> Result<i128, String> {
    let too_large = || {
        format!(
            "a decimal of {} bytes does not fit decimal({precision},{scale})",
            bytes.len()
        )
    };
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let (extension, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut wide = [fill; 16];
    wide.get_mut(16 - low.len()..)
        .ok_or_else(too_large)?
        .copy_from_slice(low);
    let unscaled = i128::from_be_bytes(wide);
    if extension.iter().any(|&byte| byte != fill) || (unscaled < 0) != negative {
        return Err(too_large());
    }
    rescale(unscaled, own_scale, precision, scale).ok_or_else(|| {
        format!("{unscaled} of scale {own_scale} does not fit decimal({precision},{scale})")
    })
}

/// The same number at another scale, if it is exact there and has no more than `precision` digits.
fn rescale(unscaled: i128, own_scale: i64, precision: u8, scale: u8) -> Option<i128> {
    let shift = i64::from(scale) - own_scale;
    let scaled = if unscaled == 0 {
        0
    } else if shift >= 0 {
        unscaled.checked_mul(10i128.checked_pow(u32::try_from(shift).ok()?)?)?
    } else {
        let divisor = 10i128.checked_pow(u32::try_from(-shift).ok()?)?;
        if unscaled % divisor != 0 {
            return None;
        }
        unscaled / divisor
    };
    (scaled.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_exact() {
        for (text, expected) in [
            ("0", 0),
            ("-0.00", 0),
            ("12.5", 1250),
            ("+12.50", 1250),
            ("-0.01", -1),
            ("1e3", 100_000),
            ("1234.5E-1", 12345),
            ("1.1000000000000000000000000000000000000000000000", 110),
            ("0e99", 0),
            ("9007199254740993.01", 900_719_925_474_099_301),
        ] {
            assert_eq!(from_text(text, 38, 2), Ok(expected), "{text}");
        }
        assert_eq!(
            from_text("99999999999999999999999999999999999999", 38, 0),
            Ok(10i128.pow(38) - 1)
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for text in [
            "", "-", ".", "1.2.3", "1a", "NaN", "0x10", "1e", "--1", " 1",
        ] {
            assert!(
                from_text(text, 10, 2)
                    .unwrap_err()
                    .contains("not a decimal"),
                "{text}"
            );
        }
        for text in [
            "0.001",
            "100000000",
            "1e300",
            "999999999999999999999999999999999999999999",
        ] {
            assert!(
                from_text(text, 10, 2)
                    .unwrap_err()
                    .contains("decimal(10,2)"),
                "{text}"
            );
        }
    }

    #[test]
    fn twos_complement_bytes() {
        assert_eq!(from_bytes(&[0x04, 0xe2], 2, 10, 2), Ok(1250));
        assert_eq!(from_bytes(&[0xff], 2, 10, 2), Ok(-1));
        assert_eq!(from_bytes(&[], 0, 10, 2), Ok(0));
        assert_eq!(from_bytes(&[0x00, 0x80], 0, 10, 1), Ok(1280));
        let mut seventeen = vec![0u8; 15];
        seventeen.extend([0x30, 0x39]);
        assert_eq!(from_bytes(&seventeen, 0, 10, 0), Ok(12345));
        assert!(from_bytes(&[0x01; 17], 0, 38, 0).is_err());
        let mut sign_in_extension = vec![0u8];
        sign_in_extension.extend([0xff; 16]);
        assert!(from_bytes(&sign_in_extension, 0, 38, 0).is_err());
        assert!(
            from_bytes(&[0x01], 3, 10, 2)
                .unwrap_err()
                .contains("scale 3")
        );
    }
}
