// Preloaded into llama-diffusion-cli: the tokens that it turns into text are written to stdout, and its log, which a
// thread writes that it does not wait for (common/log.cpp), is whole when it ends.
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

struct common_log;
common_log * common_log_main();
void common_log_flush(common_log * log);

std::string common_detokenize(const llama_vocab * vocab, const std::vector<llama_token> & tokens, bool special) {
    for (llama_token token : tokens) {
        printf("%d ", token);
    }
    std::string text(64 * tokens.size(), '\0');
    const int size = llama_detokenize(vocab, tokens.data(), tokens.size(), text.data(), text.size(), false, special);
    return text.substr(0, size);
}

__attribute__((constructor)) static void prepare() {
    atexit([] { common_log_flush(common_log_main()); });
}
