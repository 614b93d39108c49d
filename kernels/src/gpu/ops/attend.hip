// Attention over a chunk of 256 positions: see attend.wgsl.
#define SIDE (32u * DIM / PACK + SCALED * 32u)
#define LEAST -3.40282347e38f

DEVICE float number(u32 word, u32 i) {
  return SCALED ? (float)((i32)(word << (24u - 8u * i)) >> 24) : half_value(word >> (16u * i));
}

KERNEL(256) main_kernel(const u32* __restrict__ steps, const u32* __restrict__ pages, const float* __restrict__ wide,
                        const u32* __restrict__ cache, float* states, u32 layer, u32 chunks) {
  SHARED float queries[GROUP * DIM], scores[GROUP * 256u], largest[GROUP * 8u], shrink[GROUP * 8u], tile_sums[GROUP * 8u];
  SHARED u32 tile_pages[8];
  const u32 thread = thread_id(), chunk = group_x(), head = group_y(), token = group_z();
  const u32 seen = steps[token * 4u + 1u] + 1u;
  if (chunk * 256u >= seen) return;
  const u32 count = smaller_u(seen - chunk * 256u, 256u), tiles = (count + 31u) / 32u;
  for (u32 i = thread; i < GROUP * DIM; i += 256u)
    queries[i] = wide[token * ((HEADS + 2u * KV_HEADS) * DIM) + head * GROUP * DIM + i] * as_float(SCALE);
  if (thread < tiles)
    tile_pages[thread] = pages[steps[token * 4u + 2u] + chunk * 8u + thread] * PAGE_WORDS + (layer * KV_HEADS + head) * 2u * SIDE;
  barrier();

  float s[GROUP];
#pragma unroll
  for (u32 r = 0u; r < GROUP; r++) s[r] = 0.0f;
  if (thread < count) {
    const u32* keys = cache + tile_pages[thread >> 5] + (thread & 31u);
#pragma unroll 4
    for (u32 w = 0u; w < DIM / PACK; w++) {
      const u32 word = keys[w * 32u];
#pragma unroll
      for (u32 i = 0u; i < PACK; i++) {
        const float k = number(word, i);
#pragma unroll
        for (u32 r = 0u; r < GROUP; r++) s[r] = fused(k, queries[r * DIM + w * PACK + i], s[r]);
      }
    }
    if (SCALED) {
      const float scale = as_float(keys[32u * DIM / PACK]);
#pragma unroll
      for (u32 r = 0u; r < GROUP; r++) s[r] = s[r] * scale;
    }
  }
#pragma unroll
  for (u32 r = 0u; r < GROUP; r++) scores[r * 256u + thread] = thread < count ? s[r] : LEAST;
  barrier();

  for (u32 i = thread; i < GROUP * 8u; i += 256u) {
    float top = LEAST;
    for (u32 j = 0u; j < 32u; j++) top = larger(top, scores[i * 32u + j]);
    largest[i] = top;
  }
  barrier();
  if (thread < GROUP) {
    float before = LEAST;
    for (u32 t = 0u; t < tiles; t++) {
      const float top = larger(before, largest[thread * 8u + t]);
      shrink[thread * 8u + t] = t == 0u ? 0.0f : expo(before - top);
      largest[thread * 8u + t] = top;
      before = top;
    }
  }
  barrier();
#pragma unroll
  for (u32 r = 0u; r < GROUP; r++) {
    const u32 at = r * 256u + thread;
    scores[at] = thread < count ? expo(scores[at] - largest[r * 8u + (thread >> 5)]) : 0.0f;
  }
  barrier();
  for (u32 i = thread; i < GROUP * 8u; i += 256u) {
    float sums[8];
#pragma unroll
    for (u32 l = 0u; l < 8u; l++) {
      const u32 at = i * 32u + l;
      sums[l] = ((scores[at] + scores[at + 8u]) + scores[at + 16u]) + scores[at + 24u];
    }
    tile_sums[i] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  }
  barrier();

  float* state = states + ((token * KV_HEADS + head) * chunks + chunk) * GROUP * (DIM + 2u);
  if (thread < GROUP) {
    float total = 0.0f;
    for (u32 t = 0u; t < tiles; t++) total = total * shrink[thread * 8u + t] + tile_sums[thread * 8u + t];
    state[thread] = largest[thread * 8u + tiles - 1u];
    state[GROUP + thread] = total;
  }
  for (u32 i = thread; i < GROUP * (DIM / PACK); i += 256u) {
    const u32 r = i / (DIM / PACK), w = i % (DIM / PACK);
    float o[PACK];
#pragma unroll
    for (u32 n = 0u; n < PACK; n++) o[n] = 0.0f;
    for (u32 t = 0u; t < tiles; t++) {
      const u32* values = cache + tile_pages[t] + SIDE;
      const float shrunk = shrink[r * 8u + t];
      if (t > 0u && shrunk != 1.0f) {
#pragma unroll
        for (u32 n = 0u; n < PACK; n++) o[n] = o[n] * shrunk;
      }
      const u32 in_tile = smaller_u(count - t * 32u, 32u);
#pragma unroll 4
      for (u32 j = 0u; j < in_tile; j++) {
        float weight = scores[r * 256u + t * 32u + j];
        if (SCALED) weight = weight * as_float(values[32u * DIM / PACK + j]);
        const u32 word = values[j * (DIM / PACK) + w];
#pragma unroll
        for (u32 n = 0u; n < PACK; n++) o[n] = fused(number(word, n), weight, o[n]);
      }
    }
#pragma unroll
    for (u32 n = 0u; n < PACK; n++) state[2u * GROUP + r * DIM + w * PACK + n] = o[n];
  }
}
