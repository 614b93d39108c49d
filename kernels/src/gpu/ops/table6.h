// Tables of 6-bit numbers, stored + 32: see table6.wgsl.
#define ZERO 32
DEVICE u32 code_word(const u32* table, u32 tile_block, u32 lane, u32 k) {
  u32 low = table[tile_block * 192u + lane * 4u + k / 2u] >> (4u * (k & 1u));
  u32 high = table[tile_block * 192u + (32u + lane / 2u) * 4u + 2u * (lane & 1u) + k / 4u] >> (2u * (k & 3u));
  return (low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4);
}
struct codes_t { word4 low; u64 high; };
DEVICE codes_t load_codes(const u32* table, u32 tile_block, u32 lane) {
  codes_t c;
  c.low = stream((const word4*)table + tile_block * 48u + lane);
  c.high = stream((const u64*)table + tile_block * 96u + 64u + lane);
  return c;
}
DEVICE u32 word_of(codes_t c, u32 k) {
  const u32 low = k / 2u == 0u ? c.low.x : (k / 2u == 1u ? c.low.y : (k / 2u == 2u ? c.low.z : c.low.w));
  const u32 high = k < 4u ? (u32)c.high : (u32)(c.high >> 32);
  return ((low >> (4u * (k & 1u))) & 0x0f0f0f0fu) | (((high >> (2u * (k & 3u))) & 0x03030303u) << 4);
}
