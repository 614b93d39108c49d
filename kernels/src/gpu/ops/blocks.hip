// The final norm and quantisation in blocks: see blocks.wgsl.
KERNEL(NT) main_kernel(const u32* __restrict__ wanted, const float* __restrict__ x, const float* __restrict__ weight,
                       u32* codes, pair_u* scales) {
  const u32 thread = thread_id(), row = group_x(), base = wanted[row] * N;
  pair_f squares = {0.0f, 0.0f};
  for (u32 i = thread; i < N; i += NT) {
    const float v = x[base + i];
    pair_f square = {v * v, 0.0f};
    squares = add_pairs(squares, square);
  }
  const float scale = norm_scale(sum_of_all(squares, thread), (float)N, as_float(EPS));
  for (u32 block = thread; block < N / 32u; block += NT) {
    const u32 first = block * 32u;
    u32 top = 0u;
    for (u32 i = first; i < first + 32u; i++) top = larger_u(top, magnitude(x[base + i] * scale * weight[i]));
    const float largest = as_float(top), inverse = largest >= 1e-30f ? 127.0f / largest : 0.0f;
    i32 sum = 0;
    for (u32 word = 0u; word < 8u; word++) {
      u32 packed = 0u;
      for (u32 j = 0u; j < 4u; j++) {
        const u32 i = first + 4u * word + j;
        const i32 code = nearest(x[base + i] * scale * weight[i] * inverse);
        sum += code;
        packed |= ((u32)code & 255u) << (8u * j);
      }
      codes[row * (N / 4u) + block * 8u + word] = packed;
    }
    pair_u out = {as_bits(half_value(half_bits(largest / 127.0f))), (u32)sum};
    scales[row * (N / 32u) + block] = out;
  }
}
