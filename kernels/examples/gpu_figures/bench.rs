//! A device with compiled kernels, and time taken in replayed recordings.

use hip_sys::Rtc;
use onebit_kernels::gpu::ops::Op;
use onebit_kernels::gpu::source::Source;
use onebit_kernels::gpu::{Buffer, Driver, GpuError, Kernel, Launch, Place, Step, hip};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub(crate) struct Bench {
    pub(crate) driver: Box<dyn Driver>,
    codes: HashMap<String, Vec<u8>>,
    kernels: HashMap<String, Kernel>,
    /// Bytes a second of the best read kernel.
    pub(crate) ceiling: f64,
    until: f64,
    started: Instant,
}

/// Random numbers: xorshift.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

const READ_HIP: &str = "
KERNEL(NT) main_kernel(const word4* from, u32* out, u32 words) {
  begin();
  u32 s = 0u;
  const u32 stripe = STRIPE;
#if STRIPE == 0u
  const u64 stride = (u64)groups_x() * NT;
  for (u64 i = (u64)group_x() * NT + thread_id(); i + 3u * stride < words; i += 4u * stride) {
    word4 a = stream(from + i), b = stream(from + i + stride), c = stream(from + i + 2u * stride), d = stream(from + i + 3u * stride);
    s ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
  }
#else
  for (u64 b = (u64)group_x() * stripe; b + stripe <= words; b += (u64)groups_x() * stripe)
    for (u32 i = thread_id(); i < stripe; i += 4u * NT) {
      const word4* p = from + b + i;
      word4 a = stream(p), c = stream(p + NT), d = stream(p + 2u * NT), e = stream(p + 3u * NT);
      s ^= a.x ^ a.y ^ a.z ^ a.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w ^ e.x ^ e.y ^ e.z ^ e.w;
    }
#endif
  if (s == 0x12345u) out[0] = s;
}
";

const READ_WGSL: &str = "
@group(0) @binding(0) var<storage, read> from_words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
struct Args { words: u32 }
var<immediate> args: Args;
@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  var s = vec4<u32>(0u);
  if (STRIPE == 0u) {
    let stride = groups.x * NT;
    for (var i = group.x * NT + thread; i + 3u * stride < args.words; i += 4u * stride) {
      s ^= from_words[i] ^ from_words[i + stride] ^ from_words[i + 2u * stride] ^ from_words[i + 3u * stride];
    }
  } else {
    for (var b = group.x * STRIPE; b + STRIPE <= args.words; b += groups.x * STRIPE) {
      for (var i = b + thread; i < b + STRIPE; i += 4u * NT) {
        s ^= from_words[i] ^ from_words[i + NT] ^ from_words[i + 2u * NT] ^ from_words[i + 3u * NT];
      }
    }
  }
  if ((s.x ^ s.y ^ s.z ^ s.w) == 0x12345u) { out[0] = 1u; }
}
";

impl Bench {
    pub(crate) fn new(driver: Box<dyn Driver>, seconds: f64) -> Bench {
        Bench {
            driver,
            codes: HashMap::new(),
            kernels: HashMap::new(),
            ceiling: f64::NAN,
            until: seconds,
            started: Instant::now(),
        }
    }

    pub(crate) fn late(&self) -> bool {
        self.started.elapsed().as_secs_f64() > self.until
    }

