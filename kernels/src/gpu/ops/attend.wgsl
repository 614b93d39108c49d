// Attention of one token's GROUP query heads on one KV head over one chunk of CHUNK positions. Keys and values are fetched
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
const TILES: u32 = CHUNK / 32u;
const LEAST: f32 = -3.40282347e38;

var<workgroup> queries: array<f32, GROUP * DIM>;
var<workgroup> scores: array<f32, GROUP * CHUNK>;
var<workgroup> tile_pages: array<u32, TILES>;
var<workgroup> largest: array<f32, GROUP * TILES>;
var<workgroup> shrink: array<f32, GROUP * TILES>;
var<workgroup> tile_sums: array<f32, GROUP * TILES>;

fn number(word: u32, i: u32) -> f32 {
  if (SCALED == 0u) { return half_value(word >> (16u * i)); }
  return f32(bitcast<i32>(word << (24u - 8u * i)) >> 24u);
}

@compute @workgroup_size(NT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let chunk = group.x;
  let head = group.y;
  let token = group.z;
  let step = steps[token];
  let seen = step.y + 1u;
  if (chunk * CHUNK >= seen) { return; }
  let count = min(seen - chunk * CHUNK, CHUNK);
  let tiles = (count + 31u) / 32u;
  for (var i = thread; i < GROUP * DIM; i += NT) {
    queries[i] = wide[token * ((HEADS + 2u * KV_HEADS) * DIM) + head * GROUP * DIM + i] * bitcast<f32>(SCALE);
  }
  if (thread < tiles) {
    tile_pages[thread] = pages[step.z + chunk * TILES + thread] * PAGE_WORDS + (args.layer * KV_HEADS + head) * 2u * SIDE;
  }
  workgroupBarrier();

  for (var i = thread; i < GROUP * CHUNK; i += NT) {
    let r = i / CHUNK;
    let position = i % CHUNK;
    var s = LEAST;
    if (position < count) {
      let keys = tile_pages[position >> 5u] + (position & 31u);
      s = 0.0;
      for (var w = 0u; w < DIM / PACK; w++) {
        let word = cache[keys + w * 32u];
        for (var n = 0u; n < PACK; n++) { s = fused(number(word, n), queries[r * DIM + w * PACK + n], s); }
      }
      if (SCALED == 1u) { s = s * bitcast<f32>(cache[keys + 32u * DIM / PACK]); }
    }
    scores[i] = s;
  }
  workgroupBarrier();

  for (var i = thread; i < GROUP * TILES; i += NT) {
    var top = LEAST;
    for (var j = 0u; j < 32u; j++) { top = max(top, scores[i * 32u + j]); }
    largest[i] = top;
  }
  workgroupBarrier();
  if (thread < GROUP) {
    // The largest so far, tile by tile, and what the earlier output shrinks by when a larger one comes.
    var before = LEAST;
    for (var t = 0u; t < tiles; t++) {
      let top = max(before, largest[thread * TILES + t]);
      shrink[thread * TILES + t] = select(expo(before - top), 0.0, t == 0u);
      largest[thread * TILES + t] = top;
      before = top;
    }
  }
  workgroupBarrier();
  for (var i = thread; i < GROUP * CHUNK; i += NT) {
    scores[i] = select(0.0, expo(scores[i] - largest[i / 32u]), i % CHUNK < count);
  }
  workgroupBarrier();
  for (var i = thread; i < GROUP * TILES; i += NT) {
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
    for (var t = 0u; t < tiles; t++) { total = total * shrink[thread * TILES + t] + tile_sums[thread * TILES + t]; }
    states[state + thread] = largest[thread * TILES + tiles - 1u];
    states[state + GROUP + thread] = total;
  }
  for (var i = thread; i < GROUP * (DIM / PACK); i += NT) {
    let r = i / (DIM / PACK);
    let w = i % (DIM / PACK);
    var o: array<f32, PACK>;
    for (var n = 0u; n < PACK; n++) { o[n] = 0.0; }
    for (var t = 0u; t < tiles; t++) {
      let values = tile_pages[t] + SIDE;
      let shrunk = shrink[r * TILES + t];
      if (t > 0u && shrunk != 1.0) {
        for (var n = 0u; n < PACK; n++) { o[n] = o[n] * shrunk; }
      }
      let in_tile = min(count - t * 32u, 32u);
      for (var j = 0u; j < in_tile; j++) {
        var weight = scores[r * CHUNK + t * 32u + j];
        if (SCALED == 1u) { weight = weight * bitcast<f32>(cache[values + 32u * DIM / PACK + j]); }
        let word = cache[values + j * (DIM / PACK) + w];
        for (var n = 0u; n < PACK; n++) { o[n] = fused(number(word, n), weight, o[n]); }
      }
    }
    for (var n = 0u; n < PACK; n++) { states[state + 2u * GROUP + r * DIM + w * PACK + n] = o[n]; }
  }
}
