/* Writes dense.bin with llama.cpp's own code: for each format, 512 weights quantised and read back.
 *
 *     cc -I llama.cpp/ggml/include -I llama.cpp/ggml/src dense.c libggml-base.a -fopenmp -lstdc++ -lm -lpthread && ./a.out
 *
 * A record: u32 type, u32 bytes of the row, the row, 512 F32 numbers as llama.cpp reads them. */
#include <stdint.h>
#include <stdio.h>

#include "ggml.h"

enum { WEIGHTS = 512 };

int main(void) {
    static float weights[WEIGHTS], back[WEIGHTS];
    static uint8_t row[8 * WEIGHTS];
    static const enum ggml_type types[] = {
        GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
        GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K,
    };
    uint32_t state = 1;
    for (int i = 0; i < WEIGHTS; i++) {
        state = (state * 1103515245u + 12345u) & 0x7fffffffu;
        weights[i] = (float) ((int) (state >> 16) - 16384) / 16384.0f * (1.0f + (float) (i / 32 % 5));
    }
    FILE *file = fopen("dense.bin", "wb");
    for (unsigned t = 0; t < sizeof types / sizeof *types; t++) {
        uint32_t type = types[t], bytes = (uint32_t) ggml_row_size(types[t], WEIGHTS);
        ggml_quantize_chunk(types[t], weights, row, 0, 1, WEIGHTS, NULL);
        ggml_get_type_traits(types[t])->to_float(row, back, WEIGHTS);
        fwrite(&type, 4, 1, file);
        fwrite(&bytes, 4, 1, file);
        fwrite(row, bytes, 1, file);
        fwrite(back, sizeof back, 1, file);
    }
    fclose(file);
    return 0;
}
