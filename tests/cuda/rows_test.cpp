// Norms, RoPE and embedding on the card at the sizes of real models: wide rows, widths that no
// 16-byte access divides, token counts that no block divides.
#include <cmath>

#include "engine/ops/embedding.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/rope.h"
#include "tests/cuda/beside_cpu.h"

namespace ink {
namespace {

constexpr float kEps = 1e-5f;

class CudaRows : public BesideCpu {};

std::string text(int64_t rows, int64_t cols) { return fmt::format("[{}, {}]", rows, cols); }

// The last two do not fit into the registers of a block.
const std::vector<Shape> kNormShapes = {{17, 4096}, {130, 77}, {9, 4095}, {2, 9001}, {1, 92544}};

TEST_F(CudaRows, NormForward) {
  for (const Shape& shape : kNormShapes) {
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor x = side.input("x", shape), w = side.input("w", {shape.dim(1)});
          Tensor n = side.output(shape), rstd = side.output({shape.dim(0)}, DType::kF32);
          rms_norm_forward(side.device(), x, w, kEps, n, rstd);
          Tensor again = side.output(shape);
          rms_norm_apply(side.device(), x, w, rstd, again);
          return {n, rstd, again};
        },
        "rms_norm " + text(shape.dim(0), shape.dim(1)));
  }
}

TEST_F(CudaRows, NormOfASumWithAnF32Weight) {
  for (const Shape& shape : kNormShapes) {
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor x = side.input("x", shape), delta = side.input("delta", shape);
          const Tensor w = side.f32_input("w", {shape.dim(1)});
          Tensor h = side.output(shape), n = side.output(shape);
          Tensor rstd = side.output({shape.dim(0)}, DType::kF32);
          add_rms_norm_forward(side.device(), x, delta, w, kEps, h, n, rstd);
          return {h, n, rstd};
        },
        "add_rms_norm " + text(shape.dim(0), shape.dim(1)), {2e-6, 6e-3, 8e-4});
  }
}

// The gradient may lie in the memory of either incoming gradient, or there is only one.
TEST_F(CudaRows, NormBackwardInput) {
  enum class Where { kOwn, kOverDn, kOverDh, kWithoutDh };
  for (const Shape& shape : kNormShapes) {
    for (const Where where : {Where::kOwn, Where::kOverDn, Where::kOverDh, Where::kWithoutDh}) {
      expect_close(
          [&](const Side& side) -> std::vector<Tensor> {
            const Tensor h = side.input("h", shape), w = side.f32_input("w", {shape.dim(1)});
            const Tensor dn = side.input("dn", shape);
            const Tensor dh = where == Where::kWithoutDh ? Tensor() : side.input("dh", shape);
            const Values inverse(static_cast<size_t>(shape.dim(0)), 0.75);
            const Tensor rstd = side.given(inverse, {shape.dim(0)}, DType::kF32);
            Tensor dx = where == Where::kOverDn   ? dn
                        : where == Where::kOverDh ? dh
                                                  : side.output(shape);
            rms_norm_backward_input(side.device(), dn, dh, h, w, rstd, dx);
            return {dx};
          },
          "rms_norm_backward_input " + text(shape.dim(0), shape.dim(1)));
    }
  }
}

// Both gradients at once, in runs of rows or, where rows are too wide or no access fits, in turn:
// over more than one run, with a last run that is not full.
TEST_F(CudaRows, NormBackward) {
  struct Case {
    Shape shape;
    bool runs;
  };
  for (const auto& [shape, runs] :
       {Case{{35, 1032}, true}, Case{{2, 4096}, true}, Case{{17, 520}, true},
        Case{{3, 4100}, false}, Case{{2, 9000}, false}, Case{{20, 77}, false}}) {
    for (const bool over_dn : {true, false}) {
      for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAccumulate}) {
        expect_close(
            [&](const Side& side) -> std::vector<Tensor> {
              const Tensor h = side.input("h", shape), w = side.f32_input("w", {shape.dim(1)});
              const Tensor dn = side.input("dn", shape);
              const Tensor dh = over_dn ? side.input("dh", shape) : Tensor();
              const Values inverse = uniform_values("rstd", shape.dim(0), 0.5, 1.0);
              const Tensor rstd =
                  side.given(rounded(inverse, DType::kF32), {shape.dim(0)}, DType::kF32);
              Tensor dx = over_dn ? dn : side.output(shape);
              Tensor dw = side.f32_input("dw", {shape.dim(1)});
              rms_norm_backward(side.device(), dn, dh, h, w, rstd, mode, dw, dx);
              if (side.dtype == DType::kBF16 && !side.strided) {
                EXPECT_STREQ(rms_norm_backward.last_label(Device::kCuda),
                             runs ? "runs" : "in_turn");
              }
              return {dx, dw};
            },
            "rms_norm_backward " + text(shape.dim(0), shape.dim(1)));
      }
    }
  }
}

