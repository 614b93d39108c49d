// Rows of the embedding table: see embed.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ table, const u32* __restrict__ scales, const u32* __restrict__ steps, float* x) {
  begin();
  const u32 token = group_x(), id = steps[token * 4u], tile = id / 32u, lane = id % 32u;
  for (u32 quad = thread_id(); quad < BLOCKS * 8u; quad += NT) {
    const u32 block = quad / 8u, k = quad % 8u;
    const float scale = half_value(scales[(tile * SCALE_WORDS + block / 2u) * 32u + lane] >> (16u * (block & 1u)));
    const u32 codes = code_word(table, tile * BLOCKS + block, lane, k);
    for (u32 j = 0u; j < 4u; j++)
      x[token * (BLOCKS * 32u) + quad * 4u + j] = scale * (float)(((i32)(codes << (24u - 8u * j)) >> 24) - ZERO);
  }
}
