//! The mixes and choices against what theory says of them.

use proptest::prelude::*;

use super::*;

/// Draws of each test: a share of 5 % then has a standard deviation of 0.05 %.
const DRAWS: u64 = 200_000;

/// The sum of 1 / k^theta for k from 1 to n: term by term, then by the Euler-Maclaurin formula.
fn zeta(n: u64, theta: f64) -> f64 {
    let exact = n.min(10_000);
    let sum: f64 = (1..=exact).map(|k| (k as f64).powf(-theta)).sum();
    if n == exact {
        return sum;
    }
    let (from, to) = (exact as f64, n as f64);
    let integral = (to.powf(1.0 - theta) - from.powf(1.0 - theta)) / (1.0 - theta);
    sum + integral + (to.powf(-theta) - from.powf(-theta)) / 2.0
}

fn assert_share(what: &str, count: u64, expected: f64) {
    let share = count as f64 / DRAWS as f64;
    let deviation = (expected * (1.0 - expected) / DRAWS as f64).sqrt();
    assert!(
        (share - expected).abs() <= 6.0 * deviation,
        "{what}: {share}, expected {expected}"
    );
}

#[test]
fn every_workload_has_its_shares() {
    use Operation::{Insert, Read, ReadModifyWrite, Scan, Update};
    for (workload, shares) in [
        (DatabaseWorkload::YcsbA, vec![(Read, 0.5), (Update, 0.5)]),
        (DatabaseWorkload::YcsbB, vec![(Read, 0.95), (Update, 0.05)]),
        (DatabaseWorkload::YcsbC, vec![(Read, 1.0)]),
        (DatabaseWorkload::YcsbD, vec![(Read, 0.95), (Insert, 0.05)]),
        (DatabaseWorkload::YcsbE, vec![(Scan, 0.95), (Insert, 0.05)]),
        (
            DatabaseWorkload::YcsbF,
            vec![(Read, 0.5), (ReadModifyWrite, 0.5)],
        ),
        (DatabaseWorkload::Put, vec![(Update, 1.0)]),
        (DatabaseWorkload::Insert, vec![(Insert, 1.0)]),
        (DatabaseWorkload::Get, vec![(Read, 1.0)]),
        (DatabaseWorkload::Scan, vec![(Scan, 1.0)]),
        (DatabaseWorkload::Mixed, vec![(Read, 0.3), (Update, 0.7)]),
    ] {
        let mix = workload.mix(30);
        let mut random = Random::new(7);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(mix.draw(&mut random)).or_insert(0_u64) += 1;
        }
        assert_eq!(counts.len(), shares.len(), "{workload:?}: {counts:?}");
        for (operation, expected) in shares {
            assert!(mix.has(operation));
            assert_share(
                &format!("{workload:?} {}", operation.name()),
                counts[&operation],
                expected,
            );
        }
    }
}

#[test]
fn ycsb_names_its_requests_and_scans_and_the_rest_leave_them_to_the_job() {
    for (name, workload) in DatabaseWorkload::NAMES {
        let requests = match name {
            "ycsb-d" => Some(Requests::Latest),
            name if name.starts_with("ycsb-") => Some(Requests::Zipfian),
            _ => None,
        };
        assert_eq!(workload.requests(), requests, "{name}");
        assert_eq!(workload.is_ycsb(), name.starts_with("ycsb-"), "{name}");
    }
    assert_eq!(
        DatabaseWorkload::YcsbE.scan_length(100),
        ScanLength::Uniform(100)
    );
    assert_eq!(DatabaseWorkload::Scan.scan_length(9), ScanLength::Fixed(9));
}

#[test]
fn zipf_draws_each_rank_as_often_as_the_law_says() {
    for (theta, ranks) in [(0.5, 10), (0.99, 1000), (1.0, 100), (1.4, 1 << 40)] {
        let mut zipf = Zipf::new(theta);
        let mut random = Random::new(11);
        let mut counts = [0_u64; 10];
        for _ in 0..DRAWS {
            let rank = zipf.rank(ranks, &mut random);
            assert!(rank < ranks);
            if let Some(count) = counts.get_mut(rank as usize) {
                *count += 1;
            }
        }
        let total = if theta == 1.0 {
            (1..=ranks).map(|k| 1.0 / k as f64).sum()
        } else {
            zeta(ranks, theta)
        };
        for (rank, &count) in counts.iter().enumerate() {
            let expected = ((rank + 1) as f64).powf(-theta) / total;
            assert_share(
                &format!("theta {theta}, {ranks} ranks, rank {rank}"),
                count,
                expected,
            );
        }
    }
}

