// 2.0 bits a weight: a word holds 16 columns of a row, byte j field f is column 4j + f. Four words a step.
alias WEIGHT = vec4<u32>;
const STEP_WORDS: u32 = 4u;

fn load_step(block: u32, step: u32, lane: u32) -> vec4<u32> {
  return weights[(block * STEPS + step) * 32u + lane];
}

fn dot_word(w: u32, x: vec4<u32>) -> i32 {
  return dot4I8Packed(w & 0x03030303u, x.x) + dot4I8Packed((w >> 2u) & 0x03030303u, x.y)
    + dot4I8Packed((w >> 4u) & 0x03030303u, x.z) + dot4I8Packed((w >> 6u) & 0x03030303u, x.w);
}

fn dot_step(w: vec4<u32>, at: u32) -> i32 {
  return dot_word(w.x, codes[at]) + dot_word(w.y, codes[at + 1u])
    + dot_word(w.z, codes[at + 2u]) + dot_word(w.w, codes[at + 3u]);
}
