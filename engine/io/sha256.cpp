#include "engine/io/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <vector>

#include "engine/core/error.h"

namespace ink {

struct Sha256::Context {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> evp{EVP_MD_CTX_new()};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  const bool ready =
      context_->evp && EVP_DigestInit_ex(context_->evp.get(), EVP_sha256(), nullptr) == 1;
  CHECK(ready, "OpenSSL has no SHA-256");
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  const bool ok = EVP_DigestUpdate(context_->evp.get(), bytes.data(), bytes.size()) == 1;
  CHECK(ok, "SHA-256 update of {} bytes failed", bytes.size());
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  const bool ok = EVP_DigestFinal_ex(context_->evp.get(), digest.data(), &size) == 1;
  CHECK(ok && size == 32, "SHA-256 gave {} bytes", size);
  std::string hex;
  hex.reserve(64);
  for (unsigned i = 0; i < size; ++i) fmt::format_to(std::back_inserter(hex), "{:02x}", digest[i]);
  return hex;
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string sha256_of(const File& file) {
  constexpr uint64_t kChunk = 1 << 20;
  Sha256 hash;
  std::vector<std::byte> buffer(std::min(kChunk, file.size()));
  for (uint64_t offset = 0; offset < file.size(); offset += buffer.size()) {
    buffer.resize(std::min(kChunk, file.size() - offset));
    file.read(offset, buffer);
    hash.update(buffer);
  }
  return hash.finish();
}

}  // namespace ink
