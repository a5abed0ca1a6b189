// Our parameter names beside Hugging Face's, as data.
//
// Every parameter of a model lists which rows of which foreign tensors it consists of. Import,
// export and the comparison of gradients read the same list, so a layout is written down once. Rows
// are those of the first dimension; a vector's rows are its elements.
//
// Our names: embedding.weight, layers.{i}.{attention_norm, attention.{wq,wk,wv | wqkv},
// attention.wo, ffn_norm, feed_forward.{w1,w3,w2}}.{weight,bias}, norm.weight, head.weight; w1 is
// the gate, w3 up, w2 down. InternLM2 has the fused wqkv, whose rows are grouped by key/value head:
// r query heads, then k, then v, each of head_dim rows. All other families keep wq, wk and wv
// apart.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/core/shape.h"

namespace ink {

// The two ways public checkpoints of these families spell their tensors. Llama names are also those
// of InternLM1, InternLM3 and Qwen2.
enum class HfNames { kLlama, kInternLM2 };
[[nodiscard]] HfNames hf_names_of(Family family);

struct RowCopy {
  int64_t local_row = 0, hf_row = 0, count = 0;
};

struct HfSlice {
  std::string hf_name;
  Shape hf_shape;
  std::vector<RowCopy> rows;  // in order of local_row; neighbours are merged
};

struct ParameterMap {
  std::string name;
  Shape shape;
  std::vector<HfSlice> slices;
};

// All parameters of the model in model order; a tied head is absent.
[[nodiscard]] std::vector<ParameterMap> hf_parameter_maps(const ModelOptions& model, HfNames names);

// The same list seen from the other side.
struct HfPiece {
  size_t parameter = 0;  // index into the maps
  RowCopy rows;
};
struct HfTensor {
  std::string name;
  Shape shape;
  std::vector<HfPiece> pieces;  // in order of hf_row; they cover every row once
};
[[nodiscard]] std::vector<HfTensor> hf_tensors(const std::vector<ParameterMap>& maps);

// The embedding under these names; its presence tells which names a file uses.
[[nodiscard]] std::string_view hf_embedding_name(HfNames names);
[[nodiscard]] std::string_view hf_head_name(HfNames names);
// Buffers that old checkpoints store beside their weights; computed here, never read.
[[nodiscard]] bool is_ignored_buffer(std::string_view hf_name);

}  // namespace ink
