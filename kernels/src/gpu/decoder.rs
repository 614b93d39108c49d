//! A whole ternary model on a device: weights uploaded once, the cache of keys and values beside them, and one
//! recording for each shape of pass, replayed for every token.
//!
//! Computes what [`Model`] computes. The cache's bookkeeping stays with the processor ([`Cache::on_device`]).

mod buffers;
mod plan;

use super::driver::{Driver, GpuError, Launch, Recording, Step};
use super::ops::best::Best;
use super::source::Source;
use crate::cpu::rope::Frequencies;
use crate::cpu::ternary::NotFinite;
use crate::kv::{Cache, CacheOptions, PAGE, SequenceId};
use crate::model::logits::Spare;
use crate::model::{Config, ForwardError, Logits, Model, Slice, Want, advance, prepare};
use buffers::{Buffers, Layer, PASS_STATES, PASS_TOKENS, PASS_WANTED};
use std::collections::HashMap;

pub use plan::{Choices, Plan};

/// Where compiled code comes from: a cache, or the compiler itself.
pub trait Codes {
    /// The code of a source for this device.
    ///
    /// # Errors
    /// The text does not compile, or is known to be bad here.
    fn code(&mut self, driver: &dyn Driver, source: &Source) -> Result<Vec<u8>, GpuError>;
}

/// Compiles each time.
#[derive(Debug)]
pub struct Compile;

impl Codes for Compile {
    fn code(&mut self, driver: &dyn Driver, source: &Source) -> Result<Vec<u8>, GpuError> {
        driver.compile(source)
    }
}

/// Recordings that are kept: decode at a dozen lengths, and the usual pieces of prompts.
const RECORDINGS_MAX: usize = 32;

/// What a recording depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pass {
    tokens: usize,
    wanted: usize,
    /// Chunks of positions that attention is launched for.
    chunks: usize,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ending {
    Logits,
    Best,
}

/// One token of a pass.
struct Token {
    id: u32,
    sequence: SequenceId,
    position: usize,
    wanted: bool,
}

/// A model on a device, with the pages of one cache.
pub struct Decoder {
    driver: Box<dyn Driver>,
    config: Config,
    frequencies: Frequencies,
    kernels: plan::Kernels,
    layers: Vec<Layer>,
    buffers: Buffers,
    recordings: HashMap<Pass, Recording>,
    spare: Spare,
    n_pages: usize,
}

impl Decoder {
    /// Uploads a model and makes the cache that it runs on.
    ///
    /// # Errors
    /// A model that the kernels do not compute, or a device without room for it.
    pub fn new(
        mut driver: Box<dyn Driver>,
        model: &Model,
        options: CacheOptions,
        codes: &mut dyn Codes,
        choices: &Choices,
    ) -> Result<(Decoder, Cache), GpuError> {
        let plan = Plan::new(model, options.kind, choices)?;
        let config = model.config().clone();
        let (weights, frequencies) = model.parts();
        let cache = Cache::on_device(&config, options)
            .map_err(|error| GpuError::Unsupported(error.to_string()))?;
        let kernels = plan.load(&mut *driver, codes)?;
        let layers = Layer::all(&mut *driver, weights)?;
        let buffers = Buffers::new(&mut *driver, &config, weights, &plan, &cache)?;
        let decoder = Decoder {
            frequencies: frequencies.clone(),
            kernels,
            layers,
            buffers,
            recordings: HashMap::new(),
            spare: Spare::default(),
            n_pages: cache.n_pages(),
            config,
            driver,
        };
        Ok((decoder, cache))
    }

    /// Dimensions and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device.
    pub fn driver(&mut self) -> &mut dyn Driver {
        &mut *self.driver
    }

    /// Kernels that one decoded token starts.
    pub fn launches(&self) -> usize {
        let pass = Pass {
            tokens: 1,
            wanted: 1,
            chunks: 1,
            ending: Ending::Best,
        };
        let is_launch = |step: &&Step| matches!(step, Step::Launch(_));
        self.steps(pass).iter().filter(is_launch).count()
    }