TEST_F(CudaRows, NormBackwardWeight) {
  for (const Shape& shape : {Shape{517, 1024}, Shape{300, 333}, Shape{1, 4096}, Shape{129, 9}}) {
    for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAccumulate}) {
      expect_close(
          [&](const Side& side) -> std::vector<Tensor> {
            const Tensor dn = side.input("dn", shape), h = side.input("h", shape);
            const Tensor rstd = side.f32_input("rstd", {shape.dim(0)});
            Tensor dw = mode == WriteMode::kAccumulate ? side.f32_input("dw", {shape.dim(1)})
                                                       : side.output({shape.dim(1)}, DType::kF32);
            rms_norm_backward_weight(side.device(), dn, h, rstd, mode, dw);
            return {dw};
          },
          "rms_norm_backward_weight " + text(shape.dim(0), shape.dim(1)), {2e-6, 2e-6, 2e-6});
    }
  }
}

// Far positions: the angle in f64, so the table differs from the f64 one by its rounding to f32
// alone, and neighbours differ.
TEST_F(CudaRows, RopeAnglesOfFarPositions) {
  const std::vector<int32_t> positions = {0, 1, 4095, 4096, 32767, 32768, 131071, 131072};
  constexpr int64_t kDim = 128;
  for (const RopeOptions& options :
       {RopeOptions{}, RopeOptions{1e6, 1.0}, RopeOptions{5e5, 0.25}}) {
    const Values got =
        to_values(rope_table(to_tensor<int32_t>(*card_, positions), kDim, options, DType::kF32));
    for (size_t t = 0; t < positions.size(); ++t) {
      double from_next = 0;
      for (size_t i = 0; i < kDim / 2; ++i) {
        const double angle = positions[t] * options.position_scale *
                             std::pow(options.theta, -2.0 * static_cast<double>(i) / kDim);
        EXPECT_NEAR(got[t * kDim + i], std::cos(angle), 0x1p-24) << positions[t] << " " << i;
        EXPECT_NEAR(got[t * kDim + kDim / 2 + i], std::sin(angle), 0x1p-24) << positions[t];
        for (const size_t at : {t * kDim + i, t * kDim + kDim / 2 + i})
          if (t % 2 == 0) from_next = std::max(from_next, std::abs(got[at] - got[at + kDim]));
      }
      if (t % 2 == 0) {
        EXPECT_GT(from_next, 0.05) << "positions " << positions[t] << " and the next";
      }
    }
  }
}

Tensor rope_table_of(const Side& side, int64_t tokens, int64_t head_dim) {
  std::vector<int32_t> positions;
  for (int32_t t = 0; t < tokens; ++t) positions.push_back(t * 61 % 4096);
  return rope_table(to_tensor<int32_t>(side.runtime, positions), head_dim, {},
                    side.of(DType::kF32));
}

TEST_F(CudaRows, RopeTurnsTheHeadsOfRealModels) {
  struct Heads {
    int64_t count, dim;
  };
  for (const Heads& heads : {Heads{32, 128}, Heads{3, 80}, Heads{5, 10}}) {
    for (const Rotation rotation : {Rotation::kForward, Rotation::kInverse}) {
      expect_close(
          [&](const Side& side) -> std::vector<Tensor> {
            Tensor x = side.input("x", {67, heads.count * heads.dim});
            rope_rotate(side.device(), rope_table_of(side, 67, heads.dim), rotation, x);
            return {x};
          },
          fmt::format("rope of {} heads of {}", heads.count, heads.dim));
    }
  }
}

