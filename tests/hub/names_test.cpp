#include "models/hub/names.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/hub/hub_fixture.h"

namespace ink {
namespace {

ModelOptions tiny(Family family) {
  return {.family = family,
          .hidden_size = 8,
          .intermediate_size = 12,
          .num_hidden_layers = 1,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 3,
          .vocab_size = 5};
}

const ParameterMap& map_named(const std::vector<ParameterMap>& maps, std::string_view name) {
  for (const ParameterMap& map : maps) {
    if (map.name == name) return map;
  }
  throw InternalError("no map " + std::string(name));
}

TEST(HfNames, EveryGoldenTensorIsNamedWithItsShape) {
  for (const std::string& name : golden_models()) {
    SCOPED_TRACE(name);
    const HfDirectory directory(golden(name));
    const std::vector<HfTensor> wanted =
        hf_tensors(hf_parameter_maps(golden_options(name), directory.names()));
    EXPECT_EQ(wanted.size(), directory.tensors().size());
    for (const HfTensor& tensor : wanted) {
      const auto found = directory.tensors().find(tensor.name);
      ASSERT_NE(found, directory.tensors().end()) << tensor.name;
      EXPECT_EQ(Shape(found->second.entry->shape), tensor.shape) << tensor.name;
    }
  }
}

// Two groups of two query heads and head_dim 3: rows q0 q1 k v of group 0, then of group 1.
TEST(HfNames, UngroupsTheFusedProjection) {
  const std::vector<ParameterMap> maps =
      hf_parameter_maps(tiny(Family::kInternLM2), HfNames::kLlama);
  const ParameterMap& fused = map_named(maps, "layers.0.attention.wqkv.weight");
  EXPECT_EQ(fused.shape, (Shape{24, 8}));
  ASSERT_EQ(fused.slices.size(), 3u);
  const auto rows = [&](size_t slice) {
    std::vector<std::vector<int64_t>> list;
    for (const RowCopy& r : fused.slices[slice].rows)
      list.push_back({r.local_row, r.hf_row, r.count});
    return list;
  };
  using Rows = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(fused.slices[0].hf_name, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(rows(0), (Rows{{0, 0, 6}, {12, 6, 6}}));
  EXPECT_EQ(fused.slices[1].hf_shape, (Shape{6, 8}));
  EXPECT_EQ(rows(1), (Rows{{6, 0, 3}, {18, 3, 3}}));
  EXPECT_EQ(rows(2), (Rows{{9, 0, 3}, {21, 3, 3}}));
}

// Every row of every tensor is named exactly once, on both sides, for every family and both
// spellings.
TEST(HfNames, RowsAreAPermutation) {
  for (const Family family : {Family::kInternLM, Family::kInternLM2, Family::kInternLM3,
                              Family::kLlama, Family::kQwen2}) {
    for (const HfNames names : {HfNames::kLlama, HfNames::kInternLM2}) {
      ModelOptions model = tiny(family);
      model.qkv_bias = model.o_bias = model.mlp_bias = true;
      const std::vector<ParameterMap> maps = hf_parameter_maps(model, names);
      for (const ParameterMap& map : maps) {
        std::set<int64_t> rows;
        for (const HfSlice& slice : map.slices) {
          for (const RowCopy& copy : slice.rows) {
            for (int64_t i = 0; i < copy.count; ++i)
              EXPECT_TRUE(rows.insert(copy.local_row + i).second) << map.name;
          }
        }
        EXPECT_EQ(static_cast<int64_t>(rows.size()), map.shape.dim(0)) << map.name;
      }
      int64_t elements = 0;
      for (const HfTensor& tensor : hf_tensors(maps))
        elements += tensor.shape.numel();  // coverage is checked inside
      EXPECT_EQ(elements, parameter_count(model));
    }
  }
}

TEST(HfNames, LayoutsThatAgreeAreCopiedWhole) {
  for (const Family family : {Family::kInternLM2, Family::kLlama}) {
    for (const ParameterMap& map : hf_parameter_maps(tiny(family), hf_names_of(family))) {
      ASSERT_EQ(map.slices.size(), 1u) << map.name;
      ASSERT_EQ(map.slices[0].rows.size(), 1u) << map.name;
      EXPECT_EQ(map.slices[0].rows[0].count, map.shape.dim(0));
    }
  }
}

TEST(HfNames, ATiedHeadIsAbsent) {
  ModelOptions model = tiny(Family::kLlama);
  EXPECT_EQ(hf_parameter_maps(model, HfNames::kLlama).back().name, "head.weight");
  model.tie_word_embeddings = true;
  EXPECT_EQ(hf_parameter_maps(model, HfNames::kLlama).back().name, "norm.weight");
}

}  // namespace
}  // namespace ink
