// x[token] = row `id` of the table. One workgroup a token.
@group(0) @binding(0) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> steps: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let id = steps[group.x].x;
  let tile = id / 32u;
  let lane = id % 32u;
  for (var quad = thread; quad < BLOCKS * 8u; quad += NT) {
    let block = quad / 8u;
    let k = quad % 8u;
    let scale = half_value(scales[(tile * SCALE_WORDS + block / 2u) * 32u + lane] >> (16u * (block & 1u)));
    let codes = code_word((tile * BLOCKS + block) * 32u + lane, k);
    let at = group.x * (BLOCKS * 32u) + quad * 4u;
    for (var j = 0u; j < 4u; j++) {
      x[at + j] = scale * f32((bitcast<i32>(codes << (24u - 8u * j)) >> 24u) - ZERO);
    }
  }
}
