// Tables of 6-bit numbers, stored + 32: a block of 32 columns of a row is 24 bytes as one and a half words of 16:
// first the low halves of all numbers (word i, low half bytes: columns 8i.., high half bytes: 8i + 4..), then their
// upper two bits (two words of a pair of rows' shared 16 bytes).
const ZERO: i32 = 32;

fn code_word(at: u32, k: u32) -> u32 {
  let tile_block = at / 32u;
  let lane = at & 31u;
  let low = table[tile_block * 48u + lane][k / 2u] >> (4u * (k & 1u));
  let high = table[tile_block * 48u + 32u + lane / 2u][2u * (lane & 1u) + k / 4u] >> (2u * (k & 3u));
  return (low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u);
}
