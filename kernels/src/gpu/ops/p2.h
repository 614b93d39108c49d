// 2.0 bits a weight: see p2.wgsl. AND leaves field f as code << 2f; each has a sum of its own, shifted back once.
typedef word4 weight_t;
#define STEP_WORDS 4u
struct sums_t { i32 a, b, c, d; };
DEVICE void clear(sums_t* s) { s->a = s->b = s->c = s->d = 0; }
DEVICE i32 total(sums_t s) { return s.a + (s.b >> 2) + (s.c >> 4) + (s.d >> 6); }
DEVICE weight_t load_step(const u32* weights, u32 block, u32 step, u32 lane) {
  return stream((const word4*)weights + (block * STEPS + step) * 32u + lane);
}
// The same from a copy in shared memory.
#define RUN_UNROLLED RUN
#define STEP_BYTES 512u
DEVICE weight_t held_step(const char* p, u32 lane) { return ((const word4*)p)[lane]; }
DEVICE void dot_word(sums_t* s, u32 w, word4 x) {
  s->a = dot4(w & 0x03030303u, x.x, s->a);
  s->b = dot4(w & 0x0c0c0c0cu, x.y, s->b);
  s->c = dot4(w & 0x30303030u, x.z, s->c);
  s->d = dot4(w & 0xc0c0c0c0u, x.w, s->d);
}
DEVICE void dot_step(sums_t* s, weight_t w, const word4* x) {
  dot_word(s, w.x, x[0]);
  dot_word(s, w.y, x[1]);
  dot_word(s, w.z, x[2]);
  dot_word(s, w.w, x[3]);
}
// For matrix units a lane has one of a step's four words of a row.
#define LANE_WORDS 4u
typedef u32 lane_t;
DEVICE lane_t held_lane(const u32* step, u32 row, u32 quad) { return step[row * 4u + quad]; }
DEVICE void lane_words(lane_t w, u32 quad, u32* out) {
  for (u32 f = 0u; f < 4u; f++) out[f] = (w >> (2u * f)) & 0x03030303u;
}
DEVICE void read_words(const u32* codes, u32 quad, u32* out) {
  const word4 w = ((const word4*)codes)[quad];
  out[0] = w.x;
  out[1] = w.y;
  out[2] = w.z;
  out[3] = w.w;
}
