// Logits of one prepared row: 32 rows of the table a wave, a lane a row, block by block in order, integer within a
// block.
@group(0) @binding(0) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> row_scales: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = group.x * NT + thread;
  let tile = row / 32u;
  let lane = row & 31u;
  if (row >= VOCABULARY) { return; }
  var y = 0.0;
  var pair = 0u;
  for (var block = 0u; block < BLOCKS; block++) {
    if ((block & 1u) == 0u) { pair = scales[(tile * SCALE_WORDS + block / 2u) * 32u + lane]; }
    let x = row_scales[group.y * BLOCKS + block];
    var sum = -ZERO * bitcast<i32>(x.y);
    for (var k = 0u; k < 8u; k++) {
      sum += dot4I8Packed(code_word((tile * BLOCKS + block) * 32u + lane, k), codes[(group.y * BLOCKS + block) * 8u + k]);
    }
    y = fused(f32(sum), half_value(pair >> (16u * (block & 1u))) * bitcast<f32>(x.x), y);
  }
  logits[group.y * VOCABULARY + row] = y;
}
