// Rotates queries in place, rotates keys, and appends keys and values to the paged cache. One workgroup a KV head
// and token. A page's side holds keys as [DIM / PACK][32 positions] words of PACK neighbouring dimensions, values as
// [32 positions][DIM / PACK]; int8 sides end in 32 scales.
@group(0) @binding(0) var<storage, read> steps: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> wide: array<f32>;
@group(0) @binding(4) var<storage, read_write> cache: array<u32>;

struct Args { layer: u32 }
var<immediate> args: Args;

const SIDE: u32 = 32u * DIM / PACK + SCALED * 32u;

// Value d of the head at `base`, rotated.
fn turned(base: u32, token: u32, d: u32) -> f32 {
  let x = wide[base + d];
  if (d >= 2u * PAIRS) { return x; }
  var pair = d / 2u;
  var first = (d & 1u) == 0u;
  var other = base + (d ^ 1u);
  if (SPLIT_HALF == 1u) {
    pair = d % PAIRS;
    first = d < PAIRS;
    other = base + (d + PAIRS) % (2u * PAIRS);
  }
  let y = wide[other];
  let turn = angles[token * PAIRS + pair];
  return select(y * turn.y + x * turn.x, x * turn.x - y * turn.y, first);
}

fn word_of(values: array<f32, 4>, scale: f32) -> u32 {
  var v = values;
  if (SCALED == 0u) { return half_bits(v[0]) | (half_bits(v[1]) << 16u); }
  var word = 0u;
  for (var i = 0u; i < 4u; i++) {
    var code = 0;
    if (scale != 0.0) { code = nearest(divide(v[i], scale)); }
    word |= (bitcast<u32>(code) & 255u) << (8u * i);
  }
  return word;
}

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x;
  let token = group.y;
  let row = token * ((HEADS + 2u * KV_HEADS) * DIM);
  let step = steps[token];
  let key = row + (HEADS + head) * DIM;
  let value = key + KV_HEADS * DIM;
  let page = pages[step.z + step.y / 32u];
  let slot = step.y % 32u;
  let side = page * PAGE_WORDS + (args.layer * KV_HEADS + head) * 2u * SIDE;
  var key_scale = 0.0;
  var value_scale = 0.0;
  if (SCALED == 1u) {
    var tops = vec2<u32>(0u, 0u);
    for (var d = thread; d < DIM; d += NT) {
      tops = max(tops, vec2<u32>(magnitude(turned(key, token, d)), magnitude(wide[value + d])));
    }
    key_scale = divide(bitcast<f32>(top_of_all(tops.x, thread)), 127.0);
    value_scale = divide(bitcast<f32>(top_of_all(tops.y, thread)), 127.0);
    if (thread == 0u) {
      cache[side + 32u * DIM / PACK + slot] = bitcast<u32>(key_scale);
      cache[side + SIDE + 32u * DIM / PACK + slot] = bitcast<u32>(value_scale);
    }
  }
  for (var w = thread; w < DIM / PACK; w += NT) {
    var k: array<f32, 4>;
    var v: array<f32, 4>;
    for (var i = 0u; i < PACK; i++) {
      k[i] = turned(key, token, w * PACK + i);
      v[i] = wide[value + w * PACK + i];
    }
    cache[side + w * 32u + slot] = word_of(k, key_scale);
    cache[side + SIDE + slot * (DIM / PACK) + w] = word_of(v, value_scale);
  }
  // Both values of a pair at once, for they are rotated in place.
  for (var i = thread; i < GROUP * PAIRS; i += NT) {
    let base = row + (head * GROUP + i / PAIRS) * DIM;
    let pair = i % PAIRS;
    let a_at = base + select(2u * pair, pair, SPLIT_HALF == 1u);
    let b_at = base + select(2u * pair + 1u, pair + PAIRS, SPLIT_HALF == 1u);
    let turn = angles[token * PAIRS + pair];
    let a = wide[a_at];
    let b = wide[b_at];
    wide[a_at] = a * turn.x - b * turn.y;
    wide[b_at] = a * turn.y + b * turn.x;
  }
}
