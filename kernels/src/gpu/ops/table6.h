// Tables of 6-bit numbers, stored + 32: see table6.wgsl.
#define ZERO 32
DEVICE u32 code_word(const u32* table, u32 tile_block, u32 lane, u32 k) {
  u32 low = table[tile_block * 192u + lane * 4u + k / 2u] >> (4u * (k & 1u));
  u32 high = table[tile_block * 192u + (32u + lane / 2u) * 4u + 2u * (lane & 1u) + k / 4u] >> (2u * (k & 3u));
  return (low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4);
}
