//! Reading what is on another machine, while that goes away.

use std::fs::{self, File};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::net::{AGAIN, Net};
use crate::world::{SOON, wait_for};

crate::claims! {
    Net: [who_reads_from_a_device_that_goes_away_gets_an_error_in_time_and_nobody_else_waits],
}

/// How late somebody who reads may hear that nothing comes: the deadline of 10 s, and what a loaded machine adds.
const TOLD: Duration = Duration::from_secs(16);
/// What a look at anything else may take, and may take once in a hundred times on a loaded machine.
const QUICK: Duration = Duration::from_millis(50);
const ONCE: Duration = Duration::from_secs(1);

fn who_reads_from_a_device_that_goes_away_gets_an_error_in_time_and_nobody_else_waits() {
    let net = Net::new();
    let [a, b] = net.devices();
    a.sh("mkdir others; for file in $(seq 20); do echo $file > others/$file; done");
    b.wait_says(SOON, "others/20", "20\n");
    // So slow that most of the file is still to come when it is read.
    net.spoil(&a, Duration::from_millis(50), 20);
    a.sh("head -c 20000000 /dev/urandom > large");
    wait_for("the file is seen", AGAIN, || b.has("large"));

    let (ended, path) = (AtomicBool::new(false), b.at("large"));
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let mut buffer = vec![0; 128 << 10];
            let mut file = File::open(&path).unwrap();
            let mut total = 0;
            let error = loop {
                match file.read(&mut buffer) {
                    Ok(0) => panic!("all of it came"),
                    Ok(length) => total += length,
                    Err(error) => break error,
                }
            };
            (total, error, Instant::now())
        });
        let others = scope.spawn(|| {
            let mut looks = Vec::new();
            // It ends where the test fails, too.
            let begun = Instant::now();
            while !ended.load(Ordering::Relaxed) && begun.elapsed() < AGAIN * 3 {
                let start = Instant::now();
                assert_eq!(fs::read_dir(b.at("others")).unwrap().count(), 20);
                fs::metadata(b.at("others/7")).unwrap();
                fs::metadata(b.at("large")).unwrap();
                looks.push(start.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            looks.sort();
            looks
        });
        let before = b.status()["swarm"]["received_bytes"].as_u64().unwrap();
        wait_for("it is in the middle of it", AGAIN, || {
            b.status()["swarm"]["received_bytes"].as_u64() > Some(before + 200_000)
        });
        a.pull();
        let pulled = Instant::now();
        let read = read.join();
        ended.store(true, Ordering::Relaxed);
        let (total, error, at) = read.unwrap();
        let looks = others.join().unwrap();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "after {total} bytes");
        assert!(at.duration_since(pulled) < TOLD, "told after {:?}", at.duration_since(pulled));
        let (most, slowest) = (looks[looks.len() * 99 / 100], looks[looks.len() - 1]);
        assert!(most < QUICK && slowest < ONCE, "of {} looks, 99 in 100 took {most:?}, one {slowest:?}", looks.len());
    });
    net.heal();
    wait_for("all of it can be read again", AGAIN, || {
        fs::read(b.at("large")).is_ok_and(|read| read.len() == 20_000_000)
    });
    assert!(fs::read(a.at("large")).unwrap() == fs::read(b.at("large")).unwrap(), "it is not the same");
}
