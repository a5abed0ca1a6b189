// LLaMA and what exports itself as such.
#include "models/family.h"

namespace ink {
namespace {

std::unique_ptr<Decoder> make(Builder& builder, const ModelOptions& options) {
  return std::make_unique<Decoder>(builder, options, InitStds{.embedding = 0.02f, .block = 0.02f});
}
REGISTER_MODEL(kLlama, make);

}  // namespace
}  // namespace ink
