// llama_logits MODEL: of rows of token ids, one on a line of the input, the logits of each position, as floats.
#include "llama.h"

#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

int main(int, char ** argv) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return 1;
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 256;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;  // it would round keys and values to half precision
    llama_context * context = llama_init_from_model(model, params);
    llama_set_causal_attn(context, false);
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::vector<llama_token> ids;
        for (llama_token id; words >> id;) {
            ids.push_back(id);
        }
        const int count = ids.size();
        llama_batch batch = llama_batch_init(count, 0, 1);
        batch.n_tokens = count;
        for (int i = 0; i < count; i++) {
            batch.token[i] = ids[i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = true;
        }
        if (llama_decode(context, batch) != 0) {
            return 2;
        }
        fwrite(llama_get_logits(context), sizeof(float), size_t(count) * vocabulary, stdout);
        llama_batch_free(batch);
    }
    return 0;
}
