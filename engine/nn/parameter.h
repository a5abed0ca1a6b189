// The parameter table: one record per parameter, read by initialisation, reduction, norm, clip,
// optimizer, checkpoint, export, replica check and planner alike. Names and global shapes are the
// same in every layout.
//
// A builder adds records while a model is built (add), then the table allocates them on a device
// (materialize) and fills them (initialize). A rank holds the listed pieces of the global tensor;
// one rank without splits holds one piece, all of it. Values are drawn by Philox keyed by (seed,
// name, global element), so any layout starts from the same weights.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/autograd/node.h"

namespace ink {

// Directions of the process mesh, as bits, so that a set of them is a word.
enum class MeshAxis : uint32_t {
  kTensor = 1,
  kHead = 2,
  kContext = 4,
  kData = 8,
  kPipeline = 16,
  kWeight = 32,
  kExpert = 64,
  kZero = 128
};
using AxisSet = uint32_t;

// A box of the global tensor, row-major, at an element offset of the local one.
struct Piece {
  std::vector<int64_t> begin, size;
  int64_t local_offset = 0;
};

// Elements [begin, end) of the flattened local tensor, aligned to 256: what one ZeRO rank owns.
struct FlatInterval {
  int64_t begin = 0, end = 0;
};

struct InitRule {
  enum class Kind : uint8_t { kConstant, kNormal, kUniform };
  Kind kind = Kind::kConstant;
  float value = 0;  // the constant, the standard deviation, or half the width around 0
};

struct Parameter {
  std::string name;                  // layers.17.attention.wqkv.weight
  Shape shape;                       // global
  Shape local_shape;                 // of this rank's tensor
  std::vector<Piece> pieces;         // this rank's part of it
  std::optional<FlatInterval> flat;  // further cut by ZeRO
  AxisSet sharded = 0, replicated = 0;
  std::string tied_to;  // name of the parameter whose memory it shares; then it holds none itself
  bool decay = true;    // weight decay applies
  bool keep_fp32 = false;  // stored in f32 whatever the compute type
  bool frozen = false;
  InitRule init;

  // Leaf tensor in the compute type; undefined before materialize().
  Tensor tensor;
  [[nodiscard]] const std::shared_ptr<Leaf>& leaf() const { return leaf_of(tensor); }
  [[nodiscard]] const Tensor& value() const { return leaf()->value; }
  [[nodiscard]] Tensor& grad() const { return leaf()->grad; }
};

// The record of a parameter that this rank holds whole.
[[nodiscard]] Parameter whole_parameter(std::string name, const Shape& shape, InitRule init);

class ParameterTable {
 public:
  // InternalError when the name is there already.
  Parameter& add(Parameter parameter);
  [[nodiscard]] Parameter* find(std::string_view name) const;  // nullptr when absent
  [[nodiscard]] const std::vector<std::unique_ptr<Parameter>>& all() const { return parameters_; }
  [[nodiscard]] int64_t element_count() const;  // global, tied ones counted once

  // Allocates every value (tag weights) in `compute`, or f32 where keep_fp32 says so,
  // uninitialised. gradients: of the matrices that are stored in bf16; f32 or bf16. Those of norms
  // and biases stay f32: they are a few thousandths of a percent of the memory, and every one of
  // their elements sums over all tokens. Gradients are f64 beside f64 values.
  void materialize(Runtime& runtime, DType compute, DType gradients = DType::kF32);
  // Fills every value by its rule.
  void initialize(uint64_t seed);
  // The values of one parameter before rounding, f32, this rank's pieces in local order. For
  // masters.
  [[nodiscard]] static std::vector<float> initial_values(const Parameter& parameter, uint64_t seed);
  // Allocates the gradients that are not there (tag gradients), for a run that keeps them.
  void place_gradients(Runtime& runtime);
  // Forgets gradients: the next contribution overwrites. Memory is kept.
  void clear_gradients();
  // Gives their memory back, for what the next forward pass keeps.
  void release_gradients();

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
};

}  // namespace ink
