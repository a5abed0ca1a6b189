#include "engine/core/philox.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ink {
namespace {

// Known answers of Random123's kat_vectors, philox4x32 with 10 rounds.
TEST(Philox, KnownAnswers) {
  const PhiloxBlock zeros = philox({0, 0}, 0, 0);
  EXPECT_EQ(zeros.v[0], 0x6627e8d5u);
  EXPECT_EQ(zeros.v[1], 0xe169c58du);
  EXPECT_EQ(zeros.v[2], 0xbc57ac4cu);
  EXPECT_EQ(zeros.v[3], 0x9b00dbd8u);
  const PhiloxBlock ones = philox({0xffffffffu, 0xffffffffu}, ~uint64_t{0}, ~uint64_t{0});
  EXPECT_EQ(ones.v[0], 0x408f276du);
  EXPECT_EQ(ones.v[1], 0x41c83b0eu);
  EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.v[3], 0x6d5451fdu);
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  const PhiloxBlock pi =
      philox({0xa4093822u, 0x299f31d0u}, 0x85a308d3243f6a88ull, 0x0370734413198a2eull);
  EXPECT_EQ(pi.v[0], 0xd16cfe09u);
  EXPECT_EQ(pi.v[1], 0x94fdccebu);
  EXPECT_EQ(pi.v[2], 0x5001e420u);
  EXPECT_EQ(pi.v[3], 0x24126ea1u);
}

TEST(Philox, UniformsAreInsideTheOpenInterval) {
  EXPECT_GT(uniform_open(0), 0.0f);
  EXPECT_LT(uniform_open(0xffffffffu), 1.0f);
}

TEST(Philox, NormalsHaveTheRightMoments) {
  const PhiloxKey key = philox_key(1, "moments");
  const int n = 100000;
  double mean = 0, square = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double x = static_cast<double>(philox_normal(key, static_cast<uint64_t>(i)));
    mean += x / n;
    square += x * x / n;
    fourth += x * x * x * x / n;
  }
  EXPECT_NEAR(mean, 0, 0.015);
  EXPECT_NEAR(square, 1, 0.02);
  EXPECT_NEAR(fourth, 3, 0.15);
}

TEST(Philox, KeysDependOnSeedAndLabel) {
  const PhiloxKey a = philox_key(1, "layers.0.w"), b = philox_key(2, "layers.0.w");
  const PhiloxKey c = philox_key(1, "layers.1.w"), again = philox_key(1, "layers.0.w");
  EXPECT_TRUE(a.k0 != b.k0 && a.k1 != b.k1);
  EXPECT_TRUE(a.k0 != c.k0 && a.k1 != c.k1);
  EXPECT_TRUE(a.k0 == again.k0 && a.k1 == again.k1);
}

}  // namespace
}  // namespace ink
