// Tables of 8-bit numbers: a block of 32 columns of a row is two words of 16 bytes, 32 rows side by side.
#define ZERO 0
DEVICE u32 code_word(const u32* table, u32 tile_block, u32 lane, u32 k) {
  return table[((tile_block * 2u + k / 4u) * 32u + lane) * 4u + (k & 3u)];
}
struct codes_t { word4 first, second; };
DEVICE codes_t load_codes(const u32* table, u32 tile_block, u32 lane) {
  codes_t c;
  c.first = stream((const word4*)table + tile_block * 64u + lane);
  c.second = stream((const word4*)table + tile_block * 64u + 32u + lane);
  return c;
}
DEVICE u32 word_of(codes_t c, u32 k) {
  const word4 half = k < 4u ? c.first : c.second;
  return (k & 3u) == 0u ? half.x : ((k & 3u) == 1u ? half.y : ((k & 3u) == 2u ? half.z : half.w));
}
