// Tables of 8-bit numbers: a block of 32 columns of a row is two words of 16 bytes, 32 rows side by side.
const ZERO: i32 = 0;

fn code_word(at: u32, k: u32) -> u32 {
  let tile_block = at / 32u;
  return table[(tile_block * 2u + k / 4u) * 32u + (at & 31u)][k & 3u];
}
