// Element-wise kernels on the card at large and odd sizes, dropout masks and the cache against the
// CPU bit by bit, casts of every special value.
#include "engine/ops/elementwise.h"

#include <cmath>
#include <numeric>

#include "engine/autograd/backward.h"
#include "engine/ops/adamw.h"
#include "engine/ops/attention.h"
#include "engine/ops/step_advance.h"
#include "engine/ops/swiglu.h"
#include "tests/cuda/beside_cpu.h"

namespace ink {
namespace {

class CudaElementwise : public BesideCpu {};

const std::vector<Shape> kShapes = {{17, 4096}, {7, 4095}, {1, 92544}, {1, 100003}, {1000, 3}};

TEST_F(CudaElementwise, AddsAndAccumulatesAsTheCpu) {
  for (const Shape& shape : kShapes) {
    expect_equal(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor a = side.input("a", shape), b = side.input("b", shape);
          Tensor y = side.output(shape), into = side.input("into", shape);
          add_forward(side.device(), a, b, y);
          accumulate(side.device(), a, into);
          return {y, into};
        },
        "add " + shape.str());
  }
}

TEST_F(CudaElementwise, SumsLargeArraysCloseToF64) {
  for (const Shape& shape : kShapes) {
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor x =
              side.given(uniform_values("x", shape.numel(), 0.01, 0.03), shape, side.dtype);
          Tensor y = side.output({}, DType::kF32), wide = side.output(shape);
          sum_forward(side.device(), x, y);
          broadcast_scalar(side.device(), y, wide);
          return {y, wide};
        },
        "sum " + shape.str(), {2e-7, 4e-3, 6e-4});
  }
}

TEST_F(CudaElementwise, SwigluOfWideRows) {
  for (const Shape& shape : {Shape{5, 14336}, Shape{9, 8191}}) {
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          const Tensor gate = side.input("gate", shape), up = side.input("up", shape);
          const Tensor dy = side.input("dy", shape);
          Tensor y = side.output(shape), dgate = side.output(shape), dup = side.output(shape);
          Tensor none;
          swiglu_forward(side.device(), gate, up, y);
          swiglu_backward(side.device(), dy, gate, up, dgate, dup, none);
          return {y, dgate, dup};
        },
        "swiglu " + shape.str());
    expect_close(
        [&](const Side& side) -> std::vector<Tensor> {
          Tensor gate = side.input("gate", shape), up = side.input("up", shape);
          Tensor dy = side.input("dy", shape);
          swiglu_backward(side.device(), dy, gate, up, gate, up, dy);
          return {dy, gate, up};
        },
        "swiglu backward in place " + shape.str());
  }
}

// A grid is 65535 blocks high at most.
TEST_F(CudaElementwise, MoreStridedRowsThanAGridIsHigh) {
  const Shape shape{65537, 3};
  const auto run = [&](Runtime& runtime) {
    const Device device = runtime.device();
    const auto make = [&](const Values& values, DType dtype) {
      return strided_from_values(runtime, values, shape, dtype);
    };
    const auto input = [&](const char* label) {
      return make(rounded(normal_values(label, shape.numel()), DType::kBF16), DType::kBF16);
    };
    const Values nothing(static_cast<size_t>(shape.numel()), NAN);
    const Tensor a = input("a"), b = input("b");
    Tensor sum = make(nothing, DType::kBF16), wide = make(nothing, DType::kF32);
    Tensor dropped = make(nothing, DType::kBF16), product = make(nothing, DType::kBF16);
    std::vector<int64_t> ids(static_cast<size_t>(shape.dim(0)));
    std::iota(ids.begin(), ids.end(), 0);
    add_forward(device, a, b, sum);
    cast(device, a, wide);
    dropout_apply(device, a, to_tensor<int64_t>(runtime, ids), 0.5f, {.key = {1, 2}, .step = 3},
                  dropped);
    swiglu_forward(device, a, b, product);
    return std::vector{to_values(sum), to_values(wide), to_values(dropped), to_values(product)};
  };
  const std::vector<Values> got = run(*card_), want = run(host_);
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_LE(rel_frobenius(got[i], want[i]), i < 3 ? 0 : 4e-3) << "output " << i;
}

TEST_F(CudaElementwise, DropoutMasksAreTheCpusBitByBit) {
  for (const Shape& shape : {Shape{19, 4096}, Shape{5, 4095}, Shape{200, 6}}) {
    for (const float p : {0.1f, 0.5f, 0.999f}) {
      expect_equal(
          [&](const Side& side) -> std::vector<Tensor> {
            std::vector<int64_t> ids(static_cast<size_t>(shape.dim(0)));
            std::iota(ids.begin(), ids.end(), int64_t{1} << 40);
            Tensor y = side.output(shape);
            dropout_apply(side.device(), side.input("x", shape),
                          to_tensor<int64_t>(side.runtime, ids), p,
                          {.key = philox_key(7, "dropout.layers.3"), .step = 1234567}, y);
            return {y};
          },
          fmt::format("dropout {} of {}", p, shape.str()));
    }
  }
}

TEST_F(CudaElementwise, DropoutKeepsTheRightShareAndDiffersByStep) {
  const Shape shape{64, 4096};
  std::vector<int64_t> ids(64);
  std::iota(ids.begin(), ids.end(), 0);
  const Tensor ones = from_values(*card_, Values(64 * 4096, 1.0), shape, DType::kF32);
  std::vector<Values> masks;
  for (const int64_t step : {5, 6}) {
    Tensor y(*card_, shape, DType::kF32);
    dropout_apply(Device::kCuda, ones, to_tensor<int64_t>(*card_, ids), 0.1f,
                  {.key = {1, 2}, .step = step}, y);
    masks.push_back(to_values(y));
  }
  double kept = 0, both = 0;
  for (size_t i = 0; i < masks[0].size(); ++i) {
    kept += masks[0][i] > 0;
    both += masks[0][i] > 0 && masks[1][i] > 0;
  }
  const auto count = static_cast<double>(masks[0].size());
  EXPECT_NEAR(kept / count, 0.9, 0.005);
  EXPECT_NEAR(both / count, 0.81, 0.005);
}

