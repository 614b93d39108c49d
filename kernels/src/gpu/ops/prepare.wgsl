// A row for a ternary matrix: taken as it is or gated, normed, rotated, and quantised to int8 with one scale.
// One workgroup a token.
@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> row: array<f32>;
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> faults: array<u32>;

fn input(token: u32, i: u32) -> f32 {
  if (GATE == 0u) { return source[token * N + i]; }
  let gate = source[token * 2u * N + i];
  let up = source[token * 2u * N + N + i];
  if (GATE == 1u) { return divide(gate, 1.0 + expo(-gate)) * up; }
  let r = select(0.0, gate, gate > 0.0);
  return r * r * up;
}

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token = group.x;
  let base = token * N;
  var squares = vec2<f32>(0.0, 0.0);
  for (var i = thread; i < N; i += NT) {
    let v = input(token, i);
    row[base + i] = v;
    if (NORM == 1u) { squares = add_pairs(squares, vec2<f32>(v * v, 0.0)); }
  }
  if (NORM == 1u) {
    let scale = norm_scale(sum_of_all(squares, thread), f32(N), bitcast<f32>(EPS));
    for (var i = thread; i < N; i += NT) { row[base + i] = row[base + i] * scale * weight[i]; }
  }
  if (ROTATE > 0u) {
    for (var half = 1u; half < ROTATE; half = half * 2u) {
      storageBarrier();
      workgroupBarrier();
      for (var i = thread; i < N / 2u; i += NT) {
        let low = base + i / half * (2u * half) + i % half;
        let a = row[low];
        let b = row[low + half];
        row[low] = a + b;
        row[low + half] = a - b;
      }
    }
    storageBarrier();
    workgroupBarrier();
    for (var i = thread; i < N; i += NT) { row[base + i] = row[base + i] * bitcast<f32>(ROTATE_SCALE); }
  }
  storageBarrier();
  workgroupBarrier();
  var top = 0u;
  for (var i = thread; i < N; i += NT) { top = max(top, magnitude(row[base + i])); }
  top = top_of_all(top, thread);
  if (top >= 0x7f800000u) {
    if (thread == 0u) {
      faults[0] = 1u;
      for (var i = 0u; i < N; i++) {
        if (magnitude(row[base + i]) >= 0x7f800000u) { faults[1] = i; }
      }
    }
    top = 0u;
  }
  let scale = max(divide(bitcast<f32>(top), 127.0), 1e-8);
  var sum = 0;
  for (var word = thread; word < WORDS; word += NT) {
    var packed = 0u;
    for (var j = 0u; j < 4u; j++) {
      let i = word / 4u * 16u + 4u * j + word % 4u;
      if (i < N) {
        // Half away from zero.
        let q = divide(row[base + i], scale);
        let t = trunc(q);
        var r = t;
        if (abs(q - t) >= 0.5) { r = t + sign(q); }
        let code = i32(clamp(r, -127.0, 127.0));
        sum += code;
        packed |= (bitcast<u32>(code) & 255u) << (8u * j);
      }
    }
    codes[token * WORDS + word] = packed;
  }
  // At most 127 a column: exact in single precision up to 132,000 columns.
  let total = sum_of_all(vec2<f32>(f32(sum), 0.0), thread);
  if (thread == 0u) { scales[token] = vec2<u32>(bitcast<u32>(scale), bitcast<u32>(i32(total.x + total.y))); }
}
