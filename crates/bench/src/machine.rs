//! Where a benchmark ran, and how the program was built: without it no figure means anything.

use std::fmt;
use std::fs;

use serde::Serialize;

/// Machine and build.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor, as it names itself.
    pub cpu: String,
    /// Processors that the program may use.
    pub cpus: usize,
    /// Instruction set that checksums use, as detected.
    pub simd: &'static str,
    /// Operating system and architecture.
    pub system: String,
    /// Cargo profile.
    pub profile: &'static str,
    /// Optimisation: level, and what the profile and the environment say besides.
    pub flags: &'static str,
    /// Version of the compiler.
    pub compiler: &'static str,
}

impl Machine {
    /// This machine, and this program.
    pub fn here() -> Machine {
        Machine {
            cpu: cpu_model().unwrap_or_else(|| "unknown".to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            simd: rxpath_arch::level().name(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            profile: env!("RXPATH_BENCH_PROFILE"),
            flags: env!("RXPATH_BENCH_FLAGS"),
            compiler: env!("RXPATH_BENCH_RUSTC"),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, simd, system, profile, flags, compiler } = self;
        write!(f, "{cpu}, {cpus} cpus, {simd}, {system}; {compiler}, {profile} ({flags})")
    }
}

/// The processor's name, where the system tells it.
fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = field("model name")?;
    let numbers = field("cpu family").zip(field("model\t"));
    Some(numbers.map_or_else(|| name.clone(), |(family, model)| format!("{name} (family {family} model {model})")))
}
