// Up to six sizes, held inline. A shape may have no dimension (a scalar) or a dimension of zero.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "engine/core/error.h"

namespace ink {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) {
    CHECK(sizes.size() <= kMaxRank, "a shape has at most {} dimensions, got {}", int{kMaxRank},
          sizes.size());
    for (const int64_t size : sizes) {
      CHECK(size >= 0, "negative size {}", size);
      sizes_[static_cast<size_t>(rank_++)] = size;
    }
  }

  [[nodiscard]] int rank() const { return rank_; }
  // dim(-1) is the last one.
  [[nodiscard]] int64_t dim(int i) const {
    return sizes_[static_cast<size_t>(i < 0 ? i + rank_ : i)];
  }
  [[nodiscard]] int64_t operator[](int i) const { return dim(i); }
  [[nodiscard]] int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= sizes_[static_cast<size_t>(i)];
    return n;
  }
  [[nodiscard]] std::span<const int64_t> sizes() const {
    return {sizes_.data(), static_cast<size_t>(rank_)};
  }
  [[nodiscard]] std::string str() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + fmt::format("{}", dim(i));
    return text + "]";
  }
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

}  // namespace ink
