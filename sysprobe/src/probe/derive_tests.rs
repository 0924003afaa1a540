use super::*;
use crate::probe::simulated::SimulatedDevice;

fn budget() -> Budget {
    // A simulated clock goes no further than the windows.
    Budget {
        duration: Duration::from_secs(3600),
        ..Budget::full()
    }
}

#[test]
fn the_numbers_are_those_of_the_device() {
    let probed = probe(&SimulatedDevice::steady(), &budget())
        .unwrap()
        .unwrap();
    assert_eq!(probed.s_size_bytes, 16 * 1024);
    assert_eq!((probed.io_threads, probed.io_depth), (16, Some(16)));
    assert_eq!(probed.drift, None);
    assert_eq!(probed.uncertain, []);
    // 64 KiB take 133 µs and 256 KiB 231 µs, beside 102 µs for 4 KiB.
    assert_eq!(probed.commit_batch_bytes(), Some(64 * 1024));
    assert!((100.0..103.0).contains(&probed.fdatasync_us().unwrap()));
    assert_eq!((probed.axes.len(), probed.synced.len()), (6, 10));
    assert!(probed.grid.left.is_empty());
    // The grid holds what the axes don't: each of them has points of its own, but one that two of them share.
    let on_axes: usize = probed.axes.iter().map(|axis| axis.curve.points.len()).sum();
    assert_eq!(probed.grid.planned() + on_axes, (11 * 8 - 1) * 8 + 2);
}

#[test]
fn a_device_that_is_only_read_has_no_numbers_of_writing() {
    let device = SimulatedDevice {
        writes: false,
        queues: false,
        ..SimulatedDevice::steady()
    };
    let probed = probe(&device, &budget()).unwrap().unwrap();
    assert_eq!((probed.s_size_bytes, probed.io_depth), (16 * 1024, None));
    assert_eq!(
        (probed.commit_batch_bytes(), probed.fdatasync_us()),
        (None, None)
    );
    let loads = probed.axes.iter().map(|axis| axis.load);
    let loads = loads.chain(probed.grid.points.iter().map(|point| point.load));
    for load in loads {
        assert_eq!(
            (load.operation, load.submission),
            (Operation::Read, Submission::Threads)
        );
    }
}

#[test]
fn noise_moves_the_numbers_by_more_than_a_step_in_one_run_of_ten_at_most() {
    let budget = Budget {
        duration: Duration::from_secs(3600),
        ..Budget::quick()
    };
    let within_a_step = |seed: u64| {
        let device = SimulatedDevice {
            noise_share: 0.3,
            ..SimulatedDevice::steady()
        };
        device.seed.set(seed * 1_000_003);
        let probed = probe(&device, &budget).unwrap().unwrap();
        (8 * 1024..=32 * 1024).contains(&probed.s_size_bytes)
    };
    let far = (1..=20).filter(|seed| !within_a_step(*seed)).count();
    assert!(far <= 2, "{far} of 20");
}

#[test]
fn a_throttled_device_keeps_its_numbers_and_is_told() {
    let device = SimulatedDevice {
        throttled_from: Duration::from_secs(3),
        ..SimulatedDevice::steady()
    };
    let probed = probe(&device, &budget()).unwrap().unwrap();
    assert_eq!(probed.s_size_bytes, 16 * 1024);
    assert!(
        matches!(probed.drift, Some(Drift::Throttled { .. })),
        "{:?}",
        probed.drift
    );
    // Only what the device sustains counts.
    assert!(
        probed
            .axes
            .iter()
            .all(|axis| axis.curve.knee().unwrap().maximum < 1.1e9)
    );
}

#[test]
fn a_hard_disk_is_measured_in_time() {
    for budget in [Budget::quick(), Budget::full()] {
        let device = SimulatedDevice::hard_disk();
        let probed = probe(&device, &budget).unwrap().unwrap();
        assert_eq!(probed.s_size_bytes, BLOCK_SIZE_BYTES_MAX);
        assert_eq!((probed.io_threads, probed.io_depth), (1, Some(1)));
        // The last load may take as long as the most bytes under way do.
        let most = budget.duration + Duration::from_secs(1);
        assert!(device.now() <= most, "{:?} of {most:?}", device.now());
    }
}

#[test]
fn too_little_time_gives_no_numbers() {
    let budget = Budget {
        duration: Duration::from_millis(200),
        ..Budget::full()
    };
    assert!(
        probe(&SimulatedDevice::steady(), &budget)
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_undecided_number_is_told() {
    let device = SimulatedDevice {
        noise_share: 0.99,
        ..SimulatedDevice::steady()
    };
    let budget = Budget {
        rounds_max: 4,
        ..budget()
    };
    let probed = probe(&device, &budget).unwrap().unwrap();
    let found: Vec<_> = probed
        .uncertain
        .iter()
        .filter(|one| one.quantity == Quantity::SSize)
        .collect();
    assert_eq!(found.len(), 1, "{:?}", probed.uncertain);
    assert!(
        found[0].low <= probed.s_size_bytes && probed.s_size_bytes <= found[0].high,
        "{found:?}"
    );
}

#[test]
fn buffers_of_many_threads_fit_in_memory() {
    let device = SimulatedDevice::steady();
    for axis in in_flight_axes(&device, Submission::Threads, BLOCK_SIZE_BYTES_MAX) {
        for point in &axis.curve.points {
            assert!(axis.load_at(point.setting).bytes_in_flight() <= BUFFERS_BYTES_MAX);
        }
    }
}
