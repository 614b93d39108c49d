// The final norm and quantisation in blocks: see blocks.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ wanted, const float* __restrict__ x, const float* __restrict__ weight,
                       u32* codes, pair_u* scales) {
  begin();
  const u32 thread = thread_id(), row = group_x(), base = wanted[row] * N;
  pair_f squares = {0.0f, 0.0f};
  for (u32 i = thread; i < N; i += NT) {
    const float v = x[base + i];
    pair_f square = {v * v, 0.0f};
    squares = add_pairs(squares, square);
  }
  const float scale = norm_scale(sum_of_all(squares, thread), (float)N, as_float(EPS));
  const u32 lane = thread & 31u;
  for (u32 block = thread / 32u; block < N / 32u; block += NT / 32u) {
    const u32 i = block * 32u + lane;
    const float value = x[base + i] * scale * weight[i];
    u32 top = magnitude(value);
    for (u32 half = 16u; half > 0u; half /= 2u) top = larger_u(top, shuffle_xor(top, half));
    const float largest = as_float(top), inverse = largest >= 1e-30f ? 127.0f / largest : 0.0f;
    const i32 code = nearest(value * inverse);
    i32 sum = code;
    for (u32 half = 16u; half > 0u; half /= 2u) sum += (i32)shuffle_xor((u32)sum, half);
    u32 packed = ((u32)code & 255u) << (8u * (lane & 3u));
    packed |= shuffle_xor(packed, 1u);
    packed |= shuffle_xor(packed, 2u);
    if ((lane & 3u) == 0u) codes[row * (N / 4u) + i / 4u] = packed;
    pair_u out = {as_bits(half_value(half_bits(largest / 127.0f))), (u32)sum};
    if (lane == 0u) scales[row * (N / 32u) + block] = out;
  }
}
