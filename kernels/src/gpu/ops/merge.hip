// The chunks of a token's heads joined: see merge.wgsl. Lanes make the factors of 32 chunks at a time.
KERNEL(NT) main_kernel(const u32* __restrict__ steps, const float* __restrict__ states, float* attended, u32 all_chunks) {
  begin();
  const u32 head = group_x() / GROUP, r = group_x() % GROUP, token = group_y(), lane = thread_id() & 31u;
  const u32 chunks = (steps[token * 4u + 1u] + CHUNK) / CHUNK, size = GROUP * (DIM + 2u);
  const float* base = states + (token * KV_HEADS + head) * all_chunks * size;
  for (u32 first = 0u; first < DIM; first += NT) {
    const u32 i = first + thread_id(), column = smaller_u(i, DIM - 1u);
    float largest = 0.0f, total = 0.0f, output = 0.0f;
    for (u32 c = 0u; c < chunks; c += 32u) {
      const u32 n = smaller_u(chunks - c, 32u);
      const float* mine = base + (c + smaller_u(lane, n - 1u)) * size;
      const float top = mine[r], sum = mine[GROUP + r];
      float both = top;
      for (u32 d = 1u; d < 32u; d *= 2u) {
        const float other = shuffle_f(both, (lane - d) & 31u);
        if (lane >= d) both = larger(both, other);
      }
      if (c > 0u) both = larger(both, largest);
      const float left = shuffle_f(both, (lane - 1u) & 31u), before = lane == 0u ? largest : left;
      const float old = c + lane > 0u ? expo(before - both) : 0.0f, fresh = expo(top - both);
      largest = shuffle_f(both, n - 1u);
#pragma unroll 16
      for (u32 j = 0u; j < n; j++) {
        const float shrunk = shuffle_f(old, j), grown = shuffle_f(fresh, j);
        total = total * shrunk + shuffle_f(sum, j) * grown;
        output = output * shrunk + base[(c + j) * size + 2u * GROUP + r * DIM + column] * grown;
      }
    }
    if (i < DIM) attended[token * (HEADS * DIM) + group_x() * DIM + i] = output * (1.0f / total);
  }
}
