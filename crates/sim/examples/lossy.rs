//! How much TCP carries over a wire that loses packets: the kernel to the kernel, this stack to the kernel, and the kernel
//! to this stack, over the same faulty device, with CUBIC everywhere.
//!
//!     cargo run --release -p rxpath-sim --example lossy -- [seconds] [runs]
//!
//! The wire is a TAP in a network namespace of its own, without offload, so that what is lost are segments; it delays 10 ms
//! each way and loses in both directions. Between two kernels the stack is the router, and the faulty device is one side of
//! it. Figures are what arrived, in MB/s, from the first byte on.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that prints a table")]

#[cfg(target_os = "linux")]
fn main() {
    let number = |nth: usize, default: u64| std::env::args().nth(nth).and_then(|n| n.parse().ok()).unwrap_or(default);
    linux::table(std::time::Duration::from_secs(number(1, 10)), number(2, 3));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("it takes Linux for a peer");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener as KernelListener, TcpStream as KernelStream};
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use rxpath::device::netns::{self, Rtnl};
    use rxpath::device::tap::{Tap, TapConfig};
    use rxpath::net::{TcpListener, TcpStream};
    use rxpath::{Device, Interface, Stack};
    use rxpath_sim::faults::{Faults, Faulty};

    const PORT: u16 = 5_001;
    const CHUNK: usize = 64 * 1_024;

    /// A kernel in a namespace of its own, behind a TAP.
    struct Kernel {
        addr: Ipv4Addr,
        jobs: Sender<Box<dyn FnOnce() + Send>>,
    }

    impl Kernel {
        /// The kernel at `x.2` of a network whose `x.1` is the stack, and the stack's end of the cable.
        fn new(net: u8) -> (Kernel, Tap) {
            let (ours, addr) = (Ipv4Addr::new(10, net, 0, 1), Ipv4Addr::new(10, net, 0, 2));
            let (jobs, work) = channel::<Box<dyn FnOnce() + Send>>();
            let (give, take) = channel();
            thread::spawn(move || {
                netns::enter_private().expect("a private namespace");
                let tap = Tap::open(TapConfig { offload: false, ..TapConfig::default() }).expect("a TAP");
                let mut rtnl = Rtnl::open().expect("netlink");
                rtnl.add_address(tap.name(), addr, 24).expect("an address");
                rtnl.set_up(tap.name()).expect("up");
                rtnl.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(ours), tap.name()).expect("a route");
                give.send(tap).expect("somebody waits");
                work.into_iter().for_each(|job| job());
            });
            (Kernel { addr, jobs }, take.recv().expect("a TAP"))
        }

        /// Does something in the namespace, in a thread of its own.
        fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
            let (give, take) = channel();
            let start = move || drop(give.send(thread::spawn(job)));
            self.jobs.send(Box::new(start)).expect("the namespace lives");
            take.recv().expect("a thread")
        }
    }

    fn interface(tap: Tap, net: u8, faults: Option<(Faults, u64)>) -> Interface {
        let device: Box<dyn Device> = match faults {
            Some((faults, seed)) => Box::new(Faulty::new(Box::new(tap), faults, seed)),
            None => Box::new(tap),
        };
        Interface::boxed(device).address(&format!("10.{net}.0.1/24")).expect("an address")
    }

    /// Sends until the time is over.
    fn pour(mut stream: impl Write, time: Duration) {
        let (end, chunk) = (Instant::now() + time, vec![7; CHUNK]);
        while Instant::now() < end && stream.write_all(&chunk).is_ok() {}
    }

    /// Bytes that arrived while the time lasted.
    fn drain(mut stream: impl Read, time: Duration) -> u64 {
        let (end, mut buf, mut total) = (Instant::now() + time, vec![0; CHUNK], 0);
        while Instant::now() < end {
            match stream.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => total += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        total
    }

    fn kernel_drain(kernel: &Kernel, time: Duration) -> JoinHandle<u64> {
        let (ready, is_ready) = channel();
        let job = kernel.run(move || {
            let listener = KernelListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free port");
            ready.send(()).expect("somebody waits");
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            drain(stream, time)
        });
        is_ready.recv().expect("a listener");
        job
    }

    fn kernel_pour(kernel: &Kernel, to: Ipv4Addr, time: Duration) -> JoinHandle<()> {
        kernel.run(move || {
            let stream = KernelStream::connect(SocketAddr::from((to, PORT))).expect("a connection");
            rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").expect("the kernel has CUBIC");
            pour(stream, time);
        })
    }

    fn wire(loss: f64) -> Faults {
        let delay = Duration::from_millis(10);
        Faults { loss, delay: delay..=delay, ..Faults::NONE }
    }

    #[derive(Clone, Copy, Debug)]
    enum Pair {
        KernelToKernel,
        StackToKernel,
        KernelToStack,
    }

    /// MB/s of one run.
    fn rate(pair: Pair, loss: f64, seed: u64, time: Duration) -> f64 {
        let (near, tap) = Kernel::new(9);
        let faulty = interface(tap, 9, Some((wire(loss), seed)));
        let (stack, total) = match pair {
            Pair::KernelToKernel => {
                let (far, tap) = Kernel::new(8);
                let mut sysctls = rxpath_core::sysctl::Sysctls::default();
                sysctls.set("net.ipv4.ip_forward", "1").expect("it is known");
                let builder = Stack::builder().interface(faulty).interface(interface(tap, 8, None)).sysctls(sysctls);
                let stack = builder.build().expect("a stack");
                let drained = kernel_drain(&far, time);
                let poured = kernel_pour(&near, far.addr, time);
                let total = drained.join().expect("the reader");
                drop(poured);
                (stack, total)
            }
            Pair::StackToKernel => {
                let stack = Stack::builder().interface(faulty).build().expect("a stack");
                let drained = kernel_drain(&near, time);
                let stream = TcpStream::connect(&stack, SocketAddr::from((near.addr, PORT))).expect("a connection");
                thread::spawn(move || pour(stream, time));
                (stack, drained.join().expect("the reader"))
            }
            Pair::KernelToStack => {
                let stack = Stack::builder().interface(faulty).build().expect("a stack");
                let ours = Ipv4Addr::new(10, 9, 0, 1);
                let listener = TcpListener::bind(&stack, SocketAddr::from((ours, PORT))).expect("a free port");
                let poured = kernel_pour(&near, ours, time);
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
                let total = drain(stream, time);
                drop(poured);
                (stack, total)
            }
        };
        stack.shutdown();
        total as f64 / time.as_secs_f64() / 1e6
    }

    /// Prints the table: each figure the mean of some runs, whose seeds are the same for all pairs.
    pub fn table(time: Duration, runs: u64) {
        println!("MB/s, mean of {runs} runs of {} s; 10 ms each way; CUBIC", time.as_secs());
        println!(
            "{:>6} {:>16} {:>16} {:>6} {:>16} {:>6}",
            "loss", "kernel-kernel", "rxpath-kernel", "", "kernel-rxpath", ""
        );
        for loss in [0.001, 0.01, 0.03] {
            let mean = |pair| (0..runs).map(|seed| rate(pair, loss, seed + 1, time)).sum::<f64>() / runs as f64;
            let (kernel, sends, receives) =
                (mean(Pair::KernelToKernel), mean(Pair::StackToKernel), mean(Pair::KernelToStack));
            let percent = loss * 100.0;
            println!(
                "{percent:>5.1}% {kernel:>16.2} {sends:>16.2} {:>6.2} {receives:>16.2} {:>6.2}",
                sends / kernel,
                receives / kernel
            );
        }
    }
}
