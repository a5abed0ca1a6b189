// SHA-256 of bytes as they pass, and of whole files (OpenSSL).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "engine/io/file.h"

namespace ink {

class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::span<const std::byte> bytes);
  // 64 lower-case hexadecimal digits; ends the computation.
  [[nodiscard]] std::string finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

[[nodiscard]] std::string sha256_of(std::span<const std::byte> bytes);
[[nodiscard]] std::string sha256_of(const File& file);

}  // namespace ink
