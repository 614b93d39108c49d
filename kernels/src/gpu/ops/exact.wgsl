// Arithmetic in single precision that comes out alike on every device, and as the processor's.
// Additions and multiplications are never contracted or reordered (the compiler marks them so); divisions and
// roots are corrected by the exact remainder, because drivers may be a few units off.

fn two_sum(a: f32, b: f32) -> vec2<f32> {
  let s = a + b;
  let t = s - a;
  return vec2<f32>(s, (a - (s - t)) + (b - t));
}

// The product and its rounding error, by splitting both factors into halves of 12 bits.
fn two_product(a: f32, b: f32) -> vec2<f32> {
  let p = a * b;
  let ca = 4097.0 * a;
  let cb = 4097.0 * b;
  let ah = ca - (ca - a);
  let bh = cb - (cb - b);
  let al = a - ah;
  let bl = b - bh;
  return vec2<f32>(p, (((ah * bh - p) + ah * bl) + al * bh) + al * bl);
}

// a + b rounded to odd: rounding it once more gives what one rounding of the exact sum gives.
fn odd_sum(a: f32, b: f32) -> f32 {
  let s = two_sum(a, b);
  let bits = bitcast<u32>(s.x);
  if (s.y == 0.0 || (bits & 1u) == 1u) { return s.x; }
  let up = (s.y > 0.0) == (s.x > 0.0);
  return bitcast<f32>(select(bits - 1u, bits + 1u, up));
}

// a * b + c with one rounding; FUSED says that the device's own does that.
fn fused(a: f32, b: f32, c: f32) -> f32 {
  if (FUSED == 1u) { return fma(a, b, c); }
  let p = two_product(a, b);
  let t = two_sum(c, p.y);
  let v = two_sum(p.x, t.x);
  return v.x + odd_sum(t.y, v.y);
}

fn divide(a: f32, b: f32) -> f32 {
  let q = a / b;
  // Beyond this the halves of two_product overflow.
  if (!(abs(a) < 1e30) || abs(b) > 1e30) { return q; }
  let p = two_product(q, b);
  return q + ((a - p.x) - p.y) / b;
}

fn root(x: f32) -> f32 {
  let s = sqrt(x);
  if (!(s > 0.0) || s > 1e15) { return s; }
  let p = two_product(s, s);
  return s + ((x - p.x) - p.y) / (2.0 * s);
}

// e^x by the polynomial of cpu/elementwise.rs.
fn expo(y: f32) -> f32 {
  let x = min(y, 88.0);
  let clamped = max(x, -87.0);
  let shifted = clamped * 1.44269504088896341 + 12582912.0;
  let n = shifted - 12582912.0;
  let r0 = clamped - n * 0.693359375;
  let r = r0 - n * -2.12194440e-4;
  var p = 1.38888890e-3;
  p = p * r + 8.33333400e-3;
  p = p * r + 4.16666680e-2;
  p = p * r + 0.16666667;
  p = p * r + 0.5;
  p = p * r * r + r + 1.0;
  let power = bitcast<f32>((bitcast<u32>(shifted) << 23u) + 0x3f800000u);
  return select(p * power, 0.0, x < -87.0);
}

// Nearest integer, ties to even, for magnitudes below 2^22.
fn nearest(x: f32) -> i32 {
  return bitcast<i32>(x + 12582912.0) - 0x4b400000;
}

// The nearest half-precision number, ties to even, as its bits.
fn half_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let a = bits & 0x7fffffffu;
  if (a > 0x7f800000u) { return sign | 0x7e00u; }
  if (a >= 0x47800000u) { return sign | 0x7c00u; }
  // Below 2^-14 the steps are 2^-24, which is the last place of numbers from 0.5 on.
  if (a < 0x38800000u) { return sign | (bitcast<u32>(bitcast<f32>(a) + 0.5) - 0x3f000000u); }
  return sign | (((a + 0xfffu + ((a >> 13u) & 1u)) >> 13u) - 0x1c000u);
}

fn half_value(bits: u32) -> f32 {
  return unpack2x16float(bits).x;
}
