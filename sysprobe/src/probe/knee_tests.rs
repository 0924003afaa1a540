use proptest::prelude::*;

use super::*;

const KIB: u64 = 1024;

fn block_sizes() -> impl Iterator<Item = u64> {
    (0..11).map(|step| (4 * KIB) << step)
}

fn from_law(law: impl Fn(f64) -> f64) -> Curve {
    let points = block_sizes().map(|setting| Point {
        setting,
        samples: vec![law(setting as f64); 3],
    });
    Curve {
        points: points.collect(),
    }
}

/// Bandwidth of a device that spends `latency_us` on each I/O beside the transfer: x / (latency + x / maximum).
fn device(latency_us: f64, bytes_per_us_max: f64, cap: f64) -> Curve {
    from_law(|bytes| (bytes / (latency_us + bytes / bytes_per_us_max)).min(cap))
}

fn from_levels(levels: &[f64]) -> Curve {
    let points = block_sizes().zip(levels).map(|(setting, level)| Point {
        setting,
        samples: vec![*level],
    });
    Curve {
        points: points.collect(),
    }
}

/// A generator of numbers from -1 to 1, the same in every run.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
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
        (
            "cloud disk with a cap of IOPS",
            from_law(|bytes| (bytes * 0.003).min(250.0)),
            128 * KIB,
        ),
        ("flat", device(0.0, 500.0, f64::MAX), 4 * KIB),
    ];
    for (name, curve, expected) in cases {
        let knee = curve.knee().unwrap();
        assert_eq!(knee.setting, expected, "{name}: {knee:?}");
        assert!(
            curve
                .points
                .iter()
                .any(|point| point.setting == knee.setting_low),
            "{name}"
        );
        assert!(
            (knee.setting_low..=knee.setting_high).contains(&expected),
            "{name}: {knee:?}"
        );
    }
}

#[test]
fn a_curve_without_a_knee_ends_at_its_greatest_setting() {
    assert_eq!(from_law(|bytes| bytes).knee().unwrap().setting, 4096 * KIB);
}

#[test]
fn a_curve_that_falls_again_has_its_knee_before_the_top() {
    let knee = from_levels(&[10.0, 99.5, 100.0, 60.0]).knee().unwrap();
    assert_eq!((knee.setting, knee.maximum), (8 * KIB, 100.0), "{knee:?}");
    let knee = from_law(|bytes| bytes / (bytes + 12e3) / (1.0 + bytes / 3e7))
        .knee()
        .unwrap();
    assert!((64 * KIB..=256 * KIB).contains(&knee.setting), "{knee:?}");
}

#[test]
fn interference_moves_no_knee() {
    let mut curve = device(100.0, 2000.0, 125.0);
    for (index, point) in curve.points.iter_mut().enumerate() {
        let sample = point.samples[0];
        // Half of the measurements met another tenant.
        point.samples = (0..10)
            .map(|round| sample * if (round + index) % 2 == 0 { 0.3 } else { 1.0 })
            .collect();
    }
    assert_eq!(curve.knee().unwrap().setting, 16 * KIB);
}

/// The knee of repeated runs over a noisy curve: how many of 100 lie within a step of the exact one.
fn within_a_step(exact: &Curve, noise_share: f64, rounds: usize) -> usize {
    let knee = exact.knee().unwrap().setting;
    let near = |seed: &u64| {
        let mut noise = noise(seed * 1_000_003);
        let mut curve = exact.clone();
        for point in &mut curve.points {
            // As a file or a buffer that happens to lie badly: the same in all rounds.
            let systematic = 1.0 + 0.03 * noise();
            let level = point.samples[0] * systematic;
            point.samples = (0..rounds)
                .map(|_| level * (1.0 - noise_share * noise().abs()))
                .collect();
        }
        let found = curve.knee().unwrap().setting;
        found <= 2 * knee && knee <= 2 * found
    };
    (1..=100).filter(near).count()
}

