#include "engine/tensor/tensor.h"

#include <gtest/gtest.h>

#include "tests/support/values.h"

namespace ink {
namespace {

TEST(Shape, ScalarsEmptyDimensionsAndLimits) {
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ((Shape{3, 0, 2}).numel(), 0);
  EXPECT_EQ((Shape{3, 4}).dim(-1), 4);
  EXPECT_EQ((Shape{3, 4}).str(), "[3, 4]");
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), InternalError);
  EXPECT_THROW((Shape{-1}), InternalError);
}

Tensor counting(Runtime& runtime, const Shape& shape) {
  Values values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  return from_values(runtime, values, shape, DType::kF32);
}

TEST(Tensor, ViewsShareMemoryAndKnowTheirRows) {
  Runtime runtime;
  const Tensor x = counting(runtime, {3, 4});
  EXPECT_EQ(to_values(x.slice(1, 2)), (Values{4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(to_values(x.columns(1, 2)), (Values{1, 2, 5, 6, 9, 10}));
  EXPECT_EQ(to_values(x.columns(1, 2).slice(1, 1)), (Values{5, 6}));
  EXPECT_EQ(to_values(x.flat(5, {2, 2})), (Values{5, 6, 7, 8}));
  EXPECT_TRUE(x.columns(1, 2).shares_storage(x));
  EXPECT_FALSE(x.columns(1, 2).contiguous());
  EXPECT_TRUE(x.slice(1, 1).columns(1, 2).contiguous());  // one row is always contiguous
  EXPECT_FALSE(x.sole_owner() && x.slice(0, 1).defined() && x.detach().sole_owner());
  const Tensor cube = counting(runtime, {2, 3, 4});
  EXPECT_EQ(cube.rows(), 6);
  EXPECT_EQ(to_values(cube.slice(1, 1).columns(0, 1)), (Values{12, 16, 20}));
}

TEST(Tensor, RefusesViewsThatLeaveItsMemory) {
  Runtime runtime;
  const Tensor x = counting(runtime, {3, 4});
  EXPECT_THROW((void)x.slice(2, 2), InternalError);
  EXPECT_THROW((void)x.columns(3, 2), InternalError);
  EXPECT_THROW((void)x.flat(9, {2, 2}), InternalError);
  EXPECT_THROW((void)x.reshape({5, 2}), InternalError);
  EXPECT_THROW((void)x.columns(0, 2).reshape({6}), InternalError);
  EXPECT_THROW((void)x.data<double>(), InternalError);
  EXPECT_THROW((void)to_vector<float>(x.columns(0, 2)), InternalError);
}

TEST(Tensor, HostVectorsGoInAndOut) {
  Runtime runtime;
  const std::vector<int32_t> ids{3, 1, 2};
  EXPECT_EQ(to_vector<int32_t>(to_tensor(runtime, ids)), ids);
  Tensor zeroed = zeros(runtime, {2, 2}, DType::kF64);
  EXPECT_EQ(to_vector<double>(zeroed), std::vector<double>(4, 0.0));
  copy(zeroed, from_values(runtime, {1, 2, 3, 4}, {2, 2}, DType::kF64));
  EXPECT_EQ(to_values(zeroed), (Values{1, 2, 3, 4}));
}

TEST(Tensor, EmptyOnesTakeNoMemory) {
  Runtime runtime;
  const Tensor empty(runtime, {0, 8}, DType::kF32);
  EXPECT_TRUE(empty.defined());
  EXPECT_EQ(empty.rows(), 0);
  EXPECT_EQ(runtime.allocator().report().total, 0);
}

}  // namespace
}  // namespace ink
