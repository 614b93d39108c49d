// Joins the chunks of a token's heads in order, divides by the sums, and writes the attended row. One workgroup a
// query head and token.
@group(0) @binding(0) var<storage, read> steps: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> states: array<f32>;
@group(0) @binding(2) var<storage, read_write> attended: array<f32>;

struct Args { chunks: u32 }
var<immediate> args: Args;

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x / GROUP;
  let r = group.x % GROUP;
  let token = group.y;
  let chunks = (steps[token].y + CHUNK) / CHUNK;
  let base = (token * KV_HEADS + head) * args.chunks;
  for (var i = thread; i < DIM; i += NT) {
    var largest = 0.0;
    var total = 0.0;
    var output = 0.0;
    for (var c = 0u; c < chunks; c++) {
      let state = (base + c) * GROUP * (DIM + 2u);
      let top = states[state + r];
      var both = top;
      var old = 0.0;
      if (c > 0u) {
        both = max(top, largest);
        old = expo(largest - both);
      }
      let fresh = expo(top - both);
      total = total * old + states[state + GROUP + r] * fresh;
      output = output * old + states[state + 2u * GROUP + r * DIM + i] * fresh;
      largest = both;
    }
    attended[token * (HEADS * DIM) + group.x * DIM + i] = output * divide(1.0, total);
  }
}
