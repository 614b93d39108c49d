// The chunks of a token's heads joined: see merge.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ steps, const float* __restrict__ states, float* attended, u32 all_chunks) {
  const u32 head = group_x(), token = group_y(), chunks = (steps[token * 4u + 1u] + 256u) / 256u;
  const float* base = states + (token * KV_HEADS + head) * all_chunks * GROUP * (DIM + 2u);
  for (u32 i = thread_id(); i < GROUP * DIM; i += NT) {
    const u32 r = i / DIM;
    float largest = 0.0f, total = 0.0f, output = 0.0f;
    for (u32 c = 0u; c < chunks; c++) {
      const float* state = base + c * GROUP * (DIM + 2u);
      const float top = state[r], both = c > 0u ? larger(top, largest) : top;
      const float old = c > 0u ? expo(largest - both) : 0.0f, fresh = expo(top - both);
      total = total * old + state[GROUP + r] * fresh;
      output = output * old + state[2u * GROUP + i] * fresh;
      largest = both;
    }
    attended[token * (HEADS * DIM) + head * GROUP * DIM + i] = output * (1.0f / total);
  }
}
