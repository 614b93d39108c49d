// What ops on whole rows share: sums and maxima over the NT threads of a workgroup.
DEVICE pair_f add_pairs(pair_f a, pair_f b) {
  float s = a.x + b.x;
  float t = s - a.x;
  pair_f r;
  r.x = s;
  r.y = ((a.x - (s - t)) + (b.x - t)) + (a.y + b.y);
  return r;
}

DEVICE pair_f sum_of_all(pair_f mine, u32 thread) {
  SHARED pair_f sums[NT];
  sums[thread] = mine;
  barrier();
  for (u32 half = NT / 2u; half > 0u; half /= 2u) {
    if (thread < half) sums[thread] = add_pairs(sums[thread], sums[thread + half]);
    barrier();
  }
  pair_f total = sums[0];
  barrier();
  return total;
}

DEVICE u32 top_of_all(u32 mine, u32 thread) {
  SHARED u32 tops[NT];
  tops[thread] = mine;
  barrier();
  for (u32 half = NT / 2u; half > 0u; half /= 2u) {
    if (thread < half) tops[thread] = larger_u(tops[thread], tops[thread + half]);
    barrier();
  }
  u32 top = tops[0];
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