TEST_F(CudaElementwise, CastsBetweenEveryPairAsTheCpu) {
  const std::vector<DType> dtypes = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16};
  for (const DType from : dtypes) {
    for (const DType to : dtypes) {
      for (const Shape& shape : {Shape{9, 2048}, Shape{5, 2047}}) {
        Values values = normal_values("x", shape.numel());
        for (size_t i = 0; i < values.size(); i += 3)
          values[i] *= std::pow(10.0, double(i % 80) - 40);
        const auto run = [&](Runtime& runtime) {
          const Tensor x = strided_from_values(runtime, values, shape, from);
          Tensor y = strided_from_values(runtime, Values(values.size(), NAN), shape, to);
          cast(runtime.device(), x, y);
          Tensor dense(runtime, shape, to);
          cast(runtime.device(), from_values(runtime, values, shape, from), dense);
          EXPECT_EQ(to_values(dense), to_values(y));
          return to_values(y);
        };
        EXPECT_EQ(run(*card_), run(host_)) << name_of(from) << " to " << name_of(to);
      }
    }
  }
}

TEST_F(CudaElementwise, CastsKeepNanAndInfinity) {
  const float thin = std::bit_cast<float>(0x7f800001u);  // the NaN of the smallest payload
  const std::vector<float> special = {thin,    -thin,  INFINITY, -INFINITY, 0.0f, -0.0f,
                                      3.4e38f, 1e-45f, 65519.9f, 65520.0f,  1.0f, -2.5f};
  for (const DType to : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    const auto run = [&](Runtime& runtime) {
      return to_values(to_dtype(to_tensor<float>(runtime, special), to));
    };
    const Values got = run(*card_), want = run(host_);
    for (size_t i = 0; i < special.size(); ++i) {
      EXPECT_EQ(std::isnan(got[i]), std::isnan(want[i])) << special[i] << " to " << name_of(to);
      if (std::isnan(want[i])) continue;
      EXPECT_EQ(got[i], want[i]) << special[i] << " to " << name_of(to);
      EXPECT_EQ(std::signbit(got[i]), std::signbit(want[i])) << special[i] << " to " << name_of(to);
    }
  }
}

TEST_F(CudaElementwise, FillsEveryElement) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int64_t count : {1, 1000003}) {
      Tensor y = from_values(*card_, Values(static_cast<size_t>(count), NAN), {count}, dtype);
      fill(Device::kCuda, -1.5, y);
      EXPECT_EQ(to_values(y), Values(static_cast<size_t>(count), -1.5)) << name_of(dtype);
    }
  }
}

// Kernels over many tensors sort them by type: none may be left out without a word.
TEST_F(CudaElementwise, TensorsOfATypeThatNoKernelTakesAreRefused) {
  const auto ones = [&](DType dtype) { return from_values(*card_, {1, 1}, {2}, dtype); };
  Tensor sum = zeros(*card_, {}, DType::kF64), each = zeros(*card_, {2}, DType::kF64);
  const std::vector<Tensor> mixed = {ones(DType::kF32), ones(DType::kF64)};
  EXPECT_THROW(sum_squares_many(Device::kCuda, mixed, each, sum), Error);
  const Tensor state = step_state_tensor(*card_, {.bias1 = 1, .bias2 = 1});
  const auto update = [&](DType param, DType moments) {
    const std::vector<AdamWItem> items = {{.grad = ones(DType::kF32),
                                           .param = ones(param),
                                           .master = {},
                                           .m = ones(moments),
                                           .v = ones(moments),
                                           .options = {}}};
    adamw_update_many(Device::kCuda, items, state);
  };
  EXPECT_NO_THROW(update(DType::kF32, DType::kBF16));
  EXPECT_THROW(update(DType::kF32, DType::kF16), Error);
  EXPECT_THROW(update(DType::kF64, DType::kF32), Error);
  EXPECT_THROW(update(DType::kF16, DType::kF32), Error);
}

// Sequences of unequal lengths, one of them without new tokens; rows after the last query are
// padding. What no token names keeps its values.
TEST_F(CudaElementwise, CacheRowsAreTheCpusBitByBit) {
  for (const int64_t dim : {128, 20, 5}) {
    expect_equal(
        [dim](const Side& side) -> std::vector<Tensor> {
          const int64_t columns = 3 * dim, block = 4;
          const Tensor kv = side.input("kv", {11, 2 * columns});
          const Tensor k = kv.columns(0, columns), v = kv.columns(columns, columns);
          const auto integers = [&](const std::vector<int32_t>& values, const Shape& shape) {
            return to_tensor<int32_t>(side.runtime, values, shape);
          };
          KvCacheView cache{
              side.input("k", {6 * block, columns}), side.input("v", {6 * block, columns}),
              integers({4, 1, 0, 3, 5, 2}, {3, 2}),  integers({7, 3, 5}, {3}),
              integers({0, 4, 4, 9}, {4}),           block};
          kv_cache_append(side.device(), k, v, cache);
          return {cache.k, cache.v};
        },
        fmt::format("cache of heads of {}", dim));
  }
}

}  // namespace
}  // namespace ink
