#include "optim/checkpoint/seal.h"

#include "engine/core/error.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

constexpr std::string_view kOpen = "{\n", kKey = " \"sha256\": \"", kEnd = "\",\n";
constexpr size_t kDigits = 64;
constexpr size_t kBody = kOpen.size() + kKey.size() + kDigits + kEnd.size();

std::string hash_of(std::string_view body) { return sha256_of(std::as_bytes(std::span(body))); }

}  // namespace

std::string seal(std::string_view text) {
  CHECK(text.starts_with(kOpen), "a seal is for an indented JSON object");
  const std::string_view body = text.substr(kOpen.size());
  return fmt::format("{}{}{}{}{}", kOpen, kKey, hash_of(body), kEnd, body);
}

void check_seal(std::string_view text, const std::string& place) {
  const std::string start = std::string(kOpen) + std::string(kKey);
  const bool sealed = text.starts_with(start) && text.size() > kBody &&
                      text.substr(kBody - kEnd.size()).starts_with(kEnd);
  if (!sealed)
    throw Error(ExitCode::kBadInput, place, "expected the SHA-256 of the file in its second line");
  const std::string_view expected = text.substr(start.size(), kDigits);
  const std::string found = hash_of(text.substr(kBody));
  if (expected != found)
    throw Error(ExitCode::kBadInput, place,
                fmt::format("expected SHA-256 {}, got {}", expected, found));
}

}  // namespace ink
