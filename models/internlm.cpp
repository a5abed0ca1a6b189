// InternLM1: multi-head attention with biases on q, k, v and the output projection (config.json:
// bias).
#include "models/family.h"

namespace ink {
namespace {

std::unique_ptr<Decoder> make(Builder& builder, const ModelOptions& options) {
  return std::make_unique<Decoder>(builder, options,
                                   InitStds{.embedding = 0.0052f, .block = 0.006f});
}
REGISTER_MODEL(kInternLM, make);

}  // namespace
}  // namespace ink
