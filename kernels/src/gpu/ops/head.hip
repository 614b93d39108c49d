// Logits: see head.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ table, const u32* __restrict__ scales, const u32* __restrict__ codes,
                       const pair_u* __restrict__ row_scales, float* logits) {
  begin();
  const u32 row = group_x() * NT + thread_id(), wanted = group_y(), tile = row / 32u, lane = row & 31u;
  if (row >= VOCABULARY) return;
  float y = 0.0f;
#pragma unroll 1
  for (u32 first = 0u; first < BLOCKS; first += AHEAD) {
    codes_t rows[AHEAD];
    u32 pairs[AHEAD];
#pragma unroll
    for (u32 a = 0u; a < AHEAD; a++) {
      const u32 block = smaller_u(first + a, BLOCKS - 1u);
      rows[a] = load_codes(table, tile * BLOCKS + block, lane);
      pairs[a] = stream(scales + (tile * SCALE_WORDS + block / 2u) * 32u + lane) >> (16u * (block & 1u));
    }
#pragma unroll
    for (u32 a = 0u; a < AHEAD; a++) {
      const u32 block = first + a;
      if (BLOCKS % AHEAD != 0u && block >= BLOCKS) break;
      const pair_u x = row_scales[wanted * BLOCKS + block];
      const word4* four = (const word4*)codes + (wanted * BLOCKS + block) * 2u;
      const word4 low = four[0], high = four[1];
      i32 sum = -ZERO * (i32)x.y;
      sum = dot4_signed(word_of(rows[a], 0u), low.x, sum);
      sum = dot4_signed(word_of(rows[a], 1u), low.y, sum);
      sum = dot4_signed(word_of(rows[a], 2u), low.z, sum);
      sum = dot4_signed(word_of(rows[a], 3u), low.w, sum);
      sum = dot4_signed(word_of(rows[a], 4u), high.x, sum);
      sum = dot4_signed(word_of(rows[a], 5u), high.y, sum);
      sum = dot4_signed(word_of(rows[a], 6u), high.z, sum);
      sum = dot4_signed(word_of(rows[a], 7u), high.w, sum);
      y = fused((float)sum, half_value(pairs[a]) * as_float(x.x), y);
    }
  }
  logits[wanted * VOCABULARY + row] = y;
}
