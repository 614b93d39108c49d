// A row for a ternary matrix: see prepare.wgsl. A thread keeps the four values of each of its words of codes in registers.
#define KEPT ((WORDS + NT - 1u) / NT)

DEVICE float input(const float* from, u32 token, u32 i) {
  if (GATE == 0u) return from[token * N + i];
  const float gate = from[token * 2u * N + i], up = from[token * 2u * N + N + i];
  if (GATE == 1u) return gate / (1.0f + expo(-gate)) * up;
  const float r = gate > 0.0f ? gate : 0.0f;
  return r * r * up;
}

// Column of value j of a word.
DEVICE u32 column(u32 word, u32 j) { return word / 4u * 16u + 4u * j + word % 4u; }

KERNEL(NT) main_kernel(const float* __restrict__ from, const float* __restrict__ weight, float* row, u32* codes,
                       pair_u* scales, u32* faults) {
  const u32 thread = thread_id(), token = group_x(), base = token * N;
  float v[KEPT][4], g[KEPT][4];
  let_next();
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) {
      const u32 i = column(thread + k * NT, j);
      g[k][j] = NORM && i < N ? weight[i] : 0.0f;
    }
  after_previous();
  pair_f squares = {0.0f, 0.0f};
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) {
      const u32 i = column(thread + k * NT, j);
      v[k][j] = i < N ? input(from, token, i) : 0.0f;
    }
  if (NORM) {
#pragma unroll
    for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
      for (u32 j = 0u; j < 4u; j++) {
        pair_f square = {v[k][j] * v[k][j], 0.0f};
        squares = add_pairs(squares, square);
      }
    const float scale = norm_scale(sum_of_all(squares, thread), (float)N, as_float(EPS));
#pragma unroll
    for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
      for (u32 j = 0u; j < 4u; j++) v[k][j] = v[k][j] * scale * g[k][j];
  }
#if ROTATE > 0u
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) {
      const u32 i = column(thread + k * NT, j);
      if (i < N) row[base + i] = v[k][j];
    }
  for (u32 half = 1u; half < ROTATE; half *= 2u) {
    barrier();
    for (u32 i = thread; i < N / 2u; i += NT) {
      const u32 low = base + i / half * (2u * half) + i % half;
      const float a = row[low], b = row[low + half];
      row[low] = a + b;
      row[low + half] = a - b;
    }
  }
  barrier();
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) {
      const u32 i = column(thread + k * NT, j);
      v[k][j] = i < N ? row[base + i] * as_float(ROTATE_SCALE) : 0.0f;
    }
#endif
  u32 top = 0u;
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) top = larger_u(top, magnitude(v[k][j]));
  top = top_of_all(top, thread);
  if (top >= 0x7f800000u) {
#pragma unroll
    for (u32 k = 0u; k < KEPT; k++)
#pragma unroll
      for (u32 j = 0u; j < 4u; j++)
        if (magnitude(v[k][j]) >= 0x7f800000u) {
          faults[0] = 1u;
          faults[1] = column(thread + k * NT, j);
        }
    top = 0u;
  }
  const float scale = larger(as_float(top) / 127.0f, 1e-8f);
  i32 sum = 0;
#pragma unroll
  for (u32 k = 0u; k < KEPT; k++) {
    const u32 word = thread + k * NT;
    u32 packed = 0u;
#pragma unroll
    for (u32 j = 0u; j < 4u; j++) {
      const float q = v[k][j] / scale, t = truncated(q);
      float r = t;
      if (magnitude_of(q - t) >= 0.5f) r = t + (q > 0.0f ? 1.0f : -1.0f);
      r = r < -127.0f ? -127.0f : (r > 127.0f ? 127.0f : r);
      const i32 code = (i32)r;
      sum += code;
      packed |= ((u32)code & 255u) << (8u * j);
    }
    if (word < WORDS) codes[token * WORDS + word] = packed;
  }
  sum = count_of_all(sum, thread);
  if (thread == 0u) {
    pair_u out = {as_bits(scale), (u32)sum};
    scales[token] = out;
  }
}
