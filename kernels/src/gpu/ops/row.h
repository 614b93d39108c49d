// What ops on whole rows share: sums and maxima over the NT threads of a workgroup.
DEVICE pair_f add_pairs(pair_f a, pair_f b) {
  float s = a.x + b.x;
  float t = s - a.x;
  pair_f r;
  r.x = s;
  r.y = ((a.x - (s - t)) + (b.x - t)) + (a.y + b.y);
  return r;
}

// Each wave's share, then the shares: one barrier before and one after.
DEVICE pair_f sum_of_all(pair_f mine, u32 thread) {
  SHARED pair_f sums[NT / 32u];
  for (u32 half = 16u; half > 0u; half /= 2u) {
    pair_f other = {as_float(shuffle_xor(as_bits(mine.x), half)), as_float(shuffle_xor(as_bits(mine.y), half))};
    mine = add_pairs(mine, other);
  }
  if ((thread & 31u) == 0u) sums[thread >> 5] = mine;
  barrier();
  pair_f total = sums[0];
  for (u32 i = 1u; i < NT / 32u; i++) total = add_pairs(total, sums[i]);
  barrier();
  return total;
}

DEVICE i32 count_of_all(i32 mine, u32 thread) {
  SHARED i32 counts[NT / 32u];
  for (u32 half = 16u; half > 0u; half /= 2u) mine += (i32)shuffle_xor((u32)mine, half);
  if ((thread & 31u) == 0u) counts[thread >> 5] = mine;
  barrier();
  i32 total = 0;
  for (u32 i = 0u; i < NT / 32u; i++) total += counts[i];
  return total;
}

DEVICE u32 top_of_all(u32 mine, u32 thread) {
  SHARED u32 tops[NT / 32u];
  for (u32 half = 16u; half > 0u; half /= 2u) mine = larger_u(mine, shuffle_xor(mine, half));
  if ((thread & 31u) == 0u) tops[thread >> 5] = mine;
  barrier();
  u32 top = 0u;
  for (u32 i = 0u; i < NT / 32u; i++) top = larger_u(top, tops[i]);
  barrier();
  return top;
}

DEVICE u32 magnitude(float x) { return as_bits(x) & 0x7fffffffu; }

// 1 / sqrt(mean + eps) from a sum of n squares.
DEVICE float norm_scale(pair_f total, float n, float eps) {
  double sum = (double)total.x + (double)total.y;
  float mean = (float)(sum / (double)n);
  return 1.0f / root(mean + eps);
}
