// Rotation and append to the cache: see rope.wgsl.
#define SIDE (32u * DIM / PACK + SCALED * 32u)

DEVICE float turned(const float* wide, const pair_f* angles, u32 base, u32 token, u32 d) {
  const float x = wide[base + d];
  if (d >= 2u * PAIRS) return x;
#if SPLIT_HALF
  const u32 pair = d % PAIRS, other = base + (d + PAIRS) % (2u * PAIRS);
  const bool first = d < PAIRS;
#else
  const u32 pair = d / 2u, other = base + (d ^ 1u);
  const bool first = (d & 1u) == 0u;
#endif
  const float y = wide[other];
  const pair_f turn = angles[token * PAIRS + pair];
  return first ? x * turn.x - y * turn.y : y * turn.y + x * turn.x;
}

DEVICE u32 word_of(const float* v, float scale) {
#if SCALED
  u32 word = 0u;
  for (u32 i = 0u; i < 4u; i++) word |= (scale != 0.0f ? (u32)nearest(v[i] / scale) & 255u : 0u) << (8u * i);
  return word;
#else
  return half_bits(v[0]) | (half_bits(v[1]) << 16);
#endif
}

KERNEL(NT) main_kernel(const u32* __restrict__ steps, const u32* __restrict__ pages, const pair_f* __restrict__ angles,
                       float* wide, u32* cache, u32 layer) {
  begin();
  const u32 thread = thread_id(), head = group_x(), token = group_y();
  const u32 row = token * ((HEADS + 2u * KV_HEADS) * DIM), key = row + (HEADS + head) * DIM, value = key + KV_HEADS * DIM;
  const u32 position = steps[token * 4u + 1u], page = pages[steps[token * 4u + 2u] + position / 32u], slot = position % 32u;
  const u32 side = page * PAGE_WORDS + (layer * KV_HEADS + head) * 2u * SIDE;
  float key_scale = 0.0f, value_scale = 0.0f;
#if SCALED
  u32 key_top = 0u, value_top = 0u;
  for (u32 d = thread; d < DIM; d += NT) {
    key_top = larger_u(key_top, magnitude(turned(wide, angles, key, token, d)));
    value_top = larger_u(value_top, magnitude(wide[value + d]));
  }
  key_scale = as_float(top_of_all(key_top, thread)) / 127.0f;
  value_scale = as_float(top_of_all(value_top, thread)) / 127.0f;
  if (thread == 0u) {
    cache[side + 32u * DIM / PACK + slot] = as_bits(key_scale);
    cache[side + SIDE + 32u * DIM / PACK + slot] = as_bits(value_scale);
  }
#endif
  for (u32 w = thread; w < DIM / PACK; w += NT) {
    float k[PACK], v[PACK];
    for (u32 i = 0u; i < PACK; i++) {
      k[i] = turned(wide, angles, key, token, w * PACK + i);
      v[i] = wide[value + w * PACK + i];
    }
    cache[side + w * 32u + slot] = word_of(k, key_scale);
    cache[side + SIDE + slot * (DIM / PACK) + w] = word_of(v, value_scale);
  }
  for (u32 i = thread; i < GROUP * PAIRS; i += NT) {
    const u32 base = row + (head * GROUP + i / PAIRS) * DIM, pair = i % PAIRS;
    const u32 a_at = base + (SPLIT_HALF ? pair : 2u * pair), b_at = base + (SPLIT_HALF ? pair + PAIRS : 2u * pair + 1u);
    const pair_f turn = angles[token * PAIRS + pair];
    const float a = wide[a_at], b = wide[b_at];
    wide[a_at] = a * turn.x - b * turn.y;
    wide[b_at] = a * turn.y + b * turn.x;
  }
}
