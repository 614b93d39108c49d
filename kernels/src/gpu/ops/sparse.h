// 1.25 bits a weight: see sparse.wgsl.
TABLE u32 BOOK[32] = { BOOK_VALUES };
struct weight_t { u32 low0, low1, low2, low3, fifth; };
#define STEP_WORDS 8u
struct sums_t { i32 a, b, c, d; };
DEVICE void clear(sums_t* s) { s->a = s->b = s->c = s->d = 0; }
DEVICE i32 total(sums_t s) { return s.a + (s.b >> 2) + (s.c >> 4) + (s.d >> 6); }
DEVICE weight_t load_step(const u32* weights, u32 block, u32 step, u32 lane) {
  const u32* p = weights + (block * STEPS + step) * 160u + lane;
  weight_t w;
  w.low0 = stream(p);
  w.low1 = stream(p + 32);
  w.low2 = stream(p + 64);
  w.low3 = stream(p + 96);
  w.fifth = stream(p + 128);
  return w;
}
// A step looks up 32 bytes: more than one at a time do not fit into the registers.
#define RUN_UNROLLED 1
#define STEP_BYTES 640u
DEVICE weight_t held_step(const char* from, u32 lane) {
  const u32* p = (const u32*)from + lane;
  weight_t w = {p[0], p[32], p[64], p[96], p[128]};
  return w;
}
DEVICE u32 bytes_of(u32 low, u32 fifth) {
  u32 code = (low & 0x0f0f0f0fu) | ((fifth & 0x01010101u) << 4);
  return BOOK[code & 31u] | (BOOK[(code >> 8) & 31u] << 8) | (BOOK[(code >> 16) & 31u] << 16) | (BOOK[code >> 24] << 24);
}
DEVICE void dot_word(sums_t* s, u32 w, word4 x) {
  s->a = dot4(w & 0x03030303u, x.x, s->a);
  s->b = dot4(w & 0x0c0c0c0cu, x.y, s->b);
  s->c = dot4(w & 0x30303030u, x.z, s->c);
  s->d = dot4(w & 0xc0c0c0c0u, x.w, s->d);
}
DEVICE void dot_step(sums_t* s, weight_t w, const word4* x) {
  dot_word(s, bytes_of(w.low0, w.fifth), x[0]);
  dot_word(s, bytes_of(w.low0 >> 4, w.fifth >> 1), x[1]);
  dot_word(s, bytes_of(w.low1, w.fifth >> 2), x[2]);
  dot_word(s, bytes_of(w.low1 >> 4, w.fifth >> 3), x[3]);
  dot_word(s, bytes_of(w.low2, w.fifth >> 4), x[4]);
  dot_word(s, bytes_of(w.low2 >> 4, w.fifth >> 5), x[5]);
  dot_word(s, bytes_of(w.low3, w.fifth >> 6), x[6]);
  dot_word(s, bytes_of(w.low3 >> 4, w.fifth >> 7), x[7]);
}
// For matrix units a lane has two of a step's eight words of a row.
#define LANE_WORDS 8u
struct lane_t { u32 low, fifth; };
DEVICE lane_t held_lane(const u32* step, u32 row, u32 quad) {
  lane_t w = {step[quad * 32u + row], step[128u + row]};
  return w;
}
DEVICE void lane_words(lane_t w, u32 quad, u32* out) {
  const u32 first = bytes_of(w.low, w.fifth >> (2u * quad)), second = bytes_of(w.low >> 4, w.fifth >> (2u * quad + 1u));
  for (u32 f = 0u; f < 4u; f++) {
    out[f] = (first >> (2u * f)) & 0x03030303u;
    out[4u + f] = (second >> (2u * f)) & 0x03030303u;
  }
}
DEVICE void read_words(const u32* codes, u32 quad, u32* out) {
  const word4 a = ((const word4*)codes)[quad * 2u], b = ((const word4*)codes)[quad * 2u + 1u];
  out[0] = a.x;
  out[1] = a.y;
  out[2] = a.z;
  out[3] = a.w;
  out[4] = b.x;
  out[5] = b.y;
  out[6] = b.z;
  out[7] = b.w;
}
