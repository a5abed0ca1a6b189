#include "engine/core/hash64.h"

#include <algorithm>
#include <cstring>

namespace ink {
namespace {

constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 divided by the golden ratio

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 32)) * kOdd;
  x = (x ^ (x >> 29)) * kOdd;
  return x ^ (x >> 32);
}

}  // namespace

void Hash64::absorb(Lanes& lanes, const std::byte* block) {
  for (size_t i = 0; i < lanes.size(); ++i) {
    uint64_t word = 0;
    std::memcpy(&word, block + i * sizeof word, sizeof word);
    lanes[i] = (lanes[i] ^ word) * kOdd;
    lanes[i] ^= lanes[i] >> 29;  // the upper bits reach the lower ones, too
  }
}

void Hash64::update(std::span<const std::byte> bytes) {
  const size_t waiting = length_ % kBlock;
  length_ += bytes.size();
  if (waiting > 0) {
    const size_t take = std::min(kBlock - waiting, bytes.size());
    std::copy_n(bytes.begin(), take, tail_.begin() + static_cast<std::ptrdiff_t>(waiting));
    if (waiting + take < kBlock) return;
    absorb(lanes_, tail_.data());
    bytes = bytes.subspan(take);
  }
  Lanes lanes = lanes_;  // in registers
  for (; bytes.size() >= kBlock; bytes = bytes.subspan(kBlock)) absorb(lanes, bytes.data());
  lanes_ = lanes;
  std::copy(bytes.begin(), bytes.end(), tail_.begin());
}

uint64_t Hash64::finish() const {
  Lanes lanes = lanes_;
  std::array<std::byte, kBlock> last{};
  std::copy_n(tail_.begin(), length_ % kBlock, last.begin());
  absorb(lanes, last.data());
  uint64_t hash = length_;
  for (const uint64_t lane : lanes) hash = mix(hash ^ lane);
  return hash;
}

}  // namespace ink
