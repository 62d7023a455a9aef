//! Virtual time: threads and stacks that live in it.
//!
//! One thread runs at a time: the one whose turn it is. A call that blocks passes the turn on; when a whole round of
//! turns has brought nobody forward, the stacks are polled; when they have nothing to do either, the clock jumps to the
//! next deadline. So the order of everything follows from the program alone.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};

use rxpath_core::stack::Polled;
use rxpath_trace::Time;

/// Something that lives in virtual time: a stack.
pub(crate) trait Lives: Send + Sync {
    /// Does what is to be done now.
    fn poll(&self, now: Time) -> Polled;
}

/// What the handles of a virtual clock share.
pub(super) struct Timeline {
    now: AtomicU64,
    tick_ns: u64,
    world: Mutex<World>,
    turned: Condvar,
}

/// What lives in the time of one clock.
#[derive(Default)]
struct World {
    stacks: Vec<Weak<dyn Lives>>,
    tasks: Vec<Task>,
    next_id: u64,
    /// Whose turn it is.
    turn: Option<u64>,
    /// Turns in a row that brought nobody forward.
    stalled: usize,
    /// [`Timeline::run`] is still enrolling its tasks.
    starting: bool,
}

/// A thread that lives in the clock's time.
struct Task {
    id: u64,
    /// When its blocked call gives up.
    deadline: Option<Time>,
}

thread_local! {
    /// The clock (by address) and the task that this thread is, within [`Timeline::run`].
    static CURRENT: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// What became of an attempt to go on.
pub(crate) enum Waited {
    /// Something happened: try again.
    Again,
    /// The call's own time is over.
    TimedOut,
    /// Nothing will ever happen.
    Dead,
}

impl World {
    fn enrol(&mut self) -> u64 {
        self.next_id += 1;
        self.tasks.push(Task { id: self.next_id, deadline: None });
        self.next_id
    }

    fn task(&mut self, id: u64) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.id == id)
    }

    /// The task after `id`, once around.
    fn after(&self, id: u64) -> Option<u64> {
        let later = self.tasks.iter().find(|task| task.id > id);
        later.or_else(|| self.tasks.first()).map(|task| task.id)
    }

    fn leave(&mut self, id: u64) {
        self.tasks.retain(|task| task.id != id);
        self.stalled = 0;
        if self.turn == Some(id) {
            self.turn = self.after(id);
        }
    }

    /// Polls every stack once, in the order in which they were made. True if anything was done or is left to do.
    fn poll(&mut self, now: Time) -> (bool, Option<Time>) {
        let (mut busy, mut next) = (false, None::<Time>);
        self.stacks.retain(|stack| stack.strong_count() > 0);
        for stack in self.stacks.iter().filter_map(Weak::upgrade) {
            let polled = stack.poll(now);
            busy |= polled.work > 0 || polled.next.is_some_and(|at| at <= now);
            next = [next, polled.next].into_iter().flatten().min();
        }
        (busy, next)
    }

    /// One step of the world: a round of polls or, if that does nothing, a jump to the next deadline. False if there is
    /// no deadline either.
    fn step(&mut self, timeline: &Timeline) -> bool {
        let now = timeline.now();
        let (mut busy, mut next) = self.poll(now);
        if !busy {
            // What a timer sent in this round may have reached a stack that had been polled before.
            (busy, next) = self.poll(now);
        }
        if busy {
            timeline.advance_to(now + timeline.tick_ns);
            return true;
        }
        let calls = self.tasks.iter().filter_map(|task| task.deadline).min();
        match [next, calls].into_iter().flatten().min() {
            Some(at) => {
                timeline.advance_to(Time(at.0.max(now.0 + 1)));
                true
            }
            None => false,
        }
    }
}

/// A thread's membership, ended when it is dropped.
struct Seat<'a> {
    timeline: &'a Timeline,
    id: u64,
}

