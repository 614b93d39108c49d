// 1.6 bits a weight: see b5.wgsl.
typedef word4 weight_t;
#define STEP_WORDS 5u
struct sums_t { i32 a; };
DEVICE void clear(sums_t* s) { s->a = 0; }
DEVICE i32 total(sums_t s) { return s.a; }
DEVICE weight_t load_step(const u32* weights, u32 block, u32 step, u32 lane) {
  return stream((const word4*)weights + (block * STEPS + step) * 32u + lane);
}
#define RUN_UNROLLED RUN
#define STEP_BYTES 512u
DEVICE weight_t held_step(const char* p, u32 lane) { return ((const word4*)p)[lane]; }
DEVICE u32 third(u32 b) { return ((b * 171u) >> 9) & 0x007f007fu; }
DEVICE u32 digits(u32 e, u32 e_next, u32 o, u32 o_next) { return (e - 3u * e_next) | ((o - 3u * o_next) << 8); }
DEVICE void dot_word(sums_t* s, u32 w, u32 x0, u32 x1, u32 x2, u32 x3, u32 x4) {
  u32 e0 = w & 0x00ff00ffu, o0 = (w >> 8) & 0x00ff00ffu;
  u32 e1 = third(e0), o1 = third(o0), e2 = third(e1), o2 = third(o1);
  u32 e3 = third(e2), o3 = third(o2), e4 = third(e3), o4 = third(o3);
  s->a = dot4(digits(e0, e1, o0, o1), x0, s->a);
  s->a = dot4(digits(e1, e2, o1, o2), x1, s->a);
  s->a = dot4(digits(e2, e3, o2, o3), x2, s->a);
  s->a = dot4(digits(e3, e4, o3, o4), x3, s->a);
  s->a = dot4(e4 | (o4 << 8), x4, s->a);
}
DEVICE void dot_step(sums_t* s, weight_t w, const word4* x) {
  word4 a = x[0], b = x[1], c = x[2], d = x[3], e = x[4];
  dot_word(s, w.x, a.x, a.y, a.z, a.w, b.x);
  dot_word(s, w.y, b.y, b.z, b.w, c.x, c.y);
  dot_word(s, w.z, c.z, c.w, d.x, d.y, d.z);
  dot_word(s, w.w, d.w, e.x, e.y, e.z, e.w);
}
// For matrix units a lane has one of a step's four words of a row, and one of zeros to make pairs.
#define LANE_WORDS 6u
typedef u32 lane_t;
DEVICE lane_t held_lane(const u32* step, u32 row, u32 quad) { return step[row * 4u + quad]; }
DEVICE void lane_words(lane_t w, u32 quad, u32* out) {
  u32 e = w & 0x00ff00ffu, o = (w >> 8) & 0x00ff00ffu;
  for (u32 i = 0u; i < 4u; i++) {
    const u32 e_next = third(e), o_next = third(o);
    out[i] = digits(e, e_next, o, o_next);
    e = e_next;
    o = o_next;
  }
  out[4] = e | (o << 8);
  out[5] = 0u;
}
DEVICE void read_words(const u32* codes, u32 quad, u32* out) {
  for (u32 i = 0u; i < 5u; i++) out[i] = codes[quad * 5u + i];
  out[5] = 0u;
}
