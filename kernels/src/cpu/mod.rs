//! The CPU kernels: each file holds one operation's scalar definition, its vector variants and the property
//! that ties them together. Which variant runs is decided once, when a model is loaded. Knows weights as
//! packed bytes and activations as rows of numbers; nothing of layers, tokens or files.

pub mod activation;
pub mod attention;
pub mod dense;
pub mod elementwise;
pub mod float_matrix;
pub mod hadamard;
pub mod head;
pub mod inputs;
pub mod norm;
pub mod packer;
pub mod rope;
pub mod scan;
pub(crate) mod shared;
pub mod ternary;

/// Instruction sets that variants are written for, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the definition.
    Scalar,
    /// AVX2 with FMA and F16C (every x86-64 server and desktop since 2013/2015).
    Avx2,
    /// AVX-512 F, BW, VL with VNNI.
    Avx512,
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx2 && avx512 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Scalar
    }

    /// The lower-case name, as shown by the doctor and the benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// The fastest of `variants` (slowest first, `[0]` scalar) that stays within `limit`.
pub(crate) fn pick<F: Copy>(variants: &[(Isa, F)], limit: Isa) -> F {
    let mut best = variants[0].1;
    for &(isa, kernel) in variants {
        if isa <= limit {
            best = kernel;
        }
    }
    best
}

/// Compiles one safe body for the baseline and for AVX2, so that the two are equal bit for bit by
/// construction: Rust never reorders floating-point operations, it only runs several lanes at once.
macro_rules! compiled_twice {
    ($(#[$doc:meta])* $vis:vis fn $variants:ident / $kind:ident = $body:ident($($arg:ident : $type:ty),* $(,)?)) => {
        $(#[$doc])*
        $vis type $kind = fn($($type),*);

        /// The variants this machine can run, slowest first.
        $vis fn $variants() -> Vec<($crate::cpu::Isa, $kind)> {
            fn scalar($($arg: $type),*) {
                $body($($arg),*);
            }
            let mut list: Vec<($crate::cpu::Isa, $kind)> = vec![($crate::cpu::Isa::Scalar, scalar)];
            #[cfg(target_arch = "x86_64")]
            if $crate::cpu::Isa::detect() >= $crate::cpu::Isa::Avx2 {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) {
                    $body($($arg),*);
                }
                // SAFETY: the features were detected on the line above.
                list.push(($crate::cpu::Isa::Avx2, |$($arg),*| unsafe { avx2($($arg),*) }));
            }
            list
        }
    };
}
pub(crate) use compiled_twice;
