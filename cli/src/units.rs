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
            return format!("{:.1} {name}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn rounded_sizes_have_one_digit_after_the_point() {
        for (bytes, expected) in [
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(size_rounded(bytes), expected);
        }
    }
}