    /// Bytes read and written in a second by a copy between the halves of the largest buffer: what the device's memory
    /// can do at the most. Call it before the first pass, for it overwrites pages of the cache.
    ///
    /// # Errors
    /// The device fails, or cannot tell how long its work takes.
    pub fn copy_gb_per_s(&mut self) -> Result<f64, GpuError> {
        /// Copies of one recording.
        const COPIES: usize = 8;
        let bytes = (self.buffers.page_bytes * self.n_pages as u64 / 2).next_multiple_of(16) - 16;
        let copy = Step::Copy {
            from: (self.buffers.cache, 0),
            to: (self.buffers.cache, bytes),
            bytes,
        };
        let recording = self.driver.record(&vec![copy; COPIES])?;
        self.driver.replay(recording)?;
        self.driver.sync()?;
        let time = self.driver.elapsed();
        self.driver.forget(recording);
        let seconds = time.map(|t| t.as_secs_f64()).ok_or_else(|| {
            GpuError::Unsupported("this device cannot tell how long its work takes".to_owned())
        })?;
        Ok(2.0 * (bytes as usize * COPIES) as f64 / seconds / 1e9)
    }

    /// As [`Model::forward`].
    ///
    /// # Errors
    /// As [`Model::forward`], and the device's own.
    pub fn forward(
        &mut self,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Logits, ForwardError> {
        let passes = self.begin(cache, batch)?;
        let rows = passes.iter().flatten().filter(|t| t.wanted).count();
        let mut logits = Logits::new(&self.spare, rows, self.config.n_vocab);
        let mut out = logits.rows_mut();
        for pass in &passes {
            let wanted = self.pass(cache, pass, Ending::Logits)?;
            for (i, row) in out.by_ref().take(wanted).enumerate() {
                let bytes = 4 * self.config.n_vocab as u64;
                let mut raw = vec![0; bytes as usize];
                self.driver
                    .read(self.buffers.out, i as u64 * bytes, &mut raw)?;
                for (to, from) in row.iter_mut().zip(raw.as_chunks::<4>().0) {
                    *to = f32::from_le_bytes(*from);
                }
            }
        }
        drop(out);
        advance(cache, batch);
        Ok(logits)
    }

    /// As [`Model::forward_best`]: the best token of each wanted position, found on the device.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn forward_best(
        &mut self,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Vec<Option<(u32, f32)>>, ForwardError> {
        let mut found = Vec::new();
        for pass in &self.begin(cache, batch)? {
            let wanted = self.pass(cache, pass, Ending::Best)?;
            let mut raw = vec![0; 8 * wanted];
            self.driver.read(self.buffers.out, 0, &mut raw)?;
            for pair in super::ops::words_of(&raw).as_chunks::<2>().0 {
                found.push((pair[1] != u32::MAX).then(|| (pair[1], f32::from_bits(pair[0]))));
            }
        }
        advance(cache, batch);
        Ok(found)
    }

    /// Checks a batch, makes room for it, and cuts it into passes.
    fn begin(
        &mut self,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Vec<Vec<Token>>, ForwardError> {
        if !cache.is_on_device() || cache.n_pages() != self.n_pages {
            return Err(ForwardError::Mismatch);
        }
        prepare(&self.config, cache, batch)?;
        let page = self.buffers.page_bytes;
        let copies: Vec<Step> = cache
            .take_copies()
            .into_iter()
            .map(|(from, to)| Step::Copy {
                from: (self.buffers.cache, u64::from(from) * page),
                to: (self.buffers.cache, u64::from(to) * page),
                bytes: page,
            })
            .collect();
        if !copies.is_empty() {
            self.driver.run(&copies)?;
        }
        let mut passes: Vec<Vec<Token>> = Vec::new();
        let (mut chunks, mut tables, mut rows) = (1, 0, 0);
        for slice in batch {
            let start = cache.len(slice.sequence);
            let pages = cache.pages(slice.sequence).len();
            for (i, &id) in slice.tokens.iter().enumerate() {
                let position = start + i;
                let more = chunks.max(chunks_of(position));
                let fresh = i == 0 || passes.is_empty();
                let last = i + 1 == slice.tokens.len();
                let wanted = slice.logits == Want::All || (slice.logits == Want::Last && last);
                let fits = passes.last().is_some_and(|pass| {
                    pass.len() < PASS_TOKENS
                        && rows + usize::from(wanted) <= PASS_WANTED
                        && (pass.len() + 1) * more <= PASS_STATES
                        && tables + if fresh { pages } else { 0 } <= self.buffers.tables_max
                });
                if !fits {
                    passes.push(Vec::new());
                    (chunks, tables, rows) = (1, 0, 0);
                }
                if fresh || !fits {
                    tables += pages;
                }
                chunks = chunks.max(chunks_of(position));
                rows += usize::from(wanted);
                if let Some(pass) = passes.last_mut() {
                    pass.push(Token {
                        id,
                        sequence: slice.sequence,
                        position,
                        wanted,
                    });
                }
            }
        }
        Ok(passes)
    }

    /// Runs one pass; its outcome lies in the out buffer. Returns the number of wanted rows.
    fn pass(
        &mut self,
        cache: &Cache,
        tokens: &[Token],
        ending: Ending,
    ) -> Result<usize, ForwardError> {
        let pairs = self.frequencies.pairs();
        let (mut steps, mut tables, mut angles) = (Vec::new(), Vec::new(), Vec::new());
        let mut wanted = Vec::new();
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        let (mut sequence, mut table, mut chunks) = (None, 0, 1);
        for (t, token) in tokens.iter().enumerate() {
            if sequence != Some(token.sequence) {
                sequence = Some(token.sequence);
                table = tables.len() as u32;
                tables.extend_from_slice(cache.pages(token.sequence));
            }
            steps.extend([token.id, token.position as u32, table, 0]);
            self.frequencies.angles(token.position, &mut cos, &mut sin);
            angles.extend(
                cos.iter()
                    .zip(&sin)
                    .flat_map(|(c, s)| [c.to_bits(), s.to_bits()]),
            );
            chunks = chunks.max(chunks_of(token.position));
            if token.wanted {
                wanted.push(t as u32);
            }
        }
        let pass = Pass {
            tokens: tokens.len(),
            wanted: wanted.len(),
            chunks: chunks.next_power_of_two().min(self.buffers.chunks_max),
            ending,
        };
        let recording = self.recording(pass)?;
        let b = &self.buffers;
        for (buffer, words) in [
            (b.steps, &steps),
            (b.tables, &tables),
            (b.angles, &angles),
            (b.wanted, &wanted),
        ] {
            self.driver.write(buffer, 0, &super::ops::bytes_of(words))?;
        }
        self.driver.replay(recording)?;
        self.driver.sync()?;
        let mut faults = [0; 8];
        self.driver.read(b.faults, 0, &mut faults)?;
        if faults[..4] != [0; 4] {
            let column = u32::from_le_bytes([faults[4], faults[5], faults[6], faults[7]]) as usize;
            self.driver.write(b.faults, 0, &[0; 8])?;
            return Err(NotFinite { column }.into());
        }
        Ok(wanted.len())
    }

    fn recording(&mut self, pass: Pass) -> Result<Recording, GpuError> {
        if let Some(recording) = self.recordings.get(&pass) {
            return Ok(*recording);
        }
        if self.recordings.len() >= RECORDINGS_MAX {
            for (_, old) in self.recordings.drain() {
                self.driver.forget(old);
            }
        }
        let steps = self.steps(pass);
        let recording = self.driver.record(&steps)?;
        self.recordings.insert(pass, recording);
        Ok(recording)
    }

    /// Everything that a pass does.
    fn steps(&self, pass: Pass) -> Vec<Step> {
        let (b, k) = (&self.buffers, &self.kernels);
        let (tokens, chunks) = (pass.tokens as u32, pass.chunks as u32);
        let (kv_heads, rows) = (self.config.n_kv_heads as u32, [tokens, 1, 1]);
        let query_heads = self.config.n_heads as u32;
        let mut steps = Vec::new();
        let mut launch = |kernel, grid, buffers: &[_], args: &[u32]| {
            steps.push(Step::Launch(Launch {
                kernel,
                grid,
                buffers: buffers.to_vec(),
                args: args.to_vec(),
            }));
        };
        launch(
            k.embed,
            rows,
            &[b.embedding.0, b.embedding.1, b.steps, b.x],
            &[],
        );
        for (i, layer) in self.layers.iter().enumerate() {
            let prepared = [b.row, b.codes, b.scales, b.faults];
            let ready = |from, weight| [&[from, weight], &prepared[..]].concat();
            let multiply = |product: &buffers::Product, kernels: &plan::Pair, to| {
                let (kernel, grid) = kernels.choose(product.blocks, tokens);
                let buffers = [product.weights, product.table, b.codes, b.scales, to];
                (kernel, grid, buffers, [tokens, product.blocks])
            };
            let (n, kernels) = (i as u32, &k.layers[i]);
            launch(k.prepare_in, rows, &ready(b.x, layer.attention_norm), &[]);
            let (kernel, grid, buffers, args) = multiply(&layer.qkv, &kernels.qkv, b.wide);
            launch(kernel, grid, &buffers, &args);
            let heads = [kv_heads, tokens, 1];
            launch(
                k.rope,
                heads,
                &[b.steps, b.tables, b.angles, b.wide, b.cache],
                &[n],
            );
            let all = [chunks, kv_heads, tokens];
            launch(
                k.attend,
                all,
                &[b.steps, b.tables, b.wide, b.cache, b.states],
                &[n, chunks],
            );
            launch(
                k.merge,
                [query_heads, tokens, 1],
                &[b.steps, b.states, b.attended],
                &[chunks],
            );
            launch(
                k.prepare_out,
                rows,
                &ready(b.attended, layer.attention_sub_norm),
                &[],
            );
            let (kernel, grid, buffers, args) = multiply(&layer.output, &kernels.output, b.x);
            launch(kernel, grid, &buffers, &args);
            launch(k.prepare_in, rows, &ready(b.x, layer.ff_norm), &[]);
            let (kernel, grid, buffers, args) = multiply(&layer.gate_up, &kernels.gate_up, b.wide);
            launch(kernel, grid, &buffers, &args);
            launch(k.prepare_down, rows, &ready(b.wide, layer.ff_sub_norm), &[]);
            let (kernel, grid, buffers, args) = multiply(&layer.down, &kernels.down, b.x);
            launch(kernel, grid, &buffers, &args);
        }
        if pass.wanted == 0 {
            return steps;
        }
        let wanted = pass.wanted as u32;
        let (codes, scales) = (b.head_codes, b.head_scales);
        launch(
            k.blocks,
            [wanted, 1, 1],
            &[b.wanted, b.x, b.output_norm, codes, scales],
            &[],
        );
        let table = [b.head.0, b.head.1, codes, scales, b.logits];
        launch(k.head.0, k.head.1.grid(wanted), &table, &[]);
        let vocabulary = self.config.n_vocab as u32;
        let (from, bytes) = match pass.ending {
            Ending::Logits => (b.logits, 4 * u64::from(wanted * vocabulary)),
            Ending::Best => {
                let mut pairs = [b.best.0, b.best.1];
                for (round, (count, spans)) in Best::rounds(1, vocabulary).into_iter().enumerate() {
                    let kernel = if round == 0 { k.best.0 } else { k.best.1 };
                    let buffers = [b.logits, pairs[0], pairs[1]];
                    launch(kernel, [spans, wanted, 1], &buffers, &[count]);
                    pairs.reverse();
                }
                (pairs[0], 8 * u64::from(wanted))
            }
        };
        steps.push(Step::Copy {
            from: (from, 0),
            to: (b.out, 0),
            bytes,
        });
        steps
    }
}

/// Chunks of positions that a token at `position` sees.
fn chunks_of(position: usize) -> usize {
    position / crate::cpu::attention::CHUNK + 1
}

const _: () = assert!(PAGE == 32);
