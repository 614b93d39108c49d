// The best few of many numbers: see best.wgsl.
#define NONE 0xffffffffu
#define LEAST -3.40282347e38f

DEVICE bool before(float a, u32 i, float b, u32 j) { return i != NONE && (j == NONE || a > b || (a == b && i < j)); }

KERNEL(NT) main_kernel(const float* __restrict__ numbers, const pair_u* __restrict__ pairs, pair_u* best, u32 count) {
  begin();
  SHARED float values[NT];
  SHARED u32 places[NT];
  const u32 thread = thread_id(), first = group_x() * SPAN, last = smaller_u(first + SPAN, count);
  float taken_value = 0.0f;
  u32 taken = NONE;
  for (u32 k = 0u; k < KEEP; k++) {
    float value = LEAST;
    u32 place = NONE;
    for (u32 i = first + thread; i < last; i += NT) {
      const u32 at = FIRST ? i : pairs[group_y() * count + i].y;
      const float v = FIRST ? numbers[group_y() * count + i] : as_float(pairs[group_y() * count + i].x);
      const bool finite = (as_bits(v) & 0x7f800000u) != 0x7f800000u;
      if (finite && at != NONE && (k == 0u || before(taken_value, taken, v, at)) && before(v, at, value, place)) {
        value = v;
        place = at;
      }
    }
    values[thread] = value;
    places[thread] = place;
    barrier();
    for (u32 half = NT / 2u; half > 0u; half /= 2u) {
      if (thread < half && before(values[thread + half], places[thread + half], values[thread], places[thread])) {
        values[thread] = values[thread + half];
        places[thread] = places[thread + half];
      }
      barrier();
    }
    taken_value = values[0];
    taken = places[0];
    barrier();
    if (thread == 0u) {
      pair_u out = {as_bits(taken_value), taken};
      best[(group_y() * groups_x() + group_x()) * KEEP + k] = out;
    }
  }
}
