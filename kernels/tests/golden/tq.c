/* Writes tq1_0.bin and tq2_0.bin with llama.cpp's own quantiser.
 *
 *     cc -I llama.cpp/ggml/include -I llama.cpp/ggml/src tq.c libggml-base.a -fopenmp -lstdc++ -lm -lpthread && ./a.out
 *
 * The weights are three rows of 512, scale 0.25, from the generator that write.py describes. */
#include <stdint.h>
#include <stdio.h>

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

void quantize_row_tq1_0_ref(const float *x, block_tq1_0 *y, int64_t k);
void quantize_row_tq2_0_ref(const float *x, block_tq2_0 *y, int64_t k);

enum { WEIGHTS = 3 * 512 };

int main(void) {
    static float weights[WEIGHTS];
    static block_tq1_0 one[WEIGHTS / QK_K];
    static block_tq2_0 two[WEIGHTS / QK_K];
    uint32_t state = 1;
    for (int i = 0; i < WEIGHTS; i++) {
        state = (state * 1103515245u + 12345u) & 0x7fffffffu;
        weights[i] = 0.25f * ((int) (state >> 16) % 3 - 1);
    }
    quantize_row_tq1_0_ref(weights, one, WEIGHTS);
    quantize_row_tq2_0_ref(weights, two, WEIGHTS);
    FILE *file = fopen("tq1_0.bin", "wb");
    fwrite(one, sizeof one, 1, file);
    fclose(file);
    file = fopen("tq2_0.bin", "wb");
    fwrite(two, sizeof two, 1, file);
    fclose(file);
    return 0;
}