TEST_F(CudaRows, RopeTakesFusedRowsApartAndPutsThemTogether) {
  struct Fused {
    int64_t kv_heads, ratio, dim;
  };
  for (const Fused& f : {Fused{8, 4, 128}, Fused{1, 1, 64}, Fused{3, 2, 80}, Fused{2, 5, 10}}) {
    const int64_t kv_width = f.kv_heads * f.dim, q_width = f.ratio * kv_width;
    const std::string name = fmt::format("{} groups of {} heads of {}", f.kv_heads, f.ratio, f.dim);
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          Qkv parts{side.output({67, q_width}), side.output({67, kv_width}),
                    side.output({67, kv_width})};
          rope_split(side.device(), rope_table_of(side, 67, f.dim),
                     side.input("qkv", {67, q_width + 2 * kv_width}), parts);
          return {parts.q_TC, parts.k_TC, parts.v_TC};
        },
        "split of " + name);
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          Tensor qkv = side.output({67, q_width + 2 * kv_width});
          rope_join(side.device(), rope_table_of(side, 67, f.dim),
                    {side.input("q", {67, q_width}), side.input("k", {67, kv_width}),
                     side.input("v", {67, kv_width})},
                    qkv);
          return {qkv};
        },
        "join of " + name);
  }
}

// Half of the tokens are one id, the others anything, the first and the last row among them.
Tensor skewed_ids(const Side& side, int64_t tokens, int64_t vocabulary) {
  const Values draws = uniform_values("ids", tokens, 0, 2);
  std::vector<int32_t> ids;
  for (const double draw : draws)
    ids.push_back(static_cast<int32_t>(draw < 1 ? vocabulary / 3
                                                : std::floor((draw - 1) * double(vocabulary))));
  ids.front() = 0;
  ids.back() = static_cast<int32_t>(vocabulary - 1);
  return to_tensor<int32_t>(side.runtime, ids);
}

struct Lookup {
  int64_t tokens, vocabulary, cols;
};

TEST_F(CudaRows, EmbeddingCopiesEveryBit) {
  for (const Lookup& l : {Lookup{97, 200, 4096}, Lookup{77, 50, 37}, Lookup{3, 4, 33000}}) {
    expect_equal(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor w = side.input("w", {l.vocabulary, l.cols});
          Tensor y = side.output({l.tokens, l.cols});
          embedding_forward(side.device(), skewed_ids(side, l.tokens, l.vocabulary), w, y);
          return {y};
        },
        fmt::format("embedding of {} columns", l.cols));
  }
}

// f32 gradients are the CPU's bit by bit: both add in token order. One id, one tile and many tiles
// of the sort, one and two passes.
TEST_F(CudaRows, EmbeddingGradientIsTheCpusBitByBit) {
  for (const Lookup& l : {Lookup{5003, 92544, 2}, Lookup{120, 300, 1032}, Lookup{501, 600, 37},
                          Lookup{45, 1, 8}, Lookup{2048, 512, 3}}) {
    for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAccumulate}) {
      expect_equal(
          [&](const Side& side) -> std::vector<Tensor> {
            const Tensor dy = side.input("dy", {l.tokens, l.cols});
            const Shape table{l.vocabulary, l.cols};
            Tensor dw = mode == WriteMode::kAccumulate ? side.f32_input("dw", table)
                                                       : side.output(table, DType::kF32);
            embedding_backward(side.device(), dy, skewed_ids(side, l.tokens, l.vocabulary), mode,
                               dw);
            return {dw};
          },
          fmt::format("gradient of {} tokens, {} ids, {} columns", l.tokens, l.vocabulary, l.cols));
    }
  }
}

// In a 16-bit table the sum of an id is rounded once.
TEST_F(CudaRows, EmbeddingGradientInSixteenBits) {
  expect_close(
      [](const Side& side) -> std::vector<Tensor> {
        const Tensor dy = side.input("dy", {500, 264});
        Tensor dw = side.output({64, 264});
        embedding_backward(side.device(), dy, skewed_ids(side, 500, 64), WriteMode::kOverwrite, dw);
        return {dw};
      },
      "gradient of the dtype of the table");
}

}  // namespace
}  // namespace ink
