use proptest::prelude::*;

use super::*;

const KIB: u64 = 1024;

fn block_sizes() -> impl Iterator<Item = u64> {
    (0..11).map(|step| (4 * KIB) << step)
}

/// Bandwidth of a device that spends `latency_us` on each I/O beside the transfer: x / (latency + x / maximum).
fn device(latency_us: f64, bytes_per_us_max: f64, cap: f64) -> Curve {
    let points = block_sizes().map(|setting| {
        let bytes = setting as f64;
        let bandwidth = (bytes / (latency_us + bytes / bytes_per_us_max)).min(cap);
        Point {
            setting,
            samples: vec![bandwidth; 3],
        }
    });
    Curve {
        points: points.collect(),
    }
}

fn from_medians(medians: &[f64]) -> Curve {
    let points = block_sizes().zip(medians).map(|(setting, median)| Point {
        setting,
        samples: vec![*median],
    });
    Curve {
        points: points.collect(),
    }
}

#[test]
fn each_kind_of_device_has_its_knee() {
    let cases = [
        // A seek of 8 ms: not even 4 MiB is enough for 95 % of the greatest possible, but it is the most there is.
        ("HDD", device(8000.0, 200.0, f64::MAX), 4096 * KIB),
        ("SATA", device(20.0, 550.0, f64::MAX), 256 * KIB),
        // 16 queues hide nearly all of the latency.
        ("NVMe", device(0.4, 3000.0, f64::MAX), 32 * KIB),
        (
            "cloud disk with a cap",
            device(100.0, 2000.0, 125.0),
            16 * KIB,
        ),
        ("flat", device(0.0, 500.0, f64::MAX), 4 * KIB),
    ];
    for (name, curve, expected) in cases {
        let knee = curve.knee().unwrap();
        assert_eq!(knee.setting, expected, "{name}");
        assert_eq!(
            (knee.setting_low, knee.setting_high),
            (expected, expected),
            "{name}"
        );
    }
}

#[test]
fn a_curve_without_a_knee_ends_at_its_greatest_setting() {
    let medians: Vec<f64> = (0..11).map(|step| f64::from(1 << step)).collect();
    assert_eq!(from_medians(&medians).knee().unwrap().setting, 4096 * KIB);
}

#[test]
fn a_curve_that_falls_again_has_its_knee_before_the_top() {
    let knee = from_medians(&[10.0, 96.0, 100.0, 60.0]).knee().unwrap();
    assert_eq!((knee.setting, knee.maximum), (8 * KIB, 100.0));
}

#[test]
fn an_outlier_moves_no_median() {
    let mut curve = device(100.0, 2000.0, 125.0);
    for (index, point) in curve.points.iter_mut().enumerate() {
        let sample = point.samples[0];
        point.samples = vec![
            sample,
            sample * 0.995,
            sample * 1.005,
            sample,
            sample * 0.99,
        ];
        // One measurement in five met another tenant.
        point.samples[index % 5] *= 0.2;
    }
    assert_eq!(curve.knee().unwrap().setting, 16 * KIB);
}

#[test]
fn nothing_measured_has_no_knee() {
    assert_eq!(Curve::default().knee(), None);
    assert_eq!(Curve::new([4096]).knee(), None);
    assert_eq!(from_medians(&[f64::NAN, f64::INFINITY, -1.0]).knee(), None);
    assert_eq!(from_medians(&[0.0, 0.0]).knee(), None);
    assert_eq!(from_medians(&[7.0]).knee().unwrap().setting, 4 * KIB);
}

#[test]
fn intervals_have_the_ranks_of_the_binomial_table() {
    // Conover, table A3: 95 % ranks of the median, counted from 0 here.
    for (count, ranks) in [
        (1, (0, 0)),
        (3, (0, 2)),
        (6, (0, 5)),
        (9, (1, 7)),
        (15, (3, 11)),
        (20, (5, 14)),
    ] {
        assert_eq!(interval_ranks(count), Some(ranks), "{count} samples");
    }
    assert_eq!(interval_ranks(0), None);
}

#[test]
fn a_point_is_decided_once_its_interval_is_clear_of_the_limit() {
    let point = |setting, samples: &[f64]| Point {
        setting,
        samples: samples.to_vec(),
    };
    let curve = Curve {
        points: vec![
            point(1, &[50.0, 52.0]),
            point(2, &[94.0, 96.0]),
            point(4, &[99.5, 100.0]),
            point(8, &[]),
        ],
    };
    let undecided: Vec<bool> = (0..5).map(|index| curve.undecided(index)).collect();
    assert_eq!(undecided, [false, true, false, true, false]);
}

proptest! {
    #[test]
    fn never_panics_and_stays_within_the_settings(
        points in prop::collection::vec(
            (any::<u64>(), prop::collection::vec(any::<f64>(), 0..8)), 0..12)
    ) {
        let points: Vec<Point> = points.into_iter()
            .map(|(setting, samples)| Point { setting, samples }).collect();
        let curve = Curve { points };
        for index in 0..curve.points.len() + 1 {
            curve.undecided(index);
        }
        if let Some(knee) = curve.knee() {
            prop_assert!(curve.points.iter().any(|point| point.setting == knee.setting));
            prop_assert!(knee.setting_low <= knee.setting);
            prop_assert!(knee.setting <= knee.setting_high);
        }
    }

    /// Another unit of bandwidth is the same curve. Powers of two scale without rounding.
    #[test]
    fn is_free_of_scale(medians in prop::collection::vec(1.0..1e6_f64, 1..11), exponent in -20..20_i32) {
        let scale = 2.0_f64.powi(exponent);
        let scaled: Vec<f64> = medians.iter().map(|median| median * scale).collect();
        prop_assert_eq!(
            from_medians(&medians).knee().unwrap().setting,
            from_medians(&scaled).knee().unwrap().setting
        );
    }

    /// A point that gets faster never moves the knee up, as long as the maximum stays what it is.
    #[test]
    fn is_monotone(
        medians in prop::collection::vec(1.0..1e6_f64, 1..11), index in any::<prop::sample::Index>(), share in 0.0..1.0_f64
    ) {
        let before = from_medians(&medians).knee().unwrap();
        let mut faster = medians.clone();
        let point = &mut faster[index.index(medians.len())];
        *point += (before.maximum - *point) * share;
        prop_assert!(from_medians(&faster).knee().unwrap().setting <= before.setting);
    }
}
