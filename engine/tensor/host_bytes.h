// The bytes of a tensor on the host, wherever it lies: for whoever looks at values outside of the
// kernels (self-checks, hashes).
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "engine/tensor/tensor.h"

namespace ink {

// Calls visit(std::span<const std::byte>) with all bytes of a contiguous tensor, in order: at once
// where the host sees the memory, else in pieces of 16 MiB, after the device's work so far.
template <class Visit>
void visit_host_bytes(const Tensor& tensor, Visit&& visit) {
  CHECK(tensor.contiguous(), "the bytes of a strided tensor were asked for");
  constexpr int64_t kPiece = int64_t{16} << 20;
  const auto* data = static_cast<const std::byte*>(tensor.raw());
  const int64_t total = tensor.bytes();
  if (tensor.device() == Device::kCpu) {
    visit(std::span(data, static_cast<size_t>(total)));
    return;
  }
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kPiece, total)));
  for (int64_t at = 0; at < total; at += kPiece) {
    const int64_t count = std::min(kPiece, total - at);
    tensor.runtime().backend().copy_to_host(piece.data(), data + at, count);
    visit(std::span<const std::byte>(piece.data(), static_cast<size_t>(count)));
  }
}

}  // namespace ink
