// 1.25 bits a weight: a step is 128 columns of a row in five words, 32 rows side by side. Word i < 4 holds the low
// half bytes of groups 2i and 2i + 1, word 4 their fifth bits; a code stands for a byte of p2 (BOOK).
alias WEIGHT = u32;
const STEP_WORDS: u32 = 8u;

struct Step { words: array<u32, 5> }

fn load_step(block: u32, step: u32, lane: u32) -> Step {
  let at = (block * STEPS + step) * 160u + lane;
  var s: Step;
  s.words[0] = weights[at];
  s.words[1] = weights[at + 32u];
  s.words[2] = weights[at + 64u];
  s.words[3] = weights[at + 96u];
  s.words[4] = weights[at + 128u];
  return s;
}

fn dot_word(w: u32, x: vec4<u32>) -> i32 {
  return dot4I8Packed(w & 0x03030303u, x.x) + dot4I8Packed((w >> 2u) & 0x03030303u, x.y)
    + dot4I8Packed((w >> 4u) & 0x03030303u, x.z) + dot4I8Packed((w >> 6u) & 0x03030303u, x.w);
}

fn bytes_of(low: u32, fifth: u32) -> u32 {
  let code = (low & 0x0f0f0f0fu) | ((fifth & 0x01010101u) << 4u);
  return BOOK[code & 31u] | (BOOK[(code >> 8u) & 31u] << 8u)
    | (BOOK[(code >> 16u) & 31u] << 16u) | (BOOK[code >> 24u] << 24u);
}

fn dot_step(s: Step, at: u32) -> i32 {
  var step = s;
  var sum = 0;
  for (var i = 0u; i < 4u; i++) {
    let w = step.words[i];
    sum += dot_word(bytes_of(w, step.words[4] >> (2u * i)), codes[at + 2u * i]);
    sum += dot_word(bytes_of(w >> 4u, step.words[4] >> (2u * i + 1u)), codes[at + 2u * i + 1u]);
  }
  return sum;
}
