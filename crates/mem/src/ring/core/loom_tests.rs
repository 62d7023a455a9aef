//! The descriptor ring's positions under loom: buffers and reports change hands without a race, in order, none lost.

use super::*;

/// What the posted numbers stand for: buffers that only the side may touch that has them.
struct Buffers(Vec<SharedCell<u32>>);

// SAFETY: the protocol under test guards the cells; loom reports where it fails to.
unsafe impl Sync for Buffers {}
// SAFETY: nothing in it is bound to a thread.
unsafe impl Send for Buffers {}

impl Buffers {
    fn new(n: usize) -> Arc<Buffers> {
        Arc::new(Buffers((0..n).map(|_| SharedCell::new(0)).collect()))
    }

    fn write(&self, buffer: usize, value: u32) {
        // SAFETY: the caller has the buffer; loom checks it.
        self.0[buffer].with_mut(|p| unsafe { *p = value });
    }

    fn read(&self, buffer: usize) -> u32 {
        // SAFETY: as above.
        self.0[buffer].with(|p| unsafe { *p })
    }
}

/// Fills `frames` buffers, `burst` at a time, as they come.
fn run_device(mut device: Device<usize, u32>, buffers: &Buffers, frames: u32, burst: usize) {
    let mut sent = 0;
    while sent < frames {
        let n = device.available().min(burst).min((frames - sent) as usize);
        if n == 0 {
            loom::thread::yield_now();
            continue;
        }
        for i in 0..n {
            let buffer = device.buffer(i).expect("available");
            buffers.write(buffer, 100 + sent);
            device.report(i, sent);
            sent += 1;
        }
        device.complete(n);
    }
}

/// Posts `n` buffers and takes `frames` frames, posting each buffer again.
fn run_driver(driver: &mut Driver<usize, u32>, buffers: &Buffers, frames: u32) {
    let mut seen = 0;
    while seen < frames {
        if !driver.is_completed(0) {
            loom::thread::yield_now();
            continue;
        }
        let (buffer, report) = driver.completed(0).map(|(buffer, report)| (buffer, *report)).expect("completed");
        assert_eq!((report, buffers.read(buffer)), (seen, 100 + seen));
        buffers.write(buffer, 0);
        driver.take(1);
        driver.post_all(std::iter::once(buffer));
        driver.publish();
        seen += 1;
    }
}

/// As [`run_driver`], but uses runs of frames where they lie and posts their buffers anew as it goes.
fn run_in_place(driver: &mut Driver<usize, u32>, buffers: &Buffers, frames: u32) {
    let mut seen = 0;
    while seen < frames {
        if driver.ready() == 0 {
            loom::thread::yield_now();
            continue;
        }
        let run = driver.completed_run();
        let mut used = 0;
        loop {
            let places = run.places(used, used, usize::MAX);
            if places.len() == 0 {
                break;
            }
            for spot in places {
                assert_eq!((*spot.report, buffers.read(spot.buffer)), (seen, 100 + seen));
                buffers.write(spot.buffer, 0);
                spot.post_again();
                used += 1;
                seen += 1;
            }
        }
        driver.take_and_post(used, used);
    }
}

type Run = fn(&mut Driver<usize, u32>, &Buffers, u32);

fn check(run: Run, size: usize, posted: usize, frames: u32, burst: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let buffers = Buffers::new(posted);
        let (mut driver, device) = split(size, 0usize, 0u32, |_, _| {});
        for buffer in 0..posted {
            driver.post_all(std::iter::once(buffer));
        }
        driver.publish();
        let theirs = buffers.clone();
        let device = loom::thread::spawn(move || run_device(device, &theirs, frames, burst));
        run(&mut driver, &buffers, frames);
        device.join().unwrap();
        assert_eq!((driver.ready_now(), driver.in_use()), (0, posted));
    });
}

#[test]
fn loom_one_place_goes_round() {
    check(run_driver, 2, 1, 3, 1);
}

#[test]
fn loom_buffers_that_are_posted_anew_in_place_go_round() {
    check(run_in_place, 2, 1, 3, 1);
    check(run_in_place, 4, 3, 4, 2);
    check(run_in_place, 4, 2, 4, 2);
}

#[test]
fn loom_several_places_go_round() {
    check(run_driver, 4, 3, 4, 1);
}

#[test]
fn loom_a_burst_is_handed_over_at_once() {
    check(run_driver, 4, 3, 4, 2);
}

/// Whoever ends last, each buffer that is left comes back once, with its report if it was completed.
#[test]
fn loom_what_is_left_is_reclaimed_once() {
    use std::sync::atomic::AtomicU32 as Count;
    static POSTED: Count = Count::new(0);
    static COMPLETED: Count = Count::new(0);
    loom::model(|| {
        POSTED.store(0, Ordering::Relaxed);
        COMPLETED.store(0, Ordering::Relaxed);
        let (mut driver, mut device) = split(4, 0usize, 0u32, |buffer, report| {
            POSTED.fetch_add(1 << (8 * buffer), Ordering::Relaxed);
            COMPLETED.fetch_add(u32::from(report.is_some()), Ordering::Relaxed);
        });
        for buffer in 0..3 {
            driver.post_all(std::iter::once(buffer));
        }
        driver.publish();
        let device = loom::thread::spawn(move || {
            if device.buffer(0).is_some() {
                device.report(0, 5);
                device.complete(1);
            }
        });
        let taken = u32::from(driver.is_completed(0));
        driver.take(taken as usize);
        drop(driver);
        device.join().unwrap();
        assert_eq!(POSTED.load(Ordering::Relaxed), 0x0001_0101 - taken);
        assert_eq!(COMPLETED.load(Ordering::Relaxed), 1 - taken);
    });
}
