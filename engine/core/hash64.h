// A fast 64-bit hash of bytes, to find out that two copies differ: not against an adversary, and
// not for files (SHA-256 is in engine/io).
//
// Four lanes take eight bytes each in turn. Every step is invertible in the lane and in the word,
// so one changed word always changes the hash. The hash of a text does not depend on how it was cut
// into update() calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ink {

class Hash64 {
 public:
  void update(std::span<const std::byte> bytes);
  [[nodiscard]] uint64_t finish() const;  // of what came so far

 private:
  static constexpr size_t kBlock = 32;
  using Lanes = std::array<uint64_t, 4>;
  static void absorb(Lanes& lanes, const std::byte* block);

  Lanes lanes_ = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0,
                  0x082efa98ec4e6c89};  // the first digits of pi
  std::array<std::byte, kBlock> tail_{};
  uint64_t length_ = 0;
};

[[nodiscard]] inline uint64_t hash64(std::span<const std::byte> bytes) {
  Hash64 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace ink
