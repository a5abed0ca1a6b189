#include "engine/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ink {
namespace {

TEST(DType, NamesAndSizesGoBothWays) {
  const std::pair<const char*, int64_t> known[] = {{"f64", 8}, {"f32", 4}, {"bf16", 2}, {"f16", 2},
                                                   {"i64", 8}, {"i32", 4}, {"u16", 2},  {"u8", 1}};
  for (const auto& [name, size] : known) {
    EXPECT_EQ(name_of(dtype_from_name(name)), name);
    EXPECT_EQ(size_of(dtype_from_name(name)), size) << name;
  }
  EXPECT_THROW((void)dtype_from_name("f8"), InternalError);
}

TEST(Bf16, RoundsToNearestWithTiesToEven) {
  EXPECT_EQ(bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bf16(1.0f + 0x1p-8f).bits, 0x3f80);  // a tie, down to even
  EXPECT_EQ(bf16(1.0f + 0x3p-8f).bits, 0x3f82);  // a tie, up to even
  EXPECT_EQ(bf16(1.0f + 0x1p-8f + 0x1p-20f).bits, 0x3f81);
  EXPECT_EQ(bf16(-0.0f).bits, 0x8000);
  EXPECT_EQ(bf16(3.4e38f).bits, 0x7f80);  // rounds past the largest
  EXPECT_EQ(bf16(-INFINITY).bits, 0xff80);
}

TEST(Bf16, NanStaysNan) {
  for (const uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu})
    EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(bits))))) << bits;
}

TEST(F16, RoundsToNearestWithTiesToEven) {
  EXPECT_EQ(f16(1.0f).bits, 0x3c00);
  EXPECT_EQ(f16(1.0f + 0x1p-11f).bits, 0x3c00);
  EXPECT_EQ(f16(1.0f + 0x3p-11f).bits, 0x3c02);
  EXPECT_EQ(f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(f16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(f16(1e10f).bits, 0x7c00);
  EXPECT_EQ(f16(0x1p-24f).bits, 0x0001);  // the smallest subnormal
  EXPECT_EQ(f16(0x1p-25f).bits, 0x0000);  // a tie, down to zero
  EXPECT_EQ(f16(0x3p-25f).bits, 0x0002);
  EXPECT_EQ(f16(0x1p-14f - 0x1p-26f).bits, 0x0400);  // the carry reaches the normal numbers
  EXPECT_EQ(f16(-0.0f).bits, 0x8000);
}

TEST(F16, NanStaysNan) {
  for (const uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u})
    EXPECT_TRUE(std::isnan(static_cast<float>(f16(std::bit_cast<float>(bits))))) << bits;
}

TEST(F16, EveryValueGoesThroughFloatAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    f16 value;
    value.bits = static_cast<uint16_t>(bits);
    const float wide = static_cast<float>(value);
    if (std::isnan(wide)) continue;
    ASSERT_EQ(f16(wide).bits, bits);
  }
}

TEST(DType, VisitsTheFloatTypesOnly) {
  EXPECT_EQ(visit_float(DType::kBF16, []<class T>() { return dtype_of<T>::value; }), DType::kBF16);
  EXPECT_THROW(visit_float(DType::kI32, []<class T>() {}), InternalError);
}

}  // namespace
}  // namespace ink
