//! A pool of worker threads that share one loop of independent blocks.
//!
//! Blocks are handed out by an atomic counter, so a slow or preempted core simply takes fewer of them, and
//! the caller waits for *blocks*, never for *workers*: a worker that the kernel has descheduled before it took
//! a block is not missed. Idle workers spin for a moment (the next operator follows within microseconds
//! during decoding) and then park. Knows nothing of matrices or models.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of the spin loop before a worker parks: about 50 µs, several times the longest serial stretch
/// between two operators of a decoded token, and far below a scheduler's time slice.
const SPIN_ROUNDS: u32 = 2_000;

/// Rounds that the caller spins for the last blocks before it yields its core to whoever holds them.
const FINISH_ROUNDS: u32 = 4_000;

/// Bits of the block counter and of the block count inside the ticket word.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Most blocks one pass hands out; `run` splits longer loops.
const BLOCKS_MAX: usize = COUNT_MASK as usize;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// State shared by the caller and its workers.
struct Shared {
    /// `epoch << 40 | blocks << 20 | next`. Taking a block is a compare-and-swap on the whole word, so it can
    /// only succeed for the job that the taker looked at.
    ticket: AtomicU64,
    /// Address of the caller's `Job` on its stack; valid while a block of the current epoch is unfinished.
    job: AtomicUsize,
    done: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    parking: Mutex<()>,
    wake: Condvar,
}

/// Worker threads plus the calling thread; dropping it ends the workers.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One loop at a time; several models may share the pool.
    caller: Mutex<()>,
}

impl Threads {
    /// Starts `n - 1` workers; the thread that calls [`Threads::run`] is the n-th. Zero counts as one.
    /// If the system refuses a thread, the pool is smaller: see [`Threads::count`].
    pub fn new(n: usize) -> Threads {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            parking: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..n)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kernel-{i}"))
                    .spawn(move || work(&shared))
                    .ok()
            })
            .collect();
        Threads {
            shared,
            workers,
            caller: Mutex::new(()),
        }
    }

    /// The number of threads that share a loop, the caller included.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(i)` once for every `i` below `n_blocks`, in any order and on any thread, and returns when all
    /// calls have returned.
    ///
    /// # Panics
    /// If a block panicked on a worker (a panic on the caller's own block unwinds as usual).
    pub fn run(&self, n_blocks: usize, f: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || n_blocks <= 1 {
            (0..n_blocks).for_each(f);
            return;
        }
        let _one_loop = lock(&self.caller);
        let mut first = 0;
        while first < n_blocks {
            let blocks = (n_blocks - first).min(BLOCKS_MAX);
            self.run_pass(blocks, &|i| f(first + i));
            first += blocks;
        }
    }

    fn run_pass(&self, blocks: usize, job: Job<'_>) {
        let shared = &*self.shared;
        shared.done.store(0, Ordering::Relaxed);
        shared.job.store(&raw const job as usize, Ordering::Relaxed);
        let epoch = (shared.ticket.load(Ordering::Relaxed) >> (2 * COUNT_BITS)) + 1;
        let ticket = (epoch << (2 * COUNT_BITS)) | ((blocks as u64) << COUNT_BITS);
        // SeqCst pairs with the sleeper count: either the worker sees the ticket or we see the sleeper.
        shared.ticket.store(ticket, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.parking));
            shared.wake.notify_all();
        }
        // Waits even while unwinding from a panic below: workers must not outlive the job's borrow.
        let finish = Finish { shared, blocks };
        while let Some(block) = take(&shared.ticket) {
            let counted = Counted(shared);
            job(block);
            drop(counted);
        }
        drop(finish);
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a kernel block panicked on a worker thread"
        );
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.parking));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its blocks' panics, so there is nothing to learn from the join.
            let _ = worker.join();
        }
    }
}

/// Counts a block as done when it is left, by return or by panic.
struct Counted<'a>(&'a Shared);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

/// Blocks the caller until all blocks of its pass are done.
struct Finish<'a> {
    shared: &'a Shared,
    blocks: usize,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Blocks nobody has taken will not run: take them ourselves without running them.
            while take(&self.shared.ticket).is_some() {
                self.shared.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut rounds = 0_u32;
        while self.shared.done.load(Ordering::Acquire) < self.blocks {
            rounds = rounds.saturating_add(1);
            if rounds < FINISH_ROUNDS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Takes the next block of the current job, if any is left.
fn take(ticket: &AtomicU64) -> Option<usize> {
    let mut word = ticket.load(Ordering::Acquire);
    loop {
        let next = word & COUNT_MASK;
        if next >= (word >> COUNT_BITS) & COUNT_MASK {
            return None;
        }
        match ticket.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(next as usize),
            Err(now) => word = now,
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let seen = shared.ticket.load(Ordering::Acquire);
        while let Some(block) = take(&shared.ticket) {
            let counted = Counted(shared);
            let address = shared.job.load(Ordering::Relaxed) as *const Job<'_>;
            // SAFETY: the block just taken belongs to the current pass and is not done, so `run_pass` is still
            // waiting in `Finish` and the job it stored before publishing the ticket is alive on its stack.
            let job = unsafe { *address };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(block))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
            drop(counted);
        }
        if !wait(shared, seen) {
            return;
        }
    }
}

/// Waits for a new job; false when the pool ends.
fn wait(shared: &Shared, seen: u64) -> bool {
    let epoch = seen >> (2 * COUNT_BITS);
    let news = || shared.ticket.load(Ordering::SeqCst) >> (2 * COUNT_BITS) != epoch;
    for _ in 0..SPIN_ROUNDS {
        if news() {
            return true;
        }
        if shared.stop.load(Ordering::Relaxed) {
            return false;
        }
        std::hint::spin_loop();
    }
    let mut parked = lock(&shared.parking);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    while !news() && !shared.stop.load(Ordering::SeqCst) {
        parked = shared
            .wake
            .wait(parked)
            .unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    drop(parked);
    !shared.stop.load(Ordering::SeqCst)
}

/// These mutexes guard no data, so a panic elsewhere leaves nothing broken behind them.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_runs_exactly_once() {
        for threads in [1, 2, 5] {
            let pool = Threads::new(threads);
            for blocks in [0, 1, 2, 7, 1000] {
                for _ in 0..50 {
                    let hits: Vec<AtomicUsize> = (0..blocks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(blocks, &|i| {
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    });
                    let wrong = hits
                        .iter()
                        .filter(|h| h.load(Ordering::Relaxed) != 1)
                        .count();
                    assert_eq!(wrong, 0, "{threads} threads, {blocks} blocks");
                }
            }
        }
    }

    #[test]
    fn loops_longer_than_the_counter_are_split() {
        let pool = Threads::new(2);
        let sum = AtomicU64::new(0);
        let blocks = BLOCKS_MAX + 10;
        pool.run(blocks, &|i| {
            sum.fetch_add(i as u64, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), (blocks as u64 - 1) * blocks as u64 / 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Threads::new(3);
        for bad in [0, 40, 99] {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(100, &|i| assert!(i != bad, "wanted"));
            }));
            assert!(outcome.is_err(), "block {bad}");
        }
        let count = AtomicUsize::new(0);
        pool.run(100, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 100);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Threads::new(2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let count = AtomicUsize::new(0);
                        pool.run(16, &|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                        assert_eq!(count.into_inner(), 16);
                    }
                });
            }
        });
    }
}
