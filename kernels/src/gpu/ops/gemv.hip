// Ternary matrices times int8 rows: see gemv.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ weights, const u32* __restrict__ blocks, const word4* __restrict__ codes,
                       const pair_u* __restrict__ scales, float* y, u32 tokens) {
  SHARED i32 parts[SPLIT * TOKENS][32];
  const u32 thread = thread_id(), lane = thread & 31u, slice = uniform(thread >> 5);
  const u32 block = group_x(), first = group_y() * TOKENS;
  sums_t sums[TOKENS];
#pragma unroll
  for (u32 t = 0u; t < TOKENS; t++) clear(&sums[t]);
#if TOKENS == 1u
#pragma unroll 2
#else
#pragma unroll 1
#endif
  for (u32 step = slice; step < STEPS; step += SPLIT) {
    weight_t w = load_step(weights, block, step, lane);
#pragma unroll
    for (u32 t = 0u; t < TOKENS; t++) {
      u32 token = smaller_u(first + t, tokens - 1u);
      dot_step(&sums[t], w, codes + token * (WORDS / 4u) + step * STEP_WORDS);
      // One token's activations at a time, or they do not fit into the scalar registers.
      if (TOKENS > 1u) in_order();
    }
  }
#pragma unroll
  for (u32 t = 0u; t < TOKENS; t++) parts[slice * TOKENS + t][lane] = total(sums[t]);
  barrier();
  const u32 first_row = blocks[block * 4u], rows = blocks[block * 4u + 1u];
  const float scale = as_float(blocks[block * 4u + 2u]);
  for (u32 i = thread; i < 32u * TOKENS; i += NT) {
    const u32 r = i & 31u, t = i >> 5, token = first + t;
    i32 sum = 0;
#pragma unroll
    for (u32 s = 0u; s < SPLIT; s++) sum += parts[s * TOKENS + t][r];
    if (token < tokens && r < rows) {
      pair_u x = scales[token];
      float value = (float)(sum - (i32)x.y) * (as_float(x.x) * scale);
      float* to = y + token * ROWS + first_row + r;
      *to = ADD ? *to + value : value;
    }
  }
}
