// n / d for a divisor that is fixed for a launch: one multiplication and one shift.
//
// With s = ceil(log2 d) and m = floor(2^32 (2^s - d) / d) + 1, n / d = (mulhi(n, m) + n) >> s for
// 0 <= n < 2^31 (Granlund and Montgomery, "Division by Invariant Integers using Multiplication").
#pragma once

#include <cstdint>

#include "engine/core/error.h"
#include "engine/core/host_device.h"

namespace ink {

class FastDivide {
 public:
  FastDivide() = default;
  explicit FastDivide(int64_t divisor) : divisor_(static_cast<uint32_t>(divisor)) {
    CHECK(divisor >= 1 && divisor < (int64_t{1} << 31), "divisor {}", divisor);
    while ((uint64_t{1} << shift_) < divisor_) ++shift_;
    const uint64_t excess = (uint64_t{1} << shift_) - divisor_;
    multiplier_ = static_cast<uint32_t>((excess << 32) / divisor_ + 1);
  }

  [[nodiscard]] INK_HOST_DEVICE int32_t divisor() const { return static_cast<int32_t>(divisor_); }
  [[nodiscard]] INK_HOST_DEVICE int32_t quotient(int32_t n) const {
    const auto x = static_cast<uint32_t>(n);
    const auto high = static_cast<uint32_t>((uint64_t{x} * multiplier_) >> 32);
    return static_cast<int32_t>((high + x) >> shift_);
  }

 private:
  uint32_t divisor_ = 1, multiplier_ = 1, shift_ = 0;
};

}  // namespace ink