#[test]
fn noise_moves_the_knee_by_more_than_a_step_in_one_run_of_ten_at_most() {
    for (name, curve) in [
        ("HDD", device(8000.0, 200.0, f64::MAX)),
        ("SATA", device(20.0, 550.0, f64::MAX)),
        ("NVMe", device(0.4, 3000.0, f64::MAX)),
        ("cap", device(100.0, 2000.0, 125.0)),
        ("slow rise", device(100.0, 5000.0, f64::MAX)),
    ] {
        for noise_share in [0.05, 0.3] {
            let near = within_a_step(&curve, noise_share, 8);
            assert!(near >= 90, "{name}, noise {noise_share}: {near} of 100");
        }
    }
}

#[test]
fn nothing_measured_has_no_knee() {
    assert_eq!(Curve::default().knee(), None);
    assert_eq!(Curve::new([4096]).knee(), None);
    assert_eq!(from_levels(&[f64::NAN, f64::INFINITY, -1.0]).knee(), None);
    assert_eq!(from_levels(&[0.0, 0.0]).knee(), None);
    assert_eq!(from_levels(&[7.0]).knee().unwrap().setting, 4 * KIB);
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
fn a_knee_is_decided_once_no_part_of_the_measurements_moves_it() {
    let mut steady = device(20.0, 550.0, f64::MAX);
    assert!(!steady.is_decided(), "three measurements are too few");
    for point in &mut steady.points {
        let level = point.samples[0];
        point.samples = vec![level; 8];
    }
    assert!(steady.is_decided());
    let mut torn = steady.clone();
    for point in &mut torn.points {
        // One part of the rounds saw a flat device that was ten times as fast.
        for (round, sample) in point.samples.iter_mut().enumerate() {
            if round % PARTS == 1 {
                *sample = 5500.0;
            }
        }
    }
    assert!(!torn.is_decided(), "{:?}", torn.knee());
    assert!(!Curve::default().is_decided());
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
        curve.is_decided();
        if let Some(knee) = curve.knee() {
            prop_assert!(curve.points.iter().any(|point| point.setting == knee.setting));
            prop_assert!(knee.setting_low <= knee.setting);
            prop_assert!(knee.setting <= knee.setting_high);
        }
    }

    /// Another unit of bandwidth is the same curve. Powers of two scale without rounding.
    #[test]
    fn is_free_of_scale(levels in prop::collection::vec(1.0..1e6_f64, 1..11), exponent in -20..20_i32) {
        let scale = 2.0_f64.powi(exponent);
        let scaled: Vec<f64> = levels.iter().map(|level| level * scale).collect();
        prop_assert_eq!(
            from_levels(&levels).knee().unwrap().setting,
            from_levels(&scaled).knee().unwrap().setting
        );
    }

    /// A device with more latency never needs smaller blocks.
    #[test]
    fn grows_with_latency(latency_us in 0.01..1e4_f64, factor in 1.0..100.0_f64, cap in 100.0..2000.0_f64) {
        let knee = |latency_us| device(latency_us, 1000.0, cap).knee().unwrap();
        let (fast, slow) = (knee(latency_us), knee(latency_us * factor));
        prop_assert!(fast.setting_low <= slow.setting_low, "{:?} {:?}", fast, slow);
        prop_assert!(fast.setting_high <= slow.setting_high, "{:?} {:?}", fast, slow);
        prop_assert!(fast.setting <= 2 * slow.setting, "{:?} {:?}", fast, slow);
    }

    /// A point that gets faster never moves the knee's bounds up, as long as the maximum stays what it is.
    #[test]
    fn is_monotone(
        levels in prop::collection::vec(1.0..1e6_f64, 1..11), index in any::<prop::sample::Index>(), share in 0.0..1.0_f64
    ) {
        let before = from_levels(&levels).knee().unwrap();
        let mut faster = levels.clone();
        let point = &mut faster[index.index(levels.len())];
        *point += (before.maximum - *point) * share;
        let after = from_levels(&faster).knee().unwrap();
        if after.maximum <= before.maximum {
            prop_assert!(after.setting_low <= before.setting_low);
            prop_assert!(after.setting_high <= before.setting_high);
        }
    }
}
