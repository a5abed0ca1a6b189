// InternLM2 and 2.5: grouped-query attention from one fused wqkv, no biases.
#include "models/family.h"

namespace ink {
namespace {

std::unique_ptr<Decoder> make(Builder& builder, const ModelOptions& options) {
  return std::make_unique<Decoder>(builder, options, InitStds{.embedding = 0.02f, .block = 0.02f});
}
REGISTER_MODEL(kInternLM2, make);

}  // namespace
}  // namespace ink
