//! Sizes and times as fio writes them, and numbers as it prints them.
//!
//! What fio takes silently for something else is refused here: `1.5k` is one byte to fio, `10sec` ten microseconds.

/// Why a value is not a size, a time or a number; it says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing is there.
    #[error("a value is missing; allowed is {allowed}")]
    Empty {
        /// What is.
        allowed: &'static str,
    },
    /// The value begins with something else than digits, or a fraction or a sum follows them.
    #[error("'{text}' is no whole number with a unit; allowed is {allowed}")]
    Number {
        /// The value.
        text: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The letters after the number are no unit.
    #[error("'{unit}' is no unit; allowed is {allowed}")]
    Unit {
        /// The letters.
        unit: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The value is greater than any that can be held.
    #[error("'{text}' is too large")]
    TooLarge {
        /// The value.
        text: String,
    },
}

/// A size, or a share of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths.
    Percent(u64),
}

/// What one step of a unit of size is, `kb_base` of fio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KiloBase {
    /// `k` and `kb` are 1024 bytes, `kib` is 1000: fio's default, and the opposite of the standard.
    #[default]
    Inverted1024,
    /// `k` and `kb` are 1000 bytes, `kib` is 1024: as the standard has it.
    Standard1000,
}

impl KiloBase {
    /// 1024 or 1000, as the option is written.
    pub fn number(self) -> u64 {
        match self {
            KiloBase::Inverted1024 => 1024,
            KiloBase::Standard1000 => 1000,
        }
    }

    fn other(self) -> u64 {
        match self {
            KiloBase::Inverted1024 => 1000,
            KiloBase::Standard1000 => 1024,
        }
    }
}

const SIZES: &str =
    "a number with k, m, g, t or p, with or without b or ib (4k, 16mb, 1gib, 0x1000)";
const SIZES_OR_PERCENT: &str = "a number with k, m, g, t or p, with or without b or ib (4k, 16mb, 1gib, 0x1000), or a percentage (20%)";
const TIMES: &str = "a number with us, ms, s, m, h or d (30s, 5m, 500ms)";
const NUMBERS: &str = "a whole number";

/// Reads a size in bytes.
///
/// # Errors
///
/// [`UnitError`], if `text` is not a number with one of fio's units.
///
/// # Examples
///
/// ```
/// use moonshine_sysprobe::bench::units::{KiloBase, size};
///
/// assert_eq!(size("4k", KiloBase::Inverted1024), Ok(4096));
/// assert_eq!(size("4kib", KiloBase::Inverted1024), Ok(4000));
/// assert_eq!(size("4k", KiloBase::Standard1000), Ok(4000));
/// ```
pub fn size(text: &str, base: KiloBase) -> Result<u64, UnitError> {
    let (number, unit) = split(text, SIZES)?;
    in_bytes(text, number, &unit, base, SIZES)
}

/// Reads a size in bytes or a percentage.
///
/// # Errors
///
/// [`UnitError`], if `text` is neither.
pub fn amount(text: &str, base: KiloBase) -> Result<Amount, UnitError> {
    let (number, unit) = split(text, SIZES_OR_PERCENT)?;
    if unit == "%" {
        return Ok(Amount::Percent(number));
    }
    in_bytes(text, number, &unit, base, SIZES_OR_PERCENT).map(Amount::Bytes)
}

/// Reads a count. fio takes the units of sizes here too, so `rate_iops=1k` means 1024.
///
/// # Errors
///
/// [`UnitError`], if `text` is not a number with one of fio's units.
pub fn count(text: &str, base: KiloBase) -> Result<u64, UnitError> {
    let (number, unit) = split(text, NUMBERS)?;
    in_bytes(text, number, &unit, base, NUMBERS)
}

/// Reads a time in microseconds; a number without a unit counts `unit_us` each.
///
/// # Errors
///
/// [`UnitError`], if `text` is not a number with one of fio's units.
pub fn time_us(text: &str, unit_us: u64) -> Result<u64, UnitError> {
    let (number, unit) = split(text, TIMES)?;
    let factor = match unit.as_str() {
        "" => unit_us,
        "us" | "usec" => 1,
        "ms" | "msec" => 1_000,
        "s" => 1_000_000,
        "m" => 60 * 1_000_000,
        "h" => 60 * 60 * 1_000_000,
        "d" => 24 * 60 * 60 * 1_000_000,
        _ => {
            return Err(UnitError::Unit {
                unit,
                allowed: TIMES,
            });
        }
    };
    number.checked_mul(factor).ok_or_else(|| too_large(text))
}

