#include "engine/nn/builder.h"

namespace ink {

std::unique_ptr<Linear> SerialBuilder::linear(std::string_view name, int64_t in, int64_t out,
                                              const LinearSpec& spec) {
  Parameter& weight = table_.add(whole_parameter(full_name(name) + ".weight", {out, in},
                                                 {InitRule::Kind::kNormal, spec.init_std}));
  Parameter* bias =
      spec.bias ? &table_.add(whole_parameter(full_name(name) + ".bias", {out}, {})) : nullptr;
  return std::make_unique<Linear>(weight, bias);
}

std::unique_ptr<Embedding> SerialBuilder::embedding(std::string_view name, int64_t vocabulary,
                                                    int64_t width, float init_std) {
  return std::make_unique<Embedding>(table_.add(whole_parameter(
      full_name(name) + ".weight", {vocabulary, width}, {InitRule::Kind::kNormal, init_std})));
}

std::unique_ptr<Norm> SerialBuilder::norm(std::string_view name, int64_t width, float eps) {
  Parameter parameter =
      whole_parameter(full_name(name) + ".weight", {width}, {InitRule::Kind::kConstant, 1.0f});
  return std::make_unique<Norm>(table_.add(std::move(parameter)), eps);
}

std::unique_ptr<Attention> SerialBuilder::attention(const AttentionSpec& spec) {
  return std::make_unique<Attention>(spec);
}

std::unique_ptr<LmHead> SerialBuilder::lm_head(std::string_view name, int64_t width,
                                               int64_t vocabulary, const HeadSpec& spec) {
  Parameter parameter = whole_parameter(full_name(name) + ".weight", {vocabulary, width},
                                        {InitRule::Kind::kNormal, spec.init_std});
  parameter.tied_to = spec.tied_to;
  return std::make_unique<LmHead>(table_.add(std::move(parameter)));
}

}  // namespace ink