impl Seat<'_> {
    fn wait_for_turn(&self) {
        let mut world = self.timeline.world();
        if world.turn.is_none() && !world.starting {
            world.turn = Some(self.id);
        }
        while world.turn != Some(self.id) {
            world = self.timeline.turned.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.timeline.world().leave(self.id);
        self.timeline.turned.notify_all();
    }
}

impl Timeline {
    pub(super) fn new(start: Time, tick_ns: u64) -> Timeline {
        let now = AtomicU64::new(start.0);
        Timeline { now, tick_ns: tick_ns.max(1), world: Mutex::default(), turned: Condvar::new() }
    }

    #[inline]
    pub(super) fn now(&self) -> Time {
        Time(self.now.load(Ordering::Acquire))
    }

    pub(super) fn advance_to(&self, to: Time) {
        self.now.fetch_max(to.0, Ordering::AcqRel);
    }

    pub(super) fn advance(&self, by_ns: u64) {
        self.now.fetch_add(by_ns, Ordering::AcqRel);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Adds a stack to the world.
    pub(super) fn enter(&self, stack: Weak<dyn Lives>) {
        self.world().stacks.push(stack);
    }

    /// Runs `attempt` until it gives something, the deadline has passed, or nothing can happen any more.
    pub(super) fn block<T>(&self, deadline: Option<Time>, mut attempt: impl FnMut() -> Option<T>) -> Result<T, Waited> {
        if let Some(done) = attempt() {
            return Ok(done);
        }
        let (address, id) = CURRENT.get();
        if address == self.address() {
            return self.block_as(id, deadline, attempt);
        }
        let id = self.world().enrol();
        let seat = Seat { timeline: self, id };
        seat.wait_for_turn();
        self.block_as(id, deadline, attempt)
    }

    fn block_as<T>(
        &self,
        id: u64,
        deadline: Option<Time>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Waited> {
        loop {
            if let Some(done) = attempt() {
                let mut world = self.world();
                world.stalled = 0;
                if let Some(task) = world.task(id) {
                    task.deadline = None;
                }
                return Ok(done);
            }
            if deadline.is_some_and(|at| at <= self.now()) {
                return Err(Waited::TimedOut);
            }
            match self.pass_turn(id, deadline) {
                Waited::Again => {}
                ended => return Err(ended),
            }
        }
    }

    /// Lets the others have their turns, and the world its step if none of them came forward.
    fn pass_turn(&self, id: u64, deadline: Option<Time>) -> Waited {
        let mut world = self.world();
        if let Some(task) = world.task(id) {
            task.deadline = deadline;
        }
        world.stalled += 1;
        if world.stalled >= world.tasks.len() {
            world.stalled = 0;
            if !world.step(self) {
                // This call ends; what its program does then may bring the others forward.
                return Waited::Dead;
            }
        }
        world.turn = world.after(id);
        if world.turn != Some(id) {
            self.turned.notify_all();
        }
        while world.turn != Some(id) {
            world = self.turned.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(task) = world.task(id) {
            task.deadline = None;
        }
        Waited::Again
    }

    /// See [`super::ManualClock::run`].
    pub(super) fn run<'env>(&self, programs: Vec<Box<dyn FnOnce() + Send + 'env>>) {
        let ids: Vec<u64> = {
            let mut world = self.world();
            world.starting = true;
            programs.iter().map(|_| world.enrol()).collect()
        };
        let outcomes = std::thread::scope(|scope| {
            let spawned: Vec<_> = ids
                .iter()
                .zip(programs)
                .map(|(&id, program)| {
                    scope.spawn(move || {
                        let seat = Seat { timeline: self, id };
                        seat.wait_for_turn();
                        CURRENT.set((self.address(), id));
                        program();
                    })
                })
                .collect();
            {
                let mut world = self.world();
                world.starting = false;
                if world.turn.is_none() {
                    world.turn = ids.first().copied();
                }
            }
            self.turned.notify_all();
            spawned.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for outcome in outcomes {
            if let Err(panic) = outcome {
                resume_unwind(panic);
            }
        }
    }
}
