//! What a program is, and what it may say.

use std::fmt;
use std::sync::Arc;

use super::Frame;

/// What is to become of a frame, with the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The program failed: dropped, and counted apart (`XDP_ABORTED`).
    Aborted,
    /// Dropped as `XDP` (`XDP_DROP`).
    Drop,
    /// On to the stack (`XDP_PASS`).
    Pass,
    /// Back out of the interface that it came by (`XDP_TX`).
    Tx,
    /// Elsewhere (`XDP_REDIRECT`).
    Redirect(Target),
}

impl Action {
    /// The kernel's number: 0 to 4 in the order above.
    pub const fn number(self) -> u32 {
        match self {
            Action::Aborted => 0,
            Action::Drop => 1,
            Action::Pass => 2,
            Action::Tx => 3,
            Action::Redirect(_) => 4,
        }
    }
}

/// Where a frame is redirected to. A target that does not exist is the program's failure: [`Action::Aborted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Out of the interface of this index (`devmap`).
    Device(u16),
    /// Up the stack of this Cpu (`cpumap`). A packet of a TCP connection goes on from there to the Cpu that owns it.
    Cpu(u16),
}

/// Where a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// In the driver's poll.
    Native = 0,
    /// Behind receive offload.
    Generic = 1,
}

/// A function over frames. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Program {
    name: Arc<str>,
    run: Arc<dyn Fn(&mut Frame<'_>) -> Action + Send + Sync>,
}

impl Program {
    /// A program of this name, for those who look at the configuration. It runs on every Cpu whose queue brings a frame,
    /// at the same time.
    pub fn new(name: &str, run: impl Fn(&mut Frame<'_>) -> Action + Send + Sync + 'static) -> Program {
        Program { name: Arc::from(name), run: Arc::new(run) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn run(&self, frame: &mut Frame<'_>) -> Action {
        (self.run)(frame)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.name).finish()
    }
}

/// The programs of an interface: one for each door.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// In the driver's poll.
    pub native: Option<Program>,
    /// Behind receive offload.
    pub generic: Option<Program>,
}

impl Attached {
    /// Puts a program in a door, or takes away the one that is there; gives the one that was.
    pub fn set(&mut self, door: Door, program: Option<Program>) -> Option<Program> {
        let place = match door {
            Door::Native => &mut self.native,
            Door::Generic => &mut self.generic,
        };
        std::mem::replace(place, program)
    }
}
