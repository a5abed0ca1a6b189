#include "models/family.h"

#include <array>

namespace ink {
namespace {

constinit std::array<MakeModel, 8> makers{};

}  // namespace

bool register_model(Family family, MakeModel make) {
  makers[static_cast<size_t>(family)] = make;
  return true;
}

std::unique_ptr<Decoder> make_model(Builder& builder, const ModelOptions& o) {
  const MakeModel make = makers[static_cast<size_t>(o.family)];
  if (make == nullptr)
    throw Error(ExitCode::kConfig, "model.family", "this family has no model code yet");
  CHECK(o.num_key_value_heads > 0 && o.num_attention_heads % o.num_key_value_heads == 0,
        "{} heads over {} kv heads", o.num_attention_heads, o.num_key_value_heads);
  CHECK(o.head_dim > 0 && o.head_dim % 2 == 0, "head_dim {} is not a positive even number",
        o.head_dim);
  return make(builder, o);
}

}  // namespace ink