/// The number and the unit, in small letters.
fn split(text: &str, allowed: &'static str) -> Result<(u64, String), UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty { allowed });
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let hexadecimal = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((unsigned, 10), |digits| (digits, 16));
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let (digits, unit) = digits.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    if digits.is_empty() || unit.chars().any(|c| !c.is_ascii_alphabetic() && c != '%') {
        return Err(UnitError::Number {
            text: text.to_owned(),
            allowed,
        });
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| too_large(text))?;
    Ok((number, unit))
}

fn in_bytes(
    text: &str,
    number: u64,
    unit: &str,
    base: KiloBase,
    allowed: &'static str,
) -> Result<u64, UnitError> {
    let bad_unit = || UnitError::Unit {
        unit: unit.to_owned(),
        allowed,
    };
    let mut letters = unit.chars();
    let power = match letters.next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return Err(bad_unit()),
    };
    // "ki" alone is what "k" is: fio turns the base over only for the whole "kib".
    let step = match (power, letters.as_str()) {
        (_, "") => base.number(),
        (1.., "b" | "i") => base.number(),
        (1.., "ib") => base.other(),
        _ => return Err(bad_unit()),
    };
    step.checked_pow(power)
        .and_then(|factor| number.checked_mul(factor))
        .ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> UnitError {
    UnitError::TooLarge {
        text: text.to_owned(),
    }
}

/// What a printed number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nothing in particular.
    Plain,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Bits a second, of a number of bytes.
    BitsPerSecond,
}

impl Counted {
    fn suffix(self) -> &'static str {
        match self {
            Counted::Plain => "",
            Counted::Bytes => "B",
            Counted::BytesPerSecond => "B/s",
            Counted::BitsPerSecond => "bit/s",
        }
    }
}

/// A number in as many digits as fio prints, with the prefix that makes it fit: `104MiB/s`, `26.6k`.
///
/// `digits_max` counts the decimal point; `binary` chooses Ki, Mi … over k, M ….
///
/// # Examples
///
/// ```
/// use moonshine_sysprobe::bench::units::{Counted, shortened};
///
/// assert_eq!(shortened(1 << 20, 4, true, Counted::Bytes), "1024KiB");
/// assert_eq!(shortened(26_579, 4, false, Counted::Plain), "26.6k");
/// ```
pub fn shortened(number: u64, digits_max: usize, binary: bool, counted: Counted) -> String {
    const PREFIXES: [(&str, &str); 7] = [
        ("", ""),
        ("k", "Ki"),
        ("M", "Mi"),
        ("G", "Gi"),
        ("T", "Ti"),
        ("P", "Pi"),
        ("E", "Ei"),
    ];
    let step = if binary { 1024 } else { 1000 };
    let bits = if counted == Counted::BitsPerSecond {
        8
    } else {
        1
    };
    let mut whole = number.saturating_mul(bits);
    let mut rest = None;
    let mut prefixes = PREFIXES.iter();
    let mut prefix = prefixes.next();
    while whole.to_string().len() > digits_max {
        let Some(next) = prefixes.next() else { break };
        prefix = Some(next);
        rest = Some(whole % step);
        whole /= step;
    }
    let (decimal_prefix, binary_prefix) = prefix.copied().unwrap_or_default();
    let unit = if binary {
        binary_prefix
    } else {
        decimal_prefix
    };
    let suffix = counted.suffix();
    let decimals = digits_max.saturating_sub(whole.to_string().len() + 1);
    match rest {
        None => format!("{whole}{unit}{suffix}"),
        Some(rest) if decimals == 0 => {
            let rounded = whole + u64::from(rest >= step / 2);
            format!("{rounded}{unit}{suffix}")
        }
        Some(rest) => {
            let fraction = format!("{:.decimals$}", rest as f64 / step as f64);
            // A fraction that is rounded up to one carries into the whole.
            let whole = whole + u64::from(fraction.starts_with('1'));
            let fraction = fraction.split_once('.').map_or("", |(_, digits)| digits);
            format!("{whole}.{fraction}{unit}{suffix}")
        }
    }
}

#[cfg(test)]
#[path = "units_tests.rs"]
mod tests;
