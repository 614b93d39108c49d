//! The output head: the largest matrix of all, read once for every token.
//!
//! [`Head`] holds every row twice: four bits ([`int4`], 32 rows interleaved, scanned front to back) and eight
//! bits ([`int8`], each row contiguous). The eight-bit rows define the logits. A *full* scan reads them all; a
//! *two-step* scan reads the four-bit rows and then only those eight-bit rows that can still be among the best k.
//!
//! **Which rows can.** Let w be a row's eight-bit weights, v its four-bit ones, d = w − v, x the token's int8
//! activations and a its scale, n columns. The logits differ by a·⟨d, x⟩. Always |⟨d, x⟩| ≤ ‖d‖·‖x‖
//! ([`Bound::Proven`]), but that excludes almost no row, because d does not know x: d is what rounding left
//! over, its signs are as good as random, and so ⟨d, x⟩ has mean 0 and standard deviation σ = ‖d‖·‖x‖/√n (the
//! mean of d² times the sum of x²). [`Bound::Statistical`] allows 6 σ. Take the k rows with the best coarse
//! logits and score them exactly; their worst, t, is at most the true k-th best. Every row whose coarse logit
//! plus allowance reaches t is scored too.
//!
//! **How often it fails.** A true winner is lost only if its own error lies beyond −6 σ. As a sum of n
//! independent bounded terms it is normal to good approximation, so that is Q(6) = 1.0e-9 for each of the k
//! winners, and 1.3e-4 even if all 128,256 rows of a large vocabulary were at risk in one token, which they are
//! not: nearly all lie many σ below t. The assumption is weakest when a few activations carry most of ‖x‖ (fewer
//! effective terms, and σ depends on those columns' d); the tests measure it, and callers that need more than
//! the best k (top-p, log-probabilities) take the full scan.
//!
//! Knows nothing of vocabularies or sampling.

pub mod int4;
pub mod int8;
mod two_step;

pub use two_step::{Bound, Head};

/// Rounds values to multiples of their largest magnitude over `largest`: the codes, and the scale that is returned.
fn quantise(values: &[f32], largest: f32, codes: &mut [i8]) -> f32 {
    let max = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    // A row of zeros has scale 0 and codes 0.
    let inverse = if max > 0.0 { largest / max } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(values) {
        *code = (v * inverse).round().clamp(-largest, largest) as i8;
    }
    max / largest
}
