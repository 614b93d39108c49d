//! Attention of one block over the paged cache: who attends to what, split into tasks for threads.
//!
//! A task is one KV head of up to [`TASK_TOKENS`] tokens of one sequence over all chunks of its context, or, when a
//! few tokens meet a long context, over a part of them; then the chunks' states are merged in order. Both ways run
//! the same arithmetic.

use super::Slice;
use super::config::Config;
use super::forward::Kernels;
use super::scratch::Scratch;
use super::weights::Layer;
use crate::cpu::activation::grow;
use crate::cpu::attention::{Attention, CHUNK, State, TILE};
use crate::cpu::shared::Shared;
use crate::kv::{Cache, PAGE, SequenceId};
use crate::threads::Threads;
use std::cell::RefCell;
use std::ops::Range;

/// Tokens whose rows pass over the keys together: with 3 to 4 query heads a KV head that is 24 to 32 rows, enough to
/// pay for converting the keys, few enough to stay in the first-level cache.
const TASK_TOKENS: usize = 8;

/// Widest head, for buffers on the stack.
const HEAD_DIM_MAX: usize = 512;

/// Tasks a thread should have before a long context is left unsplit.
const TASKS_A_THREAD: usize = 3;

/// Tasks a thread has when it is split: no thread waits long for another's last one.
const SPLIT_TASKS_A_THREAD: usize = 12;

/// One KV head of a few tokens over a range of chunks.
#[derive(Clone, Debug)]
pub(super) struct Task {
    sequence: SequenceId,
    /// Index of the first token in the batch.
    first: usize,
    tokens: usize,
    /// Position of the first token.
    position: usize,
    head: usize,
    chunks: Range<usize>,
    /// Where the chunks' states go if these are not all of them, in `Scratch::partials`.
    partial: Option<usize>,
}

/// Lists the tasks of a batch; they are the same in every block.
pub(super) fn plan(
    tasks: &mut Vec<Task>,
    config: &Config,
    cache: &Cache,
    batch: &[Slice<'_>],
    threads: usize,
) {
    tasks.clear();
    let blocks: usize = batch
        .iter()
        .map(|s| s.tokens.len().div_ceil(TASK_TOKENS))
        .sum();
    let tasks_unsplit = blocks * config.n_kv_heads;
    let split = threads > 1 && tasks_unsplit < threads * TASKS_A_THREAD;
    let parts = (threads * SPLIT_TASKS_A_THREAD).div_ceil(tasks_unsplit.max(1));
    let state = (config.n_heads / config.n_kv_heads) * (config.head_dim + 2);
    let (mut first, mut partial) = (0, 0);
    for slice in batch {
        let start = cache.len(slice.sequence);
        for block in (0..slice.tokens.len()).step_by(TASK_TOKENS) {
            let tokens = TASK_TOKENS.min(slice.tokens.len() - block);
            let chunks = (start + block + tokens).div_ceil(CHUNK);
            for head in 0..config.n_kv_heads {
                let task = |chunks, partial| Task {
                    sequence: slice.sequence,
                    first: first + block,
                    tokens,
                    position: start + block,
                    head,
                    chunks,
                    partial,
                };
                if split && chunks > 1 {
                    let length = chunks.div_ceil(parts);
                    for begin in (0..chunks).step_by(length) {
                        let part = begin..chunks.min(begin + length);
                        let states = part.len() * tokens * state;
                        tasks.push(task(part, Some(partial)));
                        partial += states;
                    }
                } else {
                    tasks.push(task(0..chunks, None));
                }
            }
        }
        first += slice.tokens.len();
    }
}

/// The heads of one block.
pub(super) struct Heads<'a> {
    pub(super) config: &'a Config,
    pub(super) kernels: &'a Kernels,
    pub(super) layer: &'a Layer,
    pub(super) index: usize,
}

