//! Numbers for people.

/// Bytes in the largest unit that divides them.
pub(crate) fn size(bytes: u64) -> String {
    if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) {
        format!("{} GiB", bytes >> 30)
    } else if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) {
        format!("{} KiB", bytes >> 10)
    } else {
        format!("{bytes} bytes")
    }
}

/// Bytes in the largest unit below them, rounded to a tenth of it.
pub(crate) fn size_rounded(bytes: u64) -> String {
    for (unit, name) in [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let number = format!("{:.1}", bytes as f64 / unit as f64);
            return format!("{} {name}", number.trim_end_matches(".0"));
        }
    }
    format!("{bytes} bytes")
}

/// The name of a field as people read it; sizes carry their unit beside the number.
pub(crate) fn label(field: &str) -> String {
    field.trim_end_matches("_bytes").replace('_', " ")
}

/// Bytes a second, with three digits that count.
pub(crate) fn bandwidth(bytes_per_second: f64) -> String {
    scaled(
        bytes_per_second,
        &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")],
    )
}

/// Microseconds as the unit that suits them, with three digits that count.
pub(crate) fn microseconds(us: f64) -> String {
    scaled(us, &[(1e6, "s"), (1e3, "ms"), (1.0, "µs")])
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // Rounded first: 999.9 of a unit is 1 of the next.
    let fitting = units.iter().find(|(unit, _)| value >= unit * 0.9995);
    let Some((unit, name)) = fitting.or(units.last()) else {
        return value.to_string();
    };
    let value = value / unit;
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_have_three_digits() {
        for (value, expected) in [
            (1e6, "1 MB/s"),
            (999_900_000.0, "1 GB/s"),
            (123_456_789.0, "123 MB/s"),
            (1_234_567.0, "1.23 MB/s"),
            (20_000.0, "20 kB/s"),
            (0.0, "0 B/s"),
        ] {
            assert_eq!(bandwidth(value), expected);
        }
        assert_eq!(microseconds(85.04), "85 µs");
        assert_eq!(microseconds(1_540.0), "1.54 ms");
    }

    #[test]
    fn sizes_keep_every_byte() {
        for (bytes, expected) in [
            (4096, "4 KiB"),
            (1 << 20, "1 MiB"),
            (3 << 30, "3 GiB"),
            (1025, "1025 bytes"),
            (0, "0 bytes"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn rounded_sizes_have_at_most_one_digit_after_the_point() {
        for (bytes, expected) in [
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1_600_000, "1.5 MiB"),
            (5 << 30, "5 GiB"),
            (10 << 20, "10 MiB"),
        ] {
            assert_eq!(size_rounded(bytes), expected);
        }
    }
}
