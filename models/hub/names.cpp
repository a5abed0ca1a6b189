#include "models/hub/names.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "engine/core/error.h"

namespace ink {
namespace {

struct NamePair {
  std::string_view ours, theirs;
};

// What belongs to a layer, but for q, k and v; prefixes `layers.{i}.` and `model.layers.{i}.`.
struct NameTable {
  std::string_view embedding, head;
  std::array<NamePair, 6> layer;
  std::array<std::string_view, 3> qkv;  // three names, or the fused one first
};

constexpr std::string_view kNorm = "model.norm";
constexpr NameTable kLlama{"model.embed_tokens",
                           "lm_head",
                           {{{"attention_norm", "input_layernorm"},
                             {"attention.wo", "self_attn.o_proj"},
                             {"ffn_norm", "post_attention_layernorm"},
                             {"feed_forward.w1", "mlp.gate_proj"},
                             {"feed_forward.w3", "mlp.up_proj"},
                             {"feed_forward.w2", "mlp.down_proj"}}},
                           {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}};
constexpr NameTable kInternLM2{"model.tok_embeddings",
                               "output",
                               {{{"attention_norm", "attention_norm"},
                                 {"attention.wo", "attention.wo"},
                                 {"ffn_norm", "ffn_norm"},
                                 {"feed_forward.w1", "feed_forward.w1"},
                                 {"feed_forward.w3", "feed_forward.w3"},
                                 {"feed_forward.w2", "feed_forward.w2"}}},
                               {"attention.wqkv", {}, {}}};
constexpr std::array<std::string_view, 3> kSeparate{"attention.wq", "attention.wk", "attention.wv"};
constexpr std::array<std::string_view, 3> kFused{"attention.wqkv", {}, {}};

const NameTable& table_of(HfNames names) { return names == HfNames::kLlama ? kLlama : kInternLM2; }

// A run of rows of q (part 0), k (1) or v (2), placed in one of up to three tensors.
struct Block {
  int part = 0;
  int64_t tensor = 0, row = 0, count = 0;
};

// Where the blocks of one key/value group lie, group after group: always q, k, v of group 0, then
// of group 1, so that the lists of two layouts run in step.
std::vector<Block> qkv_blocks(const ModelOptions& m, bool fused) {
  const int64_t d = m.head_dim, groups = m.num_key_value_heads;
  const int64_t q = m.num_attention_heads / groups * d;
  std::vector<Block> blocks;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t start = g * (q + 2 * d);
    blocks.push_back({0, 0, fused ? start : g * q, q});
    blocks.push_back({1, fused ? 0 : 1, fused ? start + q : g * d, d});
    blocks.push_back({2, fused ? 0 : 2, fused ? start + q + d : g * d, d});
  }
  return blocks;
}

void append(std::vector<RowCopy>& rows, RowCopy copy) {
  if (!rows.empty()) {
    RowCopy& last = rows.back();
    if (last.local_row + last.count == copy.local_row && last.hf_row + last.count == copy.hf_row) {
      last.count += copy.count;
      return;
    }
  }
  rows.push_back(copy);
}

class MapBuilder {
 public:
  MapBuilder(const ModelOptions& model, HfNames names)
      : model_(model), table_(table_of(names)), hf_fused_(names == HfNames::kInternLM2) {}

  std::vector<ParameterMap> build() {
    const int64_t h = model_.hidden_size;
    whole("embedding.weight", weight_name(table_.embedding), {model_.vocab_size, h});
    for (int64_t i = 0; i < model_.num_hidden_layers; ++i) layer(i);
    whole("norm.weight", weight_name(kNorm), {h});
    if (!model_.tie_word_embeddings) {
      whole("head.weight", weight_name(table_.head), {model_.vocab_size, h});
    }
    return std::move(maps_);
  }

 private:
  static std::string weight_name(std::string_view module) {
    return fmt::format("{}.weight", module);
  }

  void whole(std::string ours, std::string theirs, const Shape& shape) {
    maps_.push_back({std::move(ours), shape, {{std::move(theirs), shape, {{0, 0, shape.dim(0)}}}}});
  }

