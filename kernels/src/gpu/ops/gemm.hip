// Ternary matrices times many int8 rows on matrix units: a wave has 32 rows and COLUMNS tokens, WAVES of them share the
// tokens' codes. Weights and codes come to shared memory RUN steps at a time, a few stages ahead. The order of columns
// within a step is that of the packed words, for weights and codes alike: sums are integers, so it does not matter.
#define TILE_WORDS (STEP_WORDS * 4u)
#define CODE_FETCHES (COLUMNS * STEP_WORDS)
#define WEIGHT_FETCHES (STEP_BYTES / 16u)
#define STAGE_FETCHES (RUN * (WAVES * WEIGHT_FETCHES + CODE_FETCHES))

KERNEL(NT) main_kernel(const u32* __restrict__ weights, const u32* __restrict__ blocks, const word4* __restrict__ codes,
                       const pair_u* __restrict__ scales, float* y, u32 tokens, u32 count) {
  DYNAMIC_SHARED word4 held[];
  const u32 thread = thread_id(), lane = thread & 31u, row = lane / 4u, quad = lane % 4u;
  const u32 wave = thread >> 5, block = smaller_u(group_x() * WAVES + wave, count - 1u), first = group_y() * COLUMNS;
  i32 sums[2][COLUMNS / 8u][4];
#pragma unroll
  for (u32 m = 0u; m < 2u; m++)
#pragma unroll
    for (u32 n = 0u; n < COLUMNS / 8u; n++)
#pragma unroll
      for (u32 i = 0u; i < 4u; i++) sums[m][n][i] = 0;
  auto fetch_weights = [&](u32 run) {
    for (u32 r = 0u; r < RUN; r++) {
      const u32 step = run * RUN + r;
      word4* to = held + run % STAGES * STAGE_FETCHES + (r * WAVES + wave) * WEIGHT_FETCHES;
      const word4* from = (const word4*)weights + (u64)(block * STEPS + step) * WEIGHT_FETCHES;
      if (step < STEPS)
        for (u32 i = lane; i < WEIGHT_FETCHES; i += 32u) copy_ahead(to + i, from + i);
    }
  };
  auto fetch_codes = [&](u32 run) {
    for (u32 r = 0u; r < RUN; r++) {
      const u32 step = run * RUN + r;
      word4* to = held + run % STAGES * STAGE_FETCHES + RUN * WAVES * WEIGHT_FETCHES + r * CODE_FETCHES;
      if (step < STEPS)
        for (u32 i = thread; i < CODE_FETCHES; i += NT) {
          const u32 token = smaller_u(first + i / STEP_WORDS, tokens - 1u);
          copy_ahead(to + i, codes + token * (WORDS / 4u) + step * STEP_WORDS + i % STEP_WORDS);
        }
    }
    end_copies();
  };
  let_next();
  for (u32 run = 0u; run < STAGES - 1u; run++) fetch_weights(run);
  after_previous();
  for (u32 run = 0u; run < STAGES - 1u; run++) fetch_codes(run);
  for (u32 run = 0u; run * RUN < STEPS; run++) {
    wait_copies<STAGES - 2u>();
    barrier();
    fetch_weights(run + STAGES - 1u);
    fetch_codes(run + STAGES - 1u);
#pragma unroll
    for (u32 r = 0u; r < RUN; r++) {
      if (STEPS % RUN != 0u && run * RUN + r >= STEPS) break;
      const word4* stage = held + run % STAGES * STAGE_FETCHES;
      const u32* mine = (const u32*)(stage + (r * WAVES + wave) * WEIGHT_FETCHES);
      const u32* tile = (const u32*)(stage + RUN * WAVES * WEIGHT_FETCHES + r * CODE_FETCHES);
      u32 a[4][LANE_WORDS];
#pragma unroll
      for (u32 m = 0u; m < 4u; m++) lane_words(held_lane(mine, row + 8u * m, quad), quad, a[m]);
#pragma unroll
      for (u32 n = 0u; n < COLUMNS / 8u; n++) {
        u32 b[LANE_WORDS];
        read_words(tile + (n * 8u + row) * TILE_WORDS, quad, b);
#pragma unroll
        for (u32 i = 0u; i < LANE_WORDS; i += 2u)
#pragma unroll
          for (u32 m = 0u; m < 2u; m++)
            multiply_tile(sums[m][n], a[2u * m][i], a[2u * m + 1u][i], a[2u * m][i + 1u], a[2u * m + 1u][i + 1u], b[i], b[i + 1u]);
      }
    }
  }
  if (group_x() * WAVES + wave >= count) return;
  const u32 first_row = blocks[block * 4u], rows = blocks[block * 4u + 1u];
  const float scale = as_float(blocks[block * 4u + 2u]);
#pragma unroll
  for (u32 n = 0u; n < COLUMNS / 8u; n++)
#pragma unroll
    for (u32 j = 0u; j < 2u; j++) {
      const u32 token = first + n * 8u + quad * 2u + j;
      if (token >= tokens) continue;
      const pair_u x = scales[token];
      const float factor = as_float(x.x) * scale;
#pragma unroll
      for (u32 m = 0u; m < 4u; m++) {
        const u32 r = row + 8u * m;
        if (r >= rows) continue;
        const float value = (float)(sums[m / 2u][n][2u * (m % 2u) + j] - (i32)x.y) * factor;
        float* to = y + token * ROWS + first_row + r;
        *to = ADD ? *to + value : value;
      }
    }
}
