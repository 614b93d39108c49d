// What ops on whole rows share: sums and maxima over the NT threads of a workgroup.

var<workgroup> sums: array<vec2<f32>, NT>;
var<workgroup> tops: array<u32, NT>;

// The sum of all threads' pairs (number, error), accurate to about 2^-45.
fn sum_of_all(mine: vec2<f32>, thread: u32) -> vec2<f32> {
  sums[thread] = mine;
  workgroupBarrier();
  for (var half = NT / 2u; half > 0u; half = half / 2u) {
    if (thread < half) { sums[thread] = add_pairs(sums[thread], sums[thread + half]); }
    workgroupBarrier();
  }
  let total = sums[0];
  workgroupBarrier();
  return total;
}

fn add_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let s = two_sum(a.x, b.x);
  return vec2<f32>(s.x, s.y + (a.y + b.y));
}

// The largest of all threads' numbers. Bits of magnitudes order like the numbers, infinities and NaNs last.
fn top_of_all(mine: u32, thread: u32) -> u32 {
  tops[thread] = mine;
  workgroupBarrier();
  for (var half = NT / 2u; half > 0u; half = half / 2u) {
    if (thread < half) { tops[thread] = max(tops[thread], tops[thread + half]); }
    workgroupBarrier();
  }
  let top = tops[0];
  workgroupBarrier();
  return top;
}

fn magnitude(x: f32) -> u32 {
  return bitcast<u32>(x) & 0x7fffffffu;
}

// 1 / sqrt(mean + eps) from a sum of n squares.
fn norm_scale(total: vec2<f32>, n: f32, eps: f32) -> f32 {
  let whole = two_sum(total.x, total.y);
  var mean = whole.x / n;
  let p = two_product(mean, n);
  if (whole.x < 1e30) { mean = mean + (((whole.x - p.x) - p.y) + whole.y) / n; }
  return divide(1.0, root(mean + eps));
}