    /// Compiles what is not compiled, on all cores where the compiler allows it. Texts that do not compile are told of.
    pub(crate) fn compile(&mut self, mut sources: Vec<Source>) -> Outcome<()> {
        sources.retain(|s| !self.codes.contains_key(&s.name()));
        let identity = self.driver.identity().clone();
        let results = Mutex::new(Vec::new());
        if identity.backend == "cuda" {
            let target = identity
                .driver
                .rsplit(' ')
                .next()
                .unwrap_or("sm_90")
                .to_owned();
            let (next, threads) = (AtomicUsize::new(0), std::thread::available_parallelism()?);
            std::thread::scope(|scope| {
                for _ in 0..threads.get() {
                    scope.spawn(|| {
                        let Ok(rtc) = Rtc::load_nvrtc() else { return };
                        while let Some(s) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let code = hip::compile_nvidia(&rtc, s, &target);
                            if let Ok(mut all) = results.lock() {
                                all.push((s.name(), code));
                            }
                        }
                    });
                }
            });
        } else {
            for s in &sources {
                let code = self.driver.compile(s);
                if let Ok(mut all) = results.lock() {
                    all.push((s.name(), code));
                }
            }
        }
        for (name, code) in results
            .into_inner()
            .map_err(|_| "a compiler's thread died")?
        {
            match code {
                Ok(code) => {
                    self.codes.insert(name, code);
                }
                Err(error) => println!("  {name}: {error}"),
            }
        }
        Ok(())
    }

    pub(crate) fn code(&mut self, source: &Source) -> Result<Vec<u8>, GpuError> {
        match self.codes.get(&source.name()) {
            Some(code) => Ok(code.clone()),
            None => self.driver.compile(source),
        }
    }

    pub(crate) fn codes(self) -> (Box<dyn Driver>, HashMap<String, Vec<u8>>) {
        (self.driver, self.codes)
    }

    pub(crate) fn kernel(&mut self, source: &Source) -> Result<Kernel, GpuError> {
        if let Some(kernel) = self.kernels.get(&source.name()) {
            return Ok(*kernel);
        }
        let code = self.code(source)?;
        let kernel = self.driver.load(source, &code)?;
        self.kernels.insert(source.name(), kernel);
        Ok(kernel)
    }

    /// A kernel that was checked against its definition on this device.
    pub(crate) fn checked(&mut self, op: &dyn Op) -> Result<Kernel, GpuError> {
        let source = op.source();
        let known = self.kernels.contains_key(&source.name());
        let kernel = self.kernel(&source)?;
        if !known {
            op.case(7)
                .check(&mut *self.driver, &source.name(), kernel, true)?;
        }
        Ok(kernel)
    }

    /// Memory whose content is `chunk` again and again.
    pub(crate) fn filled(&mut self, bytes: u64, chunk: &[u8]) -> Result<Buffer, GpuError> {
        let buffer = self.driver.alloc(bytes, Place::Device)?;
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(chunk.len() as u64);
            self.driver.write(buffer, at, &chunk[..n as usize])?;
            at += n;
        }
        Ok(buffer)
    }

    /// Median microseconds of a recording, replayed.
    pub(crate) fn time(&mut self, steps: &[Step], replays: usize) -> Result<f64, GpuError> {
        let recording = self.driver.record(steps)?;
        let mut times = Vec::new();
        for i in 0..replays + 2 {
            self.driver.replay(recording)?;
            self.driver.sync()?;
            let time = self.driver.elapsed();
            if i >= 2 {
                times.push(time.map_or(f64::NAN, |t| t.as_secs_f64() * 1e6));
            }
        }
        self.driver.forget(recording);
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    /// The best of a fixed read kernel's patterns: the ceiling of everything that follows.
    pub(crate) fn ceiling(&mut self) -> Outcome<()> {
        let bytes: u64 = 4 << 30;
        let mut dice = Dice(99);
        let chunk: Vec<u8> = (0..8 << 20)
            .flat_map(|_| dice.next().to_le_bytes())
            .collect();
        let bytes = bytes.min(self.driver.identity().binding_bytes_max / (1 << 20) * (1 << 20));
        let from = self.filled(bytes, &chunk)?;
        let out = self.driver.alloc(16, Place::Device)?;
        let units = self.driver.identity().units.max(132);
        for (threads, stripe, a_unit) in [
            (256, 0, 8),
            (256, 0, 16),
            (512, 16384, 1),
            (512, 16384, 2),
            (1024, 16384, 1),
            (1024, 32768, 2),
            (512, 8192, 4),
        ] {
            let source = Source {
                op: "read",
                wgsl: vec![READ_WGSL],
                hip: vec![onebit_kernels::gpu::ops::PORT, READ_HIP],
                defines: vec![("NT", threads), ("STRIPE", stripe)],
                tables: vec![],
                buffers: 2,
                args: 1,
            };
            let kernel = self.kernel(&source)?;
            let words = (bytes / 16) as u32;
            let step = Step::Launch(Launch {
                kernel,
                grid: [units * a_unit, 1, 1],
                buffers: vec![from, out],
                args: vec![words],
            });
            let us = self.time(&[step], 7)?;
            let rate = bytes as f64 / us * 1e6;
            self.ceiling = self.ceiling.max(rate);
            println!(
                "  read, {threads} threads, stripes of {} KB, {a_unit} workgroups a unit: {:.0} GB/s",
                stripe / 64,
                rate / 1e9
            );
        }
        self.driver.free(from);
        println!("read ceiling {:.0} GB/s", self.ceiling / 1e9);
        Ok(())
    }
}
