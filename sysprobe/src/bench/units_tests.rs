use super::*;

#[test]
fn every_unit_of_size_is_what_fio_takes_it_for() {
    let cases: [(&str, u64, u64); 18] = [
        ("0", 0, 0),
        ("512", 512, 512),
        ("+512", 512, 512),
        ("512b", 512, 512),
        ("0x1000", 4096, 4096),
        ("0X10k", 16 << 10, 16_000),
        ("4k", 4096, 4000),
        ("4K", 4096, 4000),
        ("4kb", 4096, 4000),
        ("4ki", 4096, 4000),
        ("4KiB", 4000, 4096),
        ("2m", 2 << 20, 2_000_000),
        ("2mib", 2_000_000, 2 << 20),
        ("2g", 2 << 30, 2_000_000_000),
        ("2gib", 2_000_000_000, 2 << 30),
        ("2t", 2 << 40, 2_000_000_000_000),
        ("2tb", 2 << 40, 2_000_000_000_000),
        ("2pib", 2_000_000_000_000_000, 2 << 50),
    ];
    for (text, inverted, standard) in cases {
        assert_eq!(size(text, KiloBase::Inverted1024), Ok(inverted), "{text}");
        assert_eq!(size(text, KiloBase::Standard1000), Ok(standard), "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_what_is_allowed() {
    for text in [
        "", " ", "k", "abc", "-4k", "1.5k", "4x", "4kfoo", "4bi", "(4*1024)", "4k 4k", "20%",
    ] {
        let error = size(text, KiloBase::default()).unwrap_err();
        assert!(error.to_string().contains("16mb"), "{text}: {error}");
    }
    for text in ["20000000000000000000", "17179869184g"] {
        assert_eq!(size(text, KiloBase::default()), Err(too_large(text)));
    }
    assert_eq!(amount("20%", KiloBase::default()), Ok(Amount::Percent(20)));
    assert_eq!(
        amount("1m", KiloBase::default()),
        Ok(Amount::Bytes(1 << 20))
    );
    assert!(amount("20%%", KiloBase::default()).is_err());
}

#[test]
fn every_unit_of_time_is_what_fio_takes_it_for() {
    for (text, microseconds) in [
        ("10", 10_000_000),
        ("10s", 10_000_000),
        ("10S", 10_000_000),
        ("10m", 600_000_000),
        ("1h", 3_600_000_000),
        ("1d", 86_400_000_000),
        ("10ms", 10_000),
        ("10msec", 10_000),
        ("10us", 10),
        ("10usec", 10),
    ] {
        assert_eq!(time_us(text, 1_000_000), Ok(microseconds), "{text}");
    }
    assert_eq!(time_us("10", 1), Ok(10));
    for text in ["", "s", "10sec", "10min", "1.5s", "-1"] {
        let error = time_us(text, 1).unwrap_err();
        assert!(error.to_string().contains("30s"), "{text}: {error}");
    }
    assert!(time_us("300000000000d", 1).is_err());
}

/// Each line is what fio 3.33 printed for such a number.
#[test]
fn numbers_are_shortened_as_fio_does() {
    for (number, binary, counted, printed) in [
        (4096, true, Counted::Bytes, "4096B"),
        (16 << 10, true, Counted::Bytes, "16.0KiB"),
        (1 << 20, true, Counted::Bytes, "1024KiB"),
        (1 << 20, false, Counted::Bytes, "1049kB"),
        (217_845_760, true, Counted::Bytes, "208MiB"),
        (217_845_760, false, Counted::Bytes, "218MB"),
        (108_868_445, true, Counted::BytesPerSecond, "104MiB/s"),
        (108_868_445, false, Counted::BytesPerSecond, "109MB/s"),
        (26_579, false, Counted::Plain, "26.6k"),
        (2306 << 10, true, Counted::BytesPerSecond, "2306KiB/s"),
        (2306 << 10, false, Counted::BytesPerSecond, "2361kB/s"),
        (1_048_576_000, true, Counted::BytesPerSecond, "1000MiB/s"),
        (1_048_576_000, false, Counted::BytesPerSecond, "1049MB/s"),
        (0, true, Counted::Bytes, "0B"),
    ] {
        assert_eq!(shortened(number, 4, binary, counted), printed);
    }
    assert_eq!(shortened(12_150_566, 6, false, Counted::Plain), "12151k");
    assert_eq!(shortened(8_318_798, 6, false, Counted::Plain), "8318.8k");
    assert_eq!(shortened(1_999_999, 4, false, Counted::Plain), "2000k");
    assert_eq!(shortened(9_999_999, 4, false, Counted::Plain), "10000k");
    assert_eq!(shortened(u64::MAX, 4, true, Counted::Bytes), "16.0EiB");
    assert_eq!(
        shortened(125, 4, false, Counted::BitsPerSecond),
        "1000bit/s"
    );
    for number in [0, 1, 999, 1000, 1023, 1024, u64::MAX / 2, u64::MAX] {
        for digits_max in 0..12 {
            shortened(number, digits_max, true, Counted::BitsPerSecond);
        }
    }
}
