// InternLM3: separate projections, two kv heads, dynamic NTK when it generates.
#include "models/family.h"

namespace ink {
namespace {

std::unique_ptr<Decoder> make(Builder& builder, const ModelOptions& options) {
  return std::make_unique<Decoder>(builder, options, InitStds{.embedding = 0.02f, .block = 0.02f});
}
REGISTER_MODEL(kInternLM3, make);

}  // namespace
}  // namespace ink
