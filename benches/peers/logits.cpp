// Logits of llama.cpp, teacher-forced: one row of floats for each answer token that a line `PROMPT_IDS|ANSWER_IDS` names.
//   logits MODEL LINES OUT [fa=on|off] [kv=f16|f32] [threads=N] [step=one|all] [greedy=N]
// step=one computes one answer position at a time, as generating does; step=all a whole line in one batch. With greedy
// the lines are prompts alone, and N tokens of greedy answers (end tokens are not chosen) are printed after each.
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

static std::vector<llama_token> ids(const std::string & text) {
    std::istringstream in(text);
    std::vector<llama_token> all;
    for (llama_token id; in >> id;) all.push_back(id);
    return all;
}

static void fail(const char * what) {
    std::fprintf(stderr, "logits: %s\n", what);
    std::exit(1);
}

int main(int argc, char ** argv) {
    if (argc < 4) fail("usage: logits MODEL LINES OUT [fa=on|off] [kv=f16|f32] [threads=N] [step=one|all] [greedy=N]");
    std::string fa = "on", kv = "f16", step = "one";
    int threads = 1, greedy = 0;
    for (int i = 4; i < argc; i++) {
        std::string option = argv[i];
        auto value = option.substr(option.find('=') + 1);
        if (option.rfind("fa=", 0) == 0) fa = value;
        else if (option.rfind("kv=", 0) == 0) kv = value;
        else if (option.rfind("step=", 0) == 0) step = value;
        else if (option.rfind("threads=", 0) == 0) threads = std::stoi(value);
        else if (option.rfind("greedy=", 0) == 0) greedy = std::stoi(value);
        else fail("unknown option");
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) fail("the model does not load");
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int n_vocab = llama_vocab_n_tokens(vocab);

    auto params = llama_context_default_params();
    params.n_ctx = 2048;
    params.n_threads = params.n_threads_batch = threads;
    params.flash_attn_type = fa == "on" ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = kv == "f32" ? GGML_TYPE_F32 : GGML_TYPE_F16;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) fail("no context");

    std::ifstream lines(argv[2]);
    FILE * out = std::fopen(argv[3], "wb");
    if (!lines || !out) fail("a file does not open");
    auto write = [&](int row) {
        const float * logits = llama_get_logits_ith(context, row);
        if (!logits || std::fwrite(logits, sizeof(float), n_vocab, out) != size_t(n_vocab)) fail("no logits");
    };
    auto run = [&](const llama_token * tokens, int count, int first, int wanted_from) {
        llama_batch batch = llama_batch_init(count, 0, 1);
        for (int i = 0; i < count; i++) {
            batch.token[i] = tokens[i];
            batch.pos[i] = first + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = first + i >= wanted_from;
        }
        batch.n_tokens = count;
        if (llama_decode(context, batch)) fail("decoding failed");
        for (int i = 0; i < count; i++) if (batch.logits[i]) write(i);
        llama_batch_free(batch);
    };
    for (std::string line; std::getline(lines, line);) {
        if (greedy) {
            auto tokens = ids(line);
            std::printf("%s|", line.c_str());
            llama_memory_clear(llama_get_memory(context), true);
            for (int i = 0, done = 0; i < greedy; i++) {
                if (step == "all") {
                    done = 0;
                    llama_memory_clear(llama_get_memory(context), true);
                }
                run(&tokens[done], int(tokens.size()) - done, done, int(tokens.size()) - 1);
                done = int(tokens.size());
                const float * logits = llama_get_logits_ith(context, -1);
                llama_token best = -1;
                for (llama_token id = 0; id < n_vocab; id++) {
                    if (!llama_vocab_is_eog(vocab, id) && (best < 0 || logits[id] > logits[best])) best = id;
                }
                std::printf("%s%d", i ? " " : "", best);
                tokens.push_back(best);
            }
            std::printf("\n");
            continue;
        }
        auto bar = line.find('|');
        auto tokens = ids(line.substr(0, bar)), answer = ids(line.substr(bar + 1));
        const int prompt = int(tokens.size());
        tokens.insert(tokens.end(), answer.begin(), answer.end() - 1);
        llama_memory_clear(llama_get_memory(context), true);
        if (step == "all") {
            run(tokens.data(), int(tokens.size()), 0, prompt - 1);
            continue;
        }
        run(tokens.data(), prompt, 0, prompt - 1);
        for (int i = prompt; i < int(tokens.size()); i++) run(&tokens[i], 1, i, i);
    }
    std::fclose(out);
}