  void layer(int64_t i) {
    const int64_t h = model_.hidden_size, f = model_.intermediate_size;
    const int64_t wide = model_.num_attention_heads * model_.head_dim;
    const std::string ours = fmt::format("layers.{}.", i), theirs = "model." + ours;
    const auto add = [&](const NamePair& pair, const Shape& weight, bool bias) {
      const std::string a = fmt::format("{}{}", ours, pair.ours),
                        b = fmt::format("{}{}", theirs, pair.theirs);
      whole(a + ".weight", b + ".weight", weight);
      if (bias) whole(a + ".bias", b + ".bias", {weight.dim(0)});
    };
    add(table_.layer[0], {h}, false);
    qkv(ours, theirs, ".weight", h);
    if (model_.qkv_bias) qkv(ours, theirs, ".bias", 0);
    add(table_.layer[1], {h, wide}, model_.o_bias);
    add(table_.layer[2], {h}, false);
    add(table_.layer[3], {f, h}, model_.mlp_bias);
    add(table_.layer[4], {f, h}, model_.mlp_bias);
    add(table_.layer[5], {h, f}, model_.mlp_bias);
  }

  // columns 0: a bias.
  void qkv(const std::string& ours, const std::string& theirs, std::string_view suffix,
           int64_t columns) {
    const bool fused = model_.family == Family::kInternLM2;
    const std::vector<Block> local = qkv_blocks(model_, fused), hf = qkv_blocks(model_, hf_fused_);
    const auto& local_names = fused ? kFused : kSeparate;
    for (int64_t t = 0; t < (fused ? 1 : 3); ++t) {
      ParameterMap map{fmt::format("{}{}{}", ours, local_names[static_cast<size_t>(t)], suffix),
                       shape_of(fused, t, columns),
                       {}};
      for (int64_t u = 0; u < (hf_fused_ ? 1 : 3); ++u) {
        HfSlice slice{fmt::format("{}{}{}", theirs, table_.qkv[static_cast<size_t>(u)], suffix),
                      shape_of(hf_fused_, u, columns),
                      {}};
        for (size_t b = 0; b < local.size(); ++b) {
          if (local[b].tensor == t && hf[b].tensor == u) {
            append(slice.rows, {local[b].row, hf[b].row, local[b].count});
          }
        }
        if (!slice.rows.empty()) map.slices.push_back(std::move(slice));
      }
      maps_.push_back(std::move(map));
    }
  }

  Shape shape_of(bool fused, int64_t tensor, int64_t columns) const {
    const int64_t q = model_.num_attention_heads * model_.head_dim;
    const int64_t kv = model_.num_key_value_heads * model_.head_dim;
    const int64_t rows = fused ? q + 2 * kv : tensor == 0 ? q : kv;
    return columns > 0 ? Shape{rows, columns} : Shape{rows};
  }

  const ModelOptions& model_;
  const NameTable& table_;
  bool hf_fused_;
  std::vector<ParameterMap> maps_;
};

}  // namespace

HfNames hf_names_of(Family family) {
  return family == Family::kInternLM2 ? HfNames::kInternLM2 : HfNames::kLlama;
}

std::vector<ParameterMap> hf_parameter_maps(const ModelOptions& model, HfNames names) {
  CHECK(model.num_key_value_heads > 0 && model.num_attention_heads % model.num_key_value_heads == 0,
        "{} query heads, {} key/value heads", model.num_attention_heads, model.num_key_value_heads);
  return MapBuilder(model, names).build();
}

std::vector<HfTensor> hf_tensors(const std::vector<ParameterMap>& maps) {
  std::vector<HfTensor> tensors;
  std::unordered_map<std::string, size_t> index;
  for (size_t p = 0; p < maps.size(); ++p) {
    for (const HfSlice& slice : maps[p].slices) {
      const auto [it, fresh] = index.try_emplace(slice.hf_name, tensors.size());
      if (fresh) tensors.push_back({slice.hf_name, slice.hf_shape, {}});
      for (const RowCopy& rows : slice.rows) tensors[it->second].pieces.push_back({p, rows});
    }
  }
  for (HfTensor& tensor : tensors) {
    std::sort(tensor.pieces.begin(), tensor.pieces.end(),
              [](const HfPiece& a, const HfPiece& b) { return a.rows.hf_row < b.rows.hf_row; });
    int64_t covered = 0;
    for (const HfPiece& piece : tensor.pieces) {
      CHECK(piece.rows.hf_row == covered, "{}: row {} follows row {}", tensor.name,
            piece.rows.hf_row, covered);
      covered += piece.rows.count;
    }
    CHECK(covered == tensor.shape.dim(0), "{}: {} rows of {}", tensor.name, covered,
          tensor.shape.dim(0));
  }
  return tensors;
}

std::string_view hf_embedding_name(HfNames names) {
  return names == HfNames::kLlama ? "model.embed_tokens.weight" : "model.tok_embeddings.weight";
}

std::string_view hf_head_name(HfNames names) {
  return names == HfNames::kLlama ? "lm_head.weight" : "output.weight";
}

bool is_ignored_buffer(std::string_view hf_name) {
  return hf_name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace ink
