//! Ten thousand damaged files: each is read or refused, in bounded time and memory.
//!
//! The starting points are the fuzzer's corpus. The generator is seeded, so a failure repeats.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onebit_kernels::format::h1b::{H1b, MATRICES, Norm};
use onebit_kernels::format::htok::Htok;
use onebit_kernels::format::safetensors::Safetensors;
use onebit_kernels::format::ternary::Row;
use onebit_kernels::format::{Gguf, Matrix, row};
use onebit_kernels::tokenizer::{Encode, Tokenizer};

/// Counts what is allocated and the highest it has been.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; the counters are no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Mutations of all starting points of one format together.
const CASES: usize = 10_000;
/// A parsed file may take this many times its size: a 13-byte entry becomes a key, a value and
/// slots in two growing tables; a token becomes an automaton's states.
const SIZE_CLASS: usize = 16;
/// For error messages, small tables and the test itself.
const ALLOWANCE: usize = 64 << 10;
/// Far above what any case takes, even on a busy machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(5);

/// Xorshift: the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers at which readers break.
const EXTREMES: [u64; 12] = [
    0,
    1,
    7,
    0x7f,
    0xff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    u64::MAX / 2,
    u64::MAX - 31,
    u64::MAX,
];

fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if file.is_empty() {
            return;
        }
        // Half of the damage goes to the first bytes, where the counts are.
        let end = if random.below(2) == 0 {
            file.len().min(256)
        } else {
            file.len()
        };
        let at = random.below(end);
        match random.below(8) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.next() as u8,
            2 => file.truncate(at),
            3 => {
                let width = [4, 8][random.below(2)];
                let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let end = file.len().min(at + width);
                file[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => {
                let end = file.len().min(at + 1 + random.below(32));
                file.drain(at..end);
            }
            5 => {
                let from = random.below(file.len());
                let piece = file[from..file.len().min(from + 1 + random.below(64))].to_vec();
                file.splice(at..at, piece);
            }
            6 => {
                let from = random.below(file.len());
                let length = (1 + random.below(16))
                    .min(file.len() - from)
                    .min(file.len() - at);
                file.copy_within(from..from + length, at);
            }
            _ => file.extend((0..random.below(64)).map(|_| 0xff)),
        }
    }
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a corpus entry").path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read(path).expect("a corpus file"),
            )
        })
        .collect()
}

fn read_gguf(bytes: Vec<u8>) -> bool {
    let length = bytes.len();
    let Ok(gguf) = Gguf::from_bytes(bytes) else {
        return false;
    };
    for info in gguf.tensors() {
        let tensor = gguf.tensor(&info.name).expect("a listed tensor");
        assert_eq!(tensor.data.len() as u64, info.bytes);
        if info.dims[0] <= 8 * length as u64
            && let Some(size) = info.kind.row_bytes(info.columns())
        {
            let _ = row::decode(
                info.kind,
                &tensor.data[..size],
                &mut vec![0.0; info.columns()],
            );
        }
    }
    for info in gguf.tensors() {
        if info.dims[0] <= 8 * length as u64
            && let Ok(matrix) = Matrix::open(&gguf, &info.name)
            && matrix.columns() <= 64 * length
        {
            let _ = matrix.decode_row(&info.name, 0, &mut vec![0.0; matrix.columns()]);
        }
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        let both = Encode {
            add_special: true,
            parse_special: true,
        };
        let ids = tokenizer.encode("Hello <|im_end|> wörld 42\n", both);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        tokenizer.decode(&ids);
    }
    true
}

fn read_h1b(bytes: Vec<u8>) -> bool {
    let Ok(h1b) = H1b::from_bytes(bytes) else {
        return false;
    };
    let mut row = Row::default();
    for layer in 0..h1b.header().layers {
        for norm in Norm::ALL {
            h1b.norm(layer, norm).expect("a norm of a checked file");
        }
        for which in 0..MATRICES.len() {
            let matrix = h1b
                .matrix(layer, which)
                .expect("a matrix of a checked file");
            let _ = matrix.read(matrix.rows() - 1, &mut row);
        }
    }
    !h1b.embedding().is_empty() && !h1b.final_norm().is_empty()
}

fn read_htok(bytes: Vec<u8>) -> bool {
    Htok::from_bytes(&bytes).is_ok_and(|file| file.merge_texts().len() == file.merges.len())
}

fn read_safetensors(bytes: Vec<u8>) -> bool {
    let Ok(file) = Safetensors::from_bytes(bytes) else {
        return false;
    };
    file.entries().all(|(name, _)| file.tensor(name).is_some())
}

/// Runs every case through `read`, which says whether the file was accepted.
#[expect(clippy::print_stdout, reason = "the counts are the test's report")]
fn survive(name: &str, cases: usize, read: impl Fn(Vec<u8>) -> bool) {
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "the corpus of {name} is empty");
    for (path, seed) in &seeds {
        // Also warms up what is built once, such as the table of character classes.
        assert!(
            read(seed.clone()),
            "{path} must be readable before it is damaged"
        );
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut worst) = (0, 0.0_f64);
    for case in 0..cases {
        let (path, seed) = &seeds[case % seeds.len()];
        let mut file = seed.clone();
        mutate(&mut file, &mut random);
        let length = file.len();
        let (before, start) = (NOW.load(Ordering::Relaxed), Instant::now());
        PEAK.store(before, Ordering::Relaxed);
        accepted += usize::from(read(file));
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        let limit = SIZE_CLASS * length + ALLOWANCE;
        worst = worst.max(peak as f64 / limit as f64);
        assert!(
            peak <= limit,
            "case {case} of {path}: {peak} bytes for a file of {length}"
        );
        assert!(
            start.elapsed() < PATIENCE,
            "case {case} of {path} took {:?}",
            start.elapsed()
        );
    }
    println!(
        "{name}: {cases} damaged files, {accepted} still readable, at most {:.0} % of the memory allowed",
        worst * 100.0
    );
    assert!(
        accepted > 0,
        "damage that always breaks the header tests nothing behind it"
    );
}

/// One test, as the allocator counts for the whole process.
#[test]
fn damaged_files_are_read_or_refused() {
    survive("gguf", CASES, read_gguf);
    survive("h1b", CASES, read_h1b);
    survive("htok", CASES, read_htok);
    survive("safetensors", CASES, read_safetensors);
}
