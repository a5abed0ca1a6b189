// The seam between model families and layouts. A family says what may be split; the builder it is
// handed decides how.
//
// A family never computes a local size and does no index arithmetic on positions. SerialBuilder
// (here) gives every rank the whole model; builders of other layouts derive from Builder. Layers
// hold references into the ParameterTable, which must outlive them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/nn/layers.h"
#include "engine/nn/parameter.h"

namespace ink {

enum class LinearSplit : uint8_t { kNone, kOut, kIn };

struct LinearSpec {
  LinearSplit split = LinearSplit::kNone;
  int64_t unit = 1;  // a split falls on multiples of this many rows (kOut) or columns (kIn)
  bool bias = false;
  float init_std = 0.02f;
};

struct HeadSpec {
  std::string tied_to = {};  // full name of the embedding whose table is the head
  float init_std = 0.02f;
};

class Builder {
 public:
  explicit Builder(ParameterTable& table) : table_(table) {}
  virtual ~Builder() = default;

  virtual std::unique_ptr<Linear> linear(std::string_view name, int64_t in, int64_t out,
                                         const LinearSpec& spec) = 0;
  virtual std::unique_ptr<Embedding> embedding(std::string_view name, int64_t vocabulary,
                                               int64_t width, float init_std) = 0;
  virtual std::unique_ptr<Norm> norm(std::string_view name, int64_t width, float eps) = 0;
  virtual std::unique_ptr<Attention> attention(const AttentionSpec& spec) = 0;
  virtual std::unique_ptr<LmHead> lm_head(std::string_view name, int64_t width, int64_t vocabulary,
                                          const HeadSpec& spec) = 0;

  // Calls make(i) for every block that this rank runs, with parameter names below `layers.i.`;
  // absent ones are nullptr.
  template <class Make>
  auto blocks(int64_t count, Make&& make) {
    std::vector<decltype(make(int64_t{0}))> made;
    for (int64_t i = 0; i < count; ++i) {
      const Scoped scope(prefix_, prefix_ + "layers." + std::to_string(i) + ".");
      made.push_back(runs_block(i) ? make(i) : nullptr);
    }
    return made;
  }

 protected:
  [[nodiscard]] virtual bool runs_block(int64_t) const { return true; }
  [[nodiscard]] std::string full_name(std::string_view name) const {
    return prefix_ + std::string(name);
  }
  ParameterTable& table_;
  std::string prefix_;
};

// Everything on one rank.
class SerialBuilder final : public Builder {
 public:
  using Builder::Builder;
  std::unique_ptr<Linear> linear(std::string_view name, int64_t in, int64_t out,
                                 const LinearSpec& spec) override;
  std::unique_ptr<Embedding> embedding(std::string_view name, int64_t vocabulary, int64_t width,
                                       float init_std) override;
  std::unique_ptr<Norm> norm(std::string_view name, int64_t width, float eps) override;
  std::unique_ptr<Attention> attention(const AttentionSpec& spec) override;
  std::unique_ptr<LmHead> lm_head(std::string_view name, int64_t width, int64_t vocabulary,
                                  const HeadSpec& spec) override;
};

}  // namespace ink
