// Ternary matrices times int8 rows: see gemv.wgsl.
#if RING == 0u
KERNEL(NT) main_kernel(const u32* __restrict__ weights, const u32* __restrict__ blocks, const word4* __restrict__ codes,
                       const pair_u* __restrict__ scales, float* y, u32 tokens, u32 count) {
  SHARED i32 parts[SPLIT * TOKENS][32];
  const u32 thread = thread_id(), lane = thread & 31u, slice = uniform(thread >> 5);
  const u32 block = group_x(), first = group_y() * TOKENS;
  begin();
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
#else
// One token; a workgroup stays and walks over its share of the blocks. A wave has its slice of the columns and a ring of
// stages with RUN steps of TILES blocks each, filled by the copy engine, across blocks and before the kernel ahead has
// ended: weights depend on nobody.
#define PER ((STEPS + SPLIT - 1u) / SPLIT)
#define STAGE_BYTES (TILES * RUN * STEP_BYTES)

KERNEL(NT) main_kernel(const u32* __restrict__ weights, const u32* __restrict__ blocks, const word4* __restrict__ codes,
                       const pair_u* __restrict__ scales, float* y, u32 tokens, u32 count) {
  DYNAMIC_SHARED word4 stages[];
  SHARED u64 arrived[SPLIT * RING];
  SHARED word4 row[WORDS / 4u];
  SHARED i32 parts[2][TILES][SPLIT][32];
  const u32 thread = thread_id(), lane = thread & 31u, slice = thread >> 5, token = group_y();
  const u32 tiles = (count + TILES - 1u) / TILES;
  const u32 first = group_x() * tiles / groups_x(), last = (group_x() + 1u) * tiles / groups_x();
  const u32 start = smaller_u(slice * PER, STEPS), steps = smaller_u(PER, STEPS - start), runs = (steps + RUN - 1u) / RUN;
  const u32 all = runs * (last - first);
  char* mine = (char*)stages + slice * RING * STAGE_BYTES;
  u64* full = arrived + slice * RING;
  u32 next_tile = first, next_run = 0u, filled = 0u;
  auto fill = [&](u32 stage) {
    if (filled == all) return;
    if (lane == 0u) {
      const u32 bytes = smaller_u(RUN, steps - next_run * RUN) * STEP_BYTES;
      ring_expect(full + stage, TILES * bytes);
#pragma unroll
      for (u32 t = 0u; t < TILES; t++) {
        const u64 block = smaller_u(next_tile * TILES + t, count - 1u);
        const char* from = (const char*)weights + (block * STEPS + start + next_run * RUN) * STEP_BYTES;
        ring_fetch(full + stage, mine + stage * STAGE_BYTES + t * RUN * STEP_BYTES, from, bytes);
      }
    }
    filled++;
    if (++next_run == runs) {
      next_run = 0u;
      next_tile++;
    }
  };
  if (lane == 0u)
    for (u32 stage = 0u; stage < RING; stage++) ring_open(full + stage);
  wave_barrier();
  let_next();
  for (u32 stage = 0u; stage < RING; stage++) fill(stage);
  after_previous();
  for (u32 i = thread; i < WORDS / 4u; i += NT) row[i] = codes[token * (WORDS / 4u) + i];
  const pair_u x = scales[token];
  barrier();
  u32 stage = 0u, parity = 0u;
  for (u32 tile = first; tile < last; tile++) {
    sums_t sums[TILES];
#pragma unroll
    for (u32 t = 0u; t < TILES; t++) clear(&sums[t]);
    for (u32 run = 0u; run < runs; run++) {
      const u32 here = smaller_u(RUN, steps - run * RUN);
      const char* held = mine + stage * STAGE_BYTES;
      const word4* at = row + (start + run * RUN) * STEP_WORDS;
      ring_wait(full + stage, parity);
#pragma unroll RUN_UNROLLED
      for (u32 i = 0u; i < RUN; i++) {
        if (PER % RUN != 0u || STEPS % SPLIT != 0u)
          if (i >= here) break;
        weight_t w[TILES];
#pragma unroll
        for (u32 t = 0u; t < TILES; t++) w[t] = held_step(held + (t * RUN + i) * STEP_BYTES, lane);
#pragma unroll
        for (u32 t = 0u; t < TILES; t++) dot_step(&sums[t], w[t], at + i * STEP_WORDS);
      }
      wave_barrier();
      fill(stage);
      if (++stage == RING) {
        stage = 0u;
        parity ^= 1u;
      }
    }
#pragma unroll
    for (u32 t = 0u; t < TILES; t++) parts[tile & 1u][t][slice][lane] = total(sums[t]);
    // Rows are finished by the waves in turn, and by each before it writes the next but one's parts.
    barrier();
#pragma unroll
    for (u32 t = 0u; t < TILES; t++) {
      const u32 block = tile * TILES + t;
      if (slice != (tile * TILES + t) % SPLIT || block >= count) continue;
      const u32 first_row = blocks[block * 4u], rows = blocks[block * 4u + 1u];
      const float scale = as_float(blocks[block * 4u + 2u]);
      i32 sum = 0;
#pragma unroll
      for (u32 s = 0u; s < SPLIT; s++) sum += parts[tile & 1u][t][s][lane];
      if (lane < rows) {
        float value = (float)(sum - (i32)x.y) * (as_float(x.x) * scale);
        float* to = y + token * ROWS + first_row + lane;
        *to = ADD ? *to + value : value;
      }
    }
  }
}
#endif
