// 1.6 bits a weight: byte j of a word holds, as digits to base 3, the weights that meet five words of codes.
// Four words a step. Four bytes are divided by three at once in two halves of 16 bits: (b * 171) >> 9 for b < 256.
alias WEIGHT = vec4<u32>;
const STEP_WORDS: u32 = 5u;

fn load_step(block: u32, step: u32, lane: u32) -> vec4<u32> {
  return weights[(block * STEPS + step) * 32u + lane];
}

fn third(b: u32) -> u32 {
  return ((b * 171u) >> 9u) & 0x007f007fu;
}

fn digits(even: vec2<u32>, odd: vec2<u32>) -> u32 {
  return (even.x - 3u * even.y) | ((odd.x - 3u * odd.y) << 8u);
}

fn dot_word(w: u32, x0: u32, x1: u32, x2: u32, x3: u32, x4: u32) -> i32 {
  let e0 = w & 0x00ff00ffu;
  let o0 = (w >> 8u) & 0x00ff00ffu;
  let e1 = third(e0); let o1 = third(o0);
  let e2 = third(e1); let o2 = third(o1);
  let e3 = third(e2); let o3 = third(o2);
  let e4 = third(e3); let o4 = third(o3);
  return dot4I8Packed(digits(vec2<u32>(e0, e1), vec2<u32>(o0, o1)), x0)
    + dot4I8Packed(digits(vec2<u32>(e1, e2), vec2<u32>(o1, o2)), x1)
    + dot4I8Packed(digits(vec2<u32>(e2, e3), vec2<u32>(o2, o3)), x2)
    + dot4I8Packed(digits(vec2<u32>(e3, e4), vec2<u32>(o3, o4)), x3)
    + dot4I8Packed(e4 | (o4 << 8u), x4);
}

fn dot_step(w: vec4<u32>, at: u32) -> i32 {
  let a = codes[at];
  let b = codes[at + 1u];
  let c = codes[at + 2u];
  let d = codes[at + 3u];
  let e = codes[at + 4u];
  return dot_word(w.x, a.x, a.y, a.z, a.w, b.x) + dot_word(w.y, b.y, b.z, b.w, c.x, c.y)
    + dot_word(w.z, c.z, c.w, d.x, d.y, d.z) + dot_word(w.w, d.w, e.x, e.y, e.z, e.w);
}
