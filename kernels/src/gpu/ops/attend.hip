// Attention over a chunk: see attend.wgsl. A wave has the 32 positions of a tile for one query head.
#define SIDE (32u * DIM / PACK + SCALED * 32u)
#define TILES (CHUNK / 32u)
// Whether a chunk's keys and values fit into shared memory beside another workgroup's.
#define HELD (TILES * 2u * SIDE <= 9216u)
#define LEAST -3.40282347e38f

DEVICE float number(u32 word, u32 i) {
  return SCALED ? (float)((i32)(word << (24u - 8u * i)) >> 24) : half_value(word >> (16u * i));
}

KERNEL(NT) main_kernel(const u32* __restrict__ steps, const u32* __restrict__ pages, const float* __restrict__ wide,
                       const u32* __restrict__ cache, float* states, u32 layer, u32 chunks) {
  SHARED float queries[GROUP * DIM], weights[GROUP * CHUNK], tops[GROUP * TILES], sums[GROUP * TILES];
  SHARED u32 tile_pages[TILES];
#if HELD
  SHARED word4 held[TILES][SIDE / 2u];
#endif
  let_next();
  const u32 thread = thread_id(), head = group_y(), token = group_z(), lane = thread & 31u;
  const u32 seen = steps[token * 4u + 1u] + 1u, table = steps[token * 4u + 2u];
  if (group_x() * WALK * CHUNK >= seen) {
    after_previous();
    return;
  }
  auto page_of = [&](u32 tile) { return pages[table + tile] * PAGE_WORDS + (layer * KV_HEADS + head) * 2u * SIDE; };
  auto fetch = [&](u32 chunk, u32 t) {
#if HELD
    const word4* from = (const word4*)(cache + page_of(chunk * TILES + t));
    for (u32 i = thread; i < SIDE / 2u; i += NT) copy_ahead(&held[t][i], from + i);
#endif
  };
  // What the kernel ahead appends lies in the last tile, when there is one token.
  u32 fetched = 0u;
  if (groups_z() == 1u && WALK == 1u)
    for (; fetched < TILES && (group_x() * TILES + fetched + 1u) * 32u < seen; fetched++) fetch(group_x(), fetched);
  after_previous();
  for (u32 i = thread; i < GROUP * DIM; i += NT)
    queries[i] = wide[token * ((HEADS + 2u * KV_HEADS) * DIM) + head * GROUP * DIM + i] * as_float(SCALE);
#pragma unroll 1
  for (u32 walk = 0u; walk < WALK; walk++) {
    const u32 chunk = group_x() * WALK + walk;
    if (chunk * CHUNK >= seen) return;
    const u32 count = smaller_u(seen - chunk * CHUNK, CHUNK), tiles = (count + 31u) / 32u;
    if (thread < tiles) tile_pages[thread] = page_of(chunk * TILES + thread);
    for (u32 t = walk == 0u ? fetched : 0u; t < tiles; t++) fetch(chunk, t);
    end_copies();
    wait_copies<0u>();
    barrier();

    const u32 position = thread % CHUNK, tile = position / 32u;
    const bool there = position < count;
#if HELD
#define PAGE(t) ((const u32*)held[t])
#else
#define PAGE(t) (cache + tile_pages[t])
#endif
    const u32* keys = PAGE(there ? tile : 0u) + lane;
    float scores[(GROUP * CHUNK + NT - 1u) / NT];
#pragma unroll
    for (u32 n = 0u; n < (GROUP * CHUNK + NT - 1u) / NT; n++) {
      const u32 r = n * (NT / CHUNK) + thread / CHUNK;
      float s = 0.0f;
      if (there && r < GROUP) {
#pragma unroll 16
        for (u32 w = 0u; w < DIM / PACK; w++) {
          const u32 word = keys[w * 32u];
#pragma unroll
          for (u32 i = 0u; i < PACK; i++) s = fused(number(word, i), queries[r * DIM + w * PACK + i], s);
        }
        if (SCALED) s = s * as_float(keys[32u * DIM / PACK]);
      }
      if (!there) s = LEAST;
      scores[n] = s;
      for (u32 half = 16u; half > 0u; half /= 2u) s = larger(s, as_float(shuffle_xor(as_bits(s), half)));
      if (lane == 0u && r < GROUP) tops[r * TILES + tile] = s;
    }
    barrier();
#pragma unroll
    for (u32 n = 0u; n < (GROUP * CHUNK + NT - 1u) / NT; n++) {
      const u32 r = n * (NT / CHUNK) + thread / CHUNK;
      if (r >= GROUP) break;
      float top = tops[r * TILES];
      for (u32 t = 1u; t <= tile; t++) top = larger(top, tops[r * TILES + t]);
      const float e = there ? expo(scores[n] - top) : 0.0f;
      const float scaled = SCALED && there ? e * as_float(PAGE(tile)[SIDE + 32u * DIM / PACK + lane]) : e;
      weights[r * CHUNK + position] = scaled;
      // ((l + l8) + l16) + l24, then halves of eight, four and two.
      float sum = ((e + shuffle_f(e, (lane + 8u) & 31u)) + shuffle_f(e, (lane + 16u) & 31u)) + shuffle_f(e, (lane + 24u) & 31u);
      for (u32 half = 4u; half > 0u; half /= 2u) sum = sum + as_float(shuffle_xor(as_bits(sum), half));
      if (lane == 0u) sums[r * TILES + tile] = sum;
    }
    barrier();

    float* state = states + ((token * KV_HEADS + head) * chunks + chunk) * GROUP * (DIM + 2u);
    for (u32 i = thread; i < GROUP * (DIM / PACK); i += NT) {
      const u32 r = i / (DIM / PACK), w = i % (DIM / PACK);
      float o[PACK], top = tops[r * TILES], total = sums[r * TILES];
#pragma unroll
      for (u32 n = 0u; n < PACK; n++) o[n] = 0.0f;
#pragma unroll
      for (u32 t = 0u; t < TILES; t++) {
        if (t >= tiles) break;
        if (t > 0u) {
          const float both = larger(top, tops[r * TILES + t]), shrunk = expo(top - both);
          total = total * shrunk + sums[r * TILES + t];
          top = both;
#pragma unroll
          for (u32 n = 0u; n < PACK; n++) o[n] = o[n] * shrunk;
        }
        const u32* values = PAGE(t) + SIDE + w;
        const float* weight = weights + r * CHUNK + t * 32u;
        const u32 in_tile = smaller_u(count - t * 32u, 32u);
#pragma unroll 16
        for (u32 j = 0u; j < in_tile; j++) {
          const u32 word = values[j * (DIM / PACK)];
#pragma unroll
          for (u32 n = 0u; n < PACK; n++) o[n] = fused(number(word, n), weight[j], o[n]);
        }
      }
      if (w == 0u) {
        state[r] = top;
        state[GROUP + r] = total;
      }
#pragma unroll
      for (u32 n = 0u; n < PACK; n++) state[2u * GROUP + r * DIM + w * PACK + n] = o[n];
    }
    if (WALK > 1u) barrier();
  }
}
