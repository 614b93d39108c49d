// Attention of one token's GROUP query heads on one KV head over one chunk of 256 positions. Keys and values are read
// once for all heads of the group. Tiles of 32 positions are softened in order, so that the numbers are those of
// cpu/attention.rs. Leaves the largest score, the sum of exponentials and the unnormalised output of each head.
@group(0) @binding(0) var<storage, read> steps: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> pages: array<u32>;
@group(0) @binding(2) var<storage, read> wide: array<f32>;
@group(0) @binding(3) var<storage, read> cache: array<u32>;
@group(0) @binding(4) var<storage, read_write> states: array<f32>;

struct Args { layer: u32, chunks: u32 }
var<immediate> args: Args;

const SIDE: u32 = 32u * DIM / PACK + SCALED * 32u;
const LEAST: f32 = -3.40282347e38;

var<workgroup> queries: array<f32, GROUP * DIM>;
var<workgroup> scores: array<f32, GROUP * 256u>;
var<workgroup> tile_pages: array<u32, 8>;
var<workgroup> largest: array<f32, GROUP * 8u>;
var<workgroup> shrink: array<f32, GROUP * 8u>;
var<workgroup> tile_sums: array<f32, GROUP * 8u>;

fn number(word: u32, i: u32) -> f32 {
  if (SCALED == 0u) { return half_value(word >> (16u * i)); }
  return f32(bitcast<i32>(word << (24u - 8u * i)) >> 24u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let chunk = group.x;
  let head = group.y;
  let token = group.z;
  let step = steps[token];
  let seen = step.y + 1u;
  if (chunk * 256u >= seen) { return; }
  let count = min(seen - chunk * 256u, 256u);
  let tiles = (count + 31u) / 32u;
  for (var i = thread; i < GROUP * DIM; i += 256u) {
    queries[i] = wide[token * ((HEADS + 2u * KV_HEADS) * DIM) + head * GROUP * DIM + i] * bitcast<f32>(SCALE);
  }
  if (thread < tiles) {
    tile_pages[thread] = pages[step.z + chunk * 8u + thread] * PAGE_WORDS + (args.layer * KV_HEADS + head) * 2u * SIDE;
  }
  workgroupBarrier();

  var s: array<f32, GROUP>;
  for (var r = 0u; r < GROUP; r++) { s[r] = 0.0; }
  if (thread < count) {
    let keys = tile_pages[thread >> 5u] + (thread & 31u);
    for (var w = 0u; w < DIM / PACK; w++) {
      let word = cache[keys + w * 32u];
      for (var i = 0u; i < PACK; i++) {
        let k = number(word, i);
        for (var r = 0u; r < GROUP; r++) { s[r] = fused(k, queries[r * DIM + w * PACK + i], s[r]); }
      }
    }
    if (SCALED == 1u) {
      let scale = bitcast<f32>(cache[tile_pages[thread >> 5u] + 32u * DIM / PACK + (thread & 31u)]);
      for (var r = 0u; r < GROUP; r++) { s[r] = s[r] * scale; }
    }
  }
  for (var r = 0u; r < GROUP; r++) { scores[r * 256u + thread] = select(LEAST, s[r], thread < count); }
  workgroupBarrier();

  for (var i = thread; i < GROUP * 8u; i += 256u) {
    var top = LEAST;
    for (var j = 0u; j < 32u; j++) { top = max(top, scores[i * 32u + j]); }
    largest[i] = top;
  }
  workgroupBarrier();
  if (thread < GROUP) {
    // The largest so far, tile by tile, and what the earlier output shrinks by when a larger one comes.
    var before = LEAST;
    for (var t = 0u; t < tiles; t++) {
      let top = max(before, largest[thread * 8u + t]);
      shrink[thread * 8u + t] = select(expo(before - top), 0.0, t == 0u);
      largest[thread * 8u + t] = top;
      before = top;
    }
  }
  workgroupBarrier();
  for (var r = 0u; r < GROUP; r++) {
    let at = r * 256u + thread;
    scores[at] = select(0.0, expo(scores[at] - largest[r * 8u + (thread >> 5u)]), thread < count);
  }
  workgroupBarrier();
  for (var i = thread; i < GROUP * 8u; i += 256u) {
    var sums: array<f32, 8>;
    for (var l = 0u; l < 8u; l++) {
      let at = i * 32u + l;
      sums[l] = ((scores[at] + scores[at + 8u]) + scores[at + 16u]) + scores[at + 24u];
    }
    tile_sums[i] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  }
  workgroupBarrier();

  let state = ((token * KV_HEADS + head) * args.chunks + chunk) * GROUP * (DIM + 2u);
  if (thread < GROUP) {
    var total = 0.0;
    for (var t = 0u; t < tiles; t++) { total = total * shrink[thread * 8u + t] + tile_sums[thread * 8u + t]; }
    states[state + thread] = largest[thread * 8u + tiles - 1u];
    states[state + GROUP + thread] = total;
  }
  for (var i = thread; i < GROUP * (DIM / PACK); i += 256u) {
    let r = i / (DIM / PACK);
    let w = i % (DIM / PACK);
    var o: array<f32, PACK>;
    for (var n = 0u; n < PACK; n++) { o[n] = 0.0; }
    for (var t = 0u; t < tiles; t++) {
      let values = tile_pages[t] + SIDE;
      let shrunk = shrink[r * 8u + t];
      if (t > 0u && shrunk != 1.0) {
        for (var n = 0u; n < PACK; n++) { o[n] = o[n] * shrunk; }
      }
      let in_tile = min(count - t * 32u, 32u);
      for (var j = 0u; j < in_tile; j++) {
        var weight = scores[r * 256u + t * 32u + j];
        if (SCALED == 1u) { weight = weight * bitcast<f32>(cache[values + 32u * DIM / PACK + j]); }
        let word = cache[values + j * (DIM / PACK) + w];
        for (var n = 0u; n < PACK; n++) { o[n] = fused(number(word, n), weight, o[n]); }
      }
    }
    for (var n = 0u; n < PACK; n++) { states[state + 2u * GROUP + r * DIM + w * PACK + n] = o[n]; }
  }
}
