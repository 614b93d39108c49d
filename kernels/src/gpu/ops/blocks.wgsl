// The final norm of a wanted row and its quantisation in blocks of 32 columns, for the head. One workgroup a row.
@group(0) @binding(0) var<storage, read> wanted: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<vec2<u32>>;

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let base = wanted[group.x] * N;
  var squares = vec2<f32>(0.0, 0.0);
  for (var i = thread; i < N; i += NT) {
    let v = x[base + i];
    squares = add_pairs(squares, vec2<f32>(v * v, 0.0));
  }
  let scale = norm_scale(sum_of_all(squares, thread), f32(N), bitcast<f32>(EPS));
  for (var block = thread; block < N / 32u; block += NT) {
    let first = block * 32u;
    var top = 0u;
    for (var i = 0u; i < 32u; i++) { top = max(top, magnitude(x[base + first + i] * scale * weight[first + i])); }
    let largest = bitcast<f32>(top);
    var inverse = 0.0;
    if (largest >= 1e-30) { inverse = divide(127.0, largest); }
    var sum = 0;
    for (var word = 0u; word < 8u; word++) {
      var packed = 0u;
      for (var j = 0u; j < 4u; j++) {
        let i = first + 4u * word + j;
        let code = nearest(x[base + i] * scale * weight[i] * inverse);
        sum += code;
        packed |= (bitcast<u32>(code) & 255u) << (8u * j);
      }
      codes[group.x * (N / 4u) + block * 8u + word] = packed;
    }
    let step = half_value(half_bits(divide(largest, 127.0)));
    scales[group.x * (N / 32u) + block] = vec2<u32>(bitcast<u32>(step), bitcast<u32>(sum));
  }
}
