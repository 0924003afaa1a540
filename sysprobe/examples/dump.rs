use moonshine_sysprobe::{device::*, disk::Disk};
use std::time::Duration;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let folder = std::path::PathBuf::from(&a[1]);
    let window = Duration::from_millis(a[2].parse().unwrap());
    let size: u64 = a[3].parse::<u64>().unwrap() << 20;
    let threads: u64 = a[4].parse().unwrap();
    let rounds: usize = a[5].parse().unwrap();
    let disk = Disk::open(&folder, size, Duration::from_secs(20)).unwrap();
    eprintln!("filled {} in {:?}", disk.filled_bytes() >> 20, disk.now());
    for round in 0..rounds {
        for operation in [Operation::Read, Operation::Write] {
            let mut sizes: Vec<u64> = (0..11).map(|s| 4096u64 << s).collect();
            if round % 2 == 1 { sizes.reverse(); }
            for bs in sizes {
                let load = Load { operation, pattern: Pattern::Random, block_size_bytes: bs, threads };
                let t = disk.now();
                let m = disk.run(&load, window).unwrap();
                let l = m.latencies.latency().unwrap();
                println!("{round},{operation:?},{bs},{threads},{:.4},{:.1},{:.1},{:.1},{:.4}", t.as_secs_f64(), m.bytes_per_second / 1e6, l.p50_us, l.p99_us, (disk.now()-t).as_secs_f64());
            }
        }
    }
}
