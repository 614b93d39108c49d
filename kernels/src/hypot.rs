//! `hypot` for the standard library's `asinh`, which the reader of kernel texts calls: glibc gave its own a new symbol
//! version in 2.35, and that one name would keep the program off every system with 2.34.

/// The length of (x, y), in place of the C library's.
// SAFETY: the C library's own signature and meaning; whoever else in this process asks for the name gets the same answer.
#[unsafe(no_mangle)]
extern "C" fn hypot(x: f64, y: f64) -> f64 {
    libm::hypot(x, y)
}

/// The same in single precision.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn hypotf(x: f32, y: f32) -> f32 {
    libm::hypotf(x, y)
}