#[test]
fn zipfian_requests_have_a_hottest_record_that_is_neither_the_first_nor_the_last() {
    let records = 1000;
    let mut chooser = RecordChooser::ycsb(Requests::Zipfian);
    let mut random = Random::new(3);
    let mut counts = vec![0_u64; records as usize];
    for _ in 0..DRAWS {
        counts[chooser.choose(records, &mut random) as usize] += 1;
    }
    // The hottest rank, alone on its record but for its share of the cold ranks.
    let total = zeta(SCRAMBLED_RANKS, YCSB_ZIPF_THETA);
    assert!((total - 26.469).abs() < 0.01, "YCSB's constant, {total}");
    let hottest = jump_hash(mix_bits(0), records) as usize;
    assert_eq!(
        counts.iter().max(),
        Some(&counts[hottest]),
        "record {hottest}"
    );
    assert_share(
        "the hottest record",
        counts[hottest],
        1.0 / total + (1.0 - zeta(1000, 0.99) / total) / records as f64,
    );
    assert!(
        counts.iter().all(|&count| count > 0),
        "a record nobody asks for"
    );
}

#[test]
fn latest_requests_prefer_the_newest_record_while_records_are_added() {
    let mut chooser = RecordChooser::ycsb(Requests::Latest);
    let mut random = Random::new(5);
    let (mut newest, mut expected) = (0, 0.0);
    for draw in 0..DRAWS {
        let records = 500 + draw % 500;
        let chosen = chooser.choose(records, &mut random);
        assert!(chosen < records);
        newest += u64::from(chosen == records - 1);
        expected += 1.0 / zeta(records, YCSB_ZIPF_THETA);
    }
    assert_share("the newest record", newest, expected / DRAWS as f64);
}

#[test]
fn a_jobs_distribution_is_that_of_its_records() {
    let mut random = Random::new(17);
    let pareto = Distribution::Pareto {
        h: 0.2,
        center: None,
    };
    let mut chooser = RecordChooser::of(pareto, 1000, &mut random);
    let mut counts = vec![0_u64; 1000];
    for _ in 0..DRAWS {
        counts[chooser.choose(2000, &mut random) as usize] += 1;
    }
    counts.sort_unstable_by(|one, other| other.cmp(one));
    // 80 % of the draws take 20 % of the ranks; some ranks share a record, as in fio, so that it is more here.
    let first = counts[..200].iter().sum::<u64>() as f64 / DRAWS as f64;
    assert!((0.79..0.95).contains(&first), "{first}");
    // Records that came later are not drawn.
    assert!(RecordChooser::of(pareto, 1, &mut random).choose(9, &mut random) == 0);
}

#[test]
fn threads_and_jobs_draw_other_numbers_and_a_seed_repeats_them() {
    let job = |name: &str, randseed, randrepeat| JobOptions {
        name: name.into(),
        randseed,
        randrepeat,
        ..JobOptions::default()
    };
    let drawn = |job: &JobOptions, thread| Random::of_thread(job, thread).draw();
    let one = job("one", None, true);
    assert_eq!(drawn(&one, 0), drawn(&one, 0));
    assert_ne!(drawn(&one, 0), drawn(&one, 1));
    assert_ne!(drawn(&one, 0), drawn(&job("other", None, true), 0));
    assert_ne!(drawn(&one, 0), drawn(&job("one", Some(5), true), 0));
    let never_the_same = job("one", None, false);
    assert_ne!(drawn(&never_the_same, 0), drawn(&never_the_same, 0));
}

#[test]
fn uniform_requests_and_scan_lengths_are_uniform() {
    let mut random = Random::new(13);
    let mut chooser = RecordChooser::of(Distribution::Random, 10, &mut random);
    let mut counts = [0_u64; 10];
    let mut lengths = [0_u64; 101];
    for _ in 0..DRAWS {
        counts[chooser.choose(10, &mut random) as usize] += 1;
        lengths[ScanLength::Uniform(100).draw(&mut random) as usize] += 1;
    }
    for (record, &count) in counts.iter().enumerate() {
        assert_share(&format!("record {record}"), count, 0.1);
    }
    assert_eq!(lengths[0], 0);
    for (length, &count) in lengths.iter().enumerate().skip(1) {
        assert_share(&format!("length {length}"), count, 0.01);
    }
    assert_eq!(ScanLength::Fixed(7).draw(&mut random), 7);
}

proptest! {
    #[test]
    fn a_choice_lies_among_the_records(records in 0_u64..1 << 40, seed: u64, theta in 0.0_f64..3.0) {
        let mut random = Random::new(seed);
        for requests in [Requests::Zipfian, Requests::Latest] {
            let chosen = RecordChooser::ycsb(requests).choose(records, &mut random);
            prop_assert!(chosen < records.max(1));
        }
        for distribution in [
            Distribution::Random,
            Distribution::Pareto { h: 0.2, center: None },
            Distribution::Normal { deviation_percent: 10.0, center: Some(0.9) },
        ] {
            let chosen = RecordChooser::of(distribution, records, &mut random).choose(records, &mut random);
            prop_assert!(chosen < records.max(1));
        }
        prop_assert!(Zipf::new(theta).rank(records, &mut random) < records.max(1));
    }

    /// What is popular stays so while records are inserted.
    #[test]
    fn a_hash_moves_only_to_the_record_that_was_added(hash: u64, records in 1_u64..100_000) {
        let (before, after) = (jump_hash(hash, records), jump_hash(hash, records + 1));
        prop_assert!(after == before || after == records);
    }
}
