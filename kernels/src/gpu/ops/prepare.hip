// A row for a ternary matrix: see prepare.wgsl.
DEVICE float input(const float* from, u32 token, u32 i) {
  if (GATE == 0u) return from[token * N + i];
  const float gate = from[token * 2u * N + i], up = from[token * 2u * N + N + i];
  if (GATE == 1u) return gate / (1.0f + expo(-gate)) * up;
  const float r = gate > 0.0f ? gate : 0.0f;
  return r * r * up;
}

KERNEL(NT) main_kernel(const float* __restrict__ from, const float* __restrict__ weight, float* row, u32* codes,
                       pair_u* scales, u32* faults) {
  const u32 thread = thread_id(), token = group_x(), base = token * N;
  pair_f squares = {0.0f, 0.0f};
  for (u32 i = thread; i < N; i += NT) {
    const float v = input(from, token, i);
    row[base + i] = v;
    pair_f square = {v * v, 0.0f};
    if (NORM) squares = add_pairs(squares, square);
  }
  if (NORM) {
    const float scale = norm_scale(sum_of_all(squares, thread), (float)N, as_float(EPS));
    for (u32 i = thread; i < N; i += NT) row[base + i] = row[base + i] * scale * weight[i];
  }
#if ROTATE > 0u
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
  for (u32 i = thread; i < N; i += NT) row[base + i] = row[base + i] * as_float(ROTATE_SCALE);
#endif
  barrier();
  u32 top = 0u;
  for (u32 i = thread; i < N; i += NT) top = larger_u(top, magnitude(row[base + i]));
  top = top_of_all(top, thread);
  if (top >= 0x7f800000u) {
    if (thread == 0u) {
      faults[0] = 1u;
      for (u32 i = 0u; i < N; i++)
        if (magnitude(row[base + i]) >= 0x7f800000u) faults[1] = i;
    }
    top = 0u;
  }
  const float scale = larger(as_float(top) / 127.0f, 1e-8f);
  i32 sum = 0;
  for (u32 word = thread; word < WORDS; word += NT) {
    u32 packed = 0u;
    for (u32 j = 0u; j < 4u; j++) {
      const u32 i = word / 4u * 16u + 4u * j + word % 4u;
      if (i < N) {
        const float q = row[base + i] / scale, t = truncated(q);
        float r = t;
        if (magnitude_of(q - t) >= 0.5f) r = t + (q > 0.0f ? 1.0f : -1.0f);
        r = r < -127.0f ? -127.0f : (r > 127.0f ? 127.0f : r);
        const i32 code = (i32)r;
        sum += code;
        packed |= ((u32)code & 255u) << (8u * j);
      }
    }
    codes[token * WORDS + word] = packed;
  }
  pair_f mine = {(float)sum, 0.0f};
  const pair_f all = sum_of_all(mine, thread);
  if (thread == 0u) {
    pair_u out = {as_bits(scale), (u32)(i32)(all.x + all.y)};
    scales[token] = out;
  }
}
