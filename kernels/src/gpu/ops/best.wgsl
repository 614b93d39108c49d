// The KEEP best of each SPAN numbers, best first, equal ones by rising index. The first round reads all logits of a
// row (FIRST), later rounds the (number, index) pairs of the round before.
@group(0) @binding(0) var<storage, read> numbers: array<f32>;
@group(0) @binding(1) var<storage, read> pairs: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>;

struct Args { count: u32 }
var<immediate> args: Args;

const NONE: u32 = 0xffffffffu;
const LEAST: f32 = -3.40282347e38;

var<workgroup> values: array<f32, NT>;
var<workgroup> places: array<u32, NT>;

// Whether (a, i) comes before (b, j).
fn before(a: f32, i: u32, b: f32, j: u32) -> bool {
  return i != NONE && (j == NONE || a > b || (a == b && i < j));
}

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * SPAN;
  let last = min(first + SPAN, args.count);
  var taken_value = 0.0;
  var taken = NONE;
  for (var k = 0u; k < KEEP; k++) {
    var value = LEAST;
    var place = NONE;
    for (var i = first + thread; i < last; i += NT) {
      var v = 0.0;
      var at = i;
      if (FIRST == 1u) {
        v = numbers[group.y * args.count + i];
      } else {
        let pair = pairs[group.y * args.count + i];
        v = bitcast<f32>(pair.x);
        at = pair.y;
      }
      let finite = (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
      if (finite && at != NONE && (k == 0u || before(taken_value, taken, v, at)) && before(v, at, value, place)) {
        value = v;
        place = at;
      }
    }
    values[thread] = value;
    places[thread] = place;
    workgroupBarrier();
    for (var half = NT / 2u; half > 0u; half = half / 2u) {
      if (thread < half && before(values[thread + half], places[thread + half], values[thread], places[thread])) {
        values[thread] = values[thread + half];
        places[thread] = places[thread + half];
      }
      workgroupBarrier();
    }
    taken_value = values[0];
    taken = places[0];
    workgroupBarrier();
    if (thread == 0u) {
      best[(group.y * groups.x + group.x) * KEEP + k] = vec2<u32>(bitcast<u32>(taken_value), taken);
    }
    // Nothing is left: the rest stays empty.
    if (taken == NONE) { taken_value = LEAST; }
  }
}
