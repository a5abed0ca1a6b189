// What a struct of options needs to list its fields: names of enum values, allowed ranges, bytes.
//
// Every options struct has `template <class V> void fields(V& v)` that calls
// `v.field("name", member, "help", rule)` once per key. That one list parses, checks, documents and
// dumps (binder.h, dump.h, document.h); the default of a key is the member's initialiser.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

namespace ink {

template <class E>
struct Choice {
  std::string_view name;
  E value;
};

// Specialised beside each enum: `kBuilt`, an array of Choice, and optionally `kPlanned`, names that
// are reserved and answered with "is not built yet".
template <class E>
struct Choices;

// A number of bytes: `8GB` is 8*10^9, `512MiB` is 512*2^20.
struct Bytes {
  int64_t value = 0;
  friend bool operator==(const Bytes&, const Bytes&) = default;
};

// One step or an inclusive range of steps, 1-based: `10` or `[2, 5]`.
struct StepRange {
  int64_t first = 1, last = 1;
  friend bool operator==(const StepRange&, const StepRange&) = default;
};

enum class Bound { kClosed, kOpen };

// The interval that a number must lie in; for a list, every element.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  Bound low_bound = Bound::kClosed;
  Bound high_bound = Bound::kClosed;
};

constexpr Rule at_least(double low) { return {.low = low}; }
constexpr Rule above(double low) { return {.low = low, .low_bound = Bound::kOpen}; }
constexpr Rule between(double low, double high) { return {.low = low, .high = high}; }
// [low, high)
constexpr Rule below(double low, double high) {
  return {.low = low, .high = high, .high_bound = Bound::kOpen};
}
// (low, high]
constexpr Rule above_up_to(double low, double high) {
  return {.low = low, .high = high, .low_bound = Bound::kOpen};
}

}  // namespace ink
