// Tables of 8-bit numbers: a block of 32 columns of a row is two words of 16 bytes, 32 rows side by side.
#define ZERO 0
DEVICE u32 code_word(const u32* table, u32 tile_block, u32 lane, u32 k) {
  return table[((tile_block * 2u + k / 4u) * 32u + lane) * 4u + (k & 3u)];
}
