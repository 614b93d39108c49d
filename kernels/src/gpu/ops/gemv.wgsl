// Ternary matrices times int8 rows: one workgroup 32 rows of the stacked matrices, SPLIT slices of the columns,
// TOKENS tokens. A lane owns a row; sums are exact integers until the one final product of scales.
@group(0) @binding(0) var<storage, read> weights: array<WEIGHT>;
@group(0) @binding(1) var<storage, read> blocks: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

struct Args { tokens: u32, count: u32 }
var<immediate> args: Args;

var<workgroup> parts: array<array<i32, 32>, SPLIT * TOKENS>;

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread & 31u;
  let slice = thread >> 5u;
  let first = group.y * TOKENS;
  var sums: array<i32, TOKENS>;
  for (var t = 0u; t < TOKENS; t++) { sums[t] = 0; }
  for (var step = slice; step < STEPS; step += SPLIT) {
    let w = load_step(group.x, step, lane);
    for (var t = 0u; t < TOKENS; t++) {
      let token = min(first + t, args.tokens - 1u);
      sums[t] += dot_step(w, token * (WORDS / 4u) + step * STEP_WORDS);
    }
  }
  for (var t = 0u; t < TOKENS; t++) { parts[slice * TOKENS + t][lane] = sums[t]; }
  workgroupBarrier();
  let block = blocks[group.x];
  for (var i = thread; i < 32u * TOKENS; i += NT) {
    let r = i & 31u;
    let t = i >> 5u;
    var sum = 0;
    for (var s = 0u; s < SPLIT; s++) { sum += parts[s * TOKENS + t][r]; }
    let token = first + t;
    if (token < args.tokens && r < block.y) {
      let x = scales[token];
      let value = f32(sum - bitcast<i32>(x.y)) * (bitcast<f32>(x.x) * bitcast<f32>(block.z));
      let at = token * ROWS + block.x + r;
      if (ADD == 1u) { y[at] = y[at] + value; } else { y[at] = value; }
    }
  }
}
