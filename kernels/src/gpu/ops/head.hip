// Logits: see head.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ table, const u32* __restrict__ scales, const u32* __restrict__ codes,
                       const pair_u* __restrict__ row_scales, float* logits) {
  const u32 row = group_x() * NT + thread_id(), wanted = group_y(), tile = row / 32u, lane = row & 31u;
  if (row >= VOCABULARY) return;
  float y = 0.0f;
#pragma unroll 2
  for (u32 block = 0u; block < BLOCKS; block++) {
    const pair_u x = row_scales[wanted * BLOCKS + block];
    i32 sum = -ZERO * (i32)x.y;
#pragma unroll
    for (u32 k = 0u; k < 8u; k++)
      sum = dot4_signed(code_word(table, tile * BLOCKS + block, lane, k), codes[(wanted * BLOCKS + block) * 8u + k], sum);
    const u32 pair = scales[(tile * SCALE_WORDS + block / 2u) * 32u + lane];
    y = fused((float)sum, half_value(pair >> (16u * (block & 1u))) * as_float(x.x), y);
  }
  logits[wanted * VOCABULARY + row] = y;
}