impl Heads<'_> {
    fn group(&self) -> usize {
        self.config.n_heads / self.config.n_kv_heads
    }

    /// Norms and rotates queries and keys in place and writes keys and values to the cache.
    pub(super) fn store(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        s: &mut Scratch,
        batch: &[Slice<'_>],
    ) {
        let (c, k) = (self.config, self.kernels);
        let (heads, kv_heads, dim) = (c.n_heads, c.n_kv_heads, c.head_dim);
        let stride = (heads + 2 * kv_heads) * dim;
        let pairs = c.rope.dimensions / 2;
        let layout = cache.layout();
        let (pool, pages) = cache.parts();
        let (pool, wide) = (Shared::new(pool), Shared::new(&mut s.wide));
        let (positions, cos, sin) = (&s.positions, &s.cos, &s.sin);
        let head = |h: usize| {
            let mut t = 0;
            for slice in batch {
                let pages = pages.of(slice.sequence);
                for _ in slice.tokens {
                    let (cos, sin) = (&cos[t * pairs..][..pairs], &sin[t * pairs..][..pairs]);
                    let turn = |values: &mut [f32], norm: Option<&Vec<f32>>| {
                        if let Some(weight) = norm {
                            let mut copy = [0.0; HEAD_DIM_MAX];
                            copy[..dim].copy_from_slice(values);
                            (k.norm)(&copy[..dim], weight, c.norm_epsilon, values);
                        }
                        (k.rotate)(values, c.rope.pairing, cos, sin);
                    };
                    let position = positions[t];
                    // SAFETY: queries, key, value and page side of KV head `h` belong to this call alone.
                    unsafe {
                        let queries =
                            wide.range(t * stride + h * self.group() * dim, self.group() * dim);
                        queries
                            .chunks_exact_mut(dim)
                            .for_each(|q| turn(q, self.layer.query_norm.as_ref()));
                        let key = wide.range(t * stride + (heads + h) * dim, dim);
                        turn(key, self.layer.key_norm.as_ref());
                        let value = wide.range(t * stride + (heads + kv_heads + h) * dim, dim);
                        let sides = pool.range(
                            layout.offset(pages[position / PAGE], self.index, h),
                            2 * layout.side_bytes(),
                        );
                        layout.write(sides, position % PAGE, key, value);
                    }
                    t += 1;
                }
            }
        };
        if positions.len() < TASK_TOKENS {
            (0..kv_heads).for_each(head);
        } else {
            threads.run(kv_heads, &head);
        }
    }

    /// Fills `s.attended` from the queries in `s.wide` and the cache.
    pub(super) fn attend(
        &self,
        threads: &Threads,
        attention: &Attention,
        cache: &Cache,
        s: &mut Scratch,
    ) {
        let tokens = s.positions.len();
        let partials: usize = s
            .tasks
            .iter()
            .filter(|t| t.partial.is_some())
            .map(|t| t.chunks.len() * self.state_len(t))
            .sum();
        grow(&mut s.partials, partials);
        let (tasks, wide) = (&s.tasks, &s.wide);
        {
            let (partials, out) = (Shared::new(&mut s.partials), Shared::new(&mut s.attended));
            let run = |i: usize| {
                let task = &tasks[i];
                match task.partial {
                    None => self.whole(attention, cache, task, wide, &out),
                    Some(at) => {
                        let len = self.state_len(task);
                        // SAFETY: the plan gave every partial task a range of its own.
                        let states = unsafe { partials.range(at, task.chunks.len() * len) };
                        self.with_buffers(task, |queries, scores, _, _| {
                            self.gather_queries(task, wide, queries);
                            let states = states.chunks_exact_mut(len);
                            for (chunk, state) in task.chunks.clone().zip(states) {
                                let mut state = self.state(task, state);
                                self.chunk(
                                    attention, cache, task, chunk, queries, scores, &mut state,
                                );
                            }
                        });
                    }
                }
            };
            if tasks.len() == self.config.n_kv_heads && s.positions[tokens - 1] < TILE {
                // One token and a short context: not worth waking anybody.
                (0..tasks.len()).for_each(run);
            } else {
                threads.run(tasks.len(), &run);
            }
        }
        if partials > 0 {
            self.merge(threads, attention, s);
        }
    }

    /// Merges the chunks of split tasks, in order; every KV head's on one thread.
    fn merge(&self, threads: &Threads, attention: &Attention, s: &mut Scratch) {
        let tasks = &s.tasks;
        let (partials, out) = (Shared::new(&mut s.partials), Shared::new(&mut s.attended));
        threads.run(self.config.n_kv_heads, &|head| {
            let mine = |task: &&Task| task.head == head && task.partial.is_some();
            let mut mine = tasks.iter().filter(mine).peekable();
            while let Some(&first) = mine.peek() {
                self.with_buffers(first, |_, _, merged, _| {
                    let mut merged = self.state(first, merged);
                    merged.clear();
                    while let Some(part) = mine.next_if(|part| part.first == first.first) {
                        let (Some(at), len) = (part.partial, self.state_len(part)) else {
                            continue;
                        };
                        // SAFETY: the states of this head's tasks belong to this call alone.
                        let states = unsafe { partials.range(at, part.chunks.len() * len) };
                        for state in states.chunks_exact_mut(len) {
                            attention.merge(&mut merged, &self.state(part, state));
                        }
                    }
                    self.finish(first, &merged, &out);
                });
            }
        });
    }

    /// All chunks of one task.
    fn whole(
        &self,
        attention: &Attention,
        cache: &Cache,
        task: &Task,
        wide: &[f32],
        out: &Shared<'_, f32>,
    ) {
        self.with_buffers(task, |queries, scores, merged, part| {
            self.gather_queries(task, wide, queries);
            let mut merged = self.state(task, merged);
            merged.clear();
            for chunk in task.chunks.clone() {
                let mut part = self.state(task, part);
                self.chunk(attention, cache, task, chunk, queries, scores, &mut part);
                attention.merge(&mut merged, &part);
            }
            self.finish(task, &merged, out);
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the inner loop's operands")]
    fn chunk(
        &self,
        attention: &Attention,
        cache: &Cache,
        task: &Task,
        chunk: usize,
        queries: &[f32],
        scores: &mut [f32],
        state: &mut State<'_>,
    ) {
        state.clear();
        let layout = cache.layout();
        let pages = cache.pages(task.sequence);
        let end = task.position + task.tokens;
        let group = self.group();
        let tiles = chunk * (CHUNK / TILE)..((chunk + 1) * (CHUNK / TILE)).min(end.div_ceil(TILE));
        for (tile, &page) in tiles.clone().zip(&pages[tiles]) {
            let at = layout.offset(page, self.index, task.head);
            let sides = &cache.memory()[at..][..2 * layout.side_bytes()];
            let visible = |row: usize| {
                (task.position + row / group + 1)
                    .saturating_sub(tile * TILE)
                    .min(TILE)
            };
            attention.tile(queries, sides, visible, scores, state);
        }
    }

    /// Divides by the sums and writes the rows to their tokens.
    fn finish(&self, task: &Task, state: &State<'_>, out: &Shared<'_, f32>) {
        let (group, dim) = (self.group(), self.config.head_dim);
        let stride = self.config.n_heads * dim;
        for (r, row) in state.output.chunks_exact(dim).enumerate() {
            let at = (task.first + r / group) * stride + (task.head * group + r % group) * dim;
            // SAFETY: these heads of these tokens belong to this task.
            let to = unsafe { out.range(at, dim) };
            let inverse = 1.0 / state.total[r];
            for (to, value) in to.iter_mut().zip(row) {
                *to = value * inverse;
            }
        }
    }

    /// Copies the task's query rows, scaled by 1/√head_dim.
    fn gather_queries(&self, task: &Task, wide: &[f32], queries: &mut [f32]) {
        let (c, len) = (self.config, self.group() * self.config.head_dim);
        let stride = (c.n_heads + 2 * c.n_kv_heads) * c.head_dim;
        let scale = 1.0 / (c.head_dim as f32).sqrt();
        for (t, rows) in queries.chunks_exact_mut(len).enumerate() {
            let from = &wide[(task.first + t) * stride + task.head * len..][..len];
            for (to, from) in rows.iter_mut().zip(from) {
                *to = from * scale;
            }
        }
    }

    fn state_len(&self, task: &Task) -> usize {
        task.tokens * self.group() * (self.config.head_dim + 2)
    }

    fn state<'b>(&self, task: &Task, buffer: &'b mut [f32]) -> State<'b> {
        let rows = task.tokens * self.group();
        let (largest, rest) = buffer.split_at_mut(rows);
        let (total, output) = rest.split_at_mut(rows);
        State {
            largest,
            total,
            output,
        }
    }

    /// Lends this thread's buffers: queries, scores, and two states.
    fn with_buffers(
        &self,
        task: &Task,
        f: impl FnOnce(&mut [f32], &mut [f32], &mut [f32], &mut [f32]),
    ) {
        thread_local! {
            static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let rows = task.tokens * self.group();
        let (queries, scores, state) = (
            rows * self.config.head_dim,
            rows * TILE,
            self.state_len(task),
        );
        BUFFER.with_borrow_mut(|buffer| {
            grow(buffer, queries + scores + 2 * state);
            let (q, rest) = buffer.split_at_mut(queries);
            let (s, rest) = rest.split_at_mut(scores);
            let (a, rest) = rest.split_at_mut(state);
            f(q, s, a, &mut rest[..state]);
        });
    }
}
