#include "data/tokenizer/tokenizer.h"

#include <openssl/evp.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "data/text/utf8.h"
#include "engine/core/error.h"

namespace ink {

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const {
  std::vector<int32_t> ids;
  append_plain(text, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  append_safe(text, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_template(std::span<const TextSegment> segments) const {
  std::vector<int32_t> ids;
  std::string run;
  const auto flush = [&] {
    append_safe(run, ids);
    run.clear();
  };
  for (const TextSegment& segment : segments) {
    std::string_view rest = segment.text;
    while (segment.origin == TextOrigin::kTemplate) {
      const SpellingMatch match = special_spellings_.find(rest);
      if (!match) break;
      run += rest.substr(0, match.begin);
      flush();
      ids.push_back(match.id);
      rest.remove_prefix(match.begin + match.length);
    }
    run += rest;
  }
  flush();
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, Specials specials) const {
  std::string bytes;
  bool first = true;
  for (const int32_t id : ids) {
    const bool special = is_special(id);
    if (special && specials == Specials::kSkip) continue;
    std::string_view piece = piece_bytes(id);
    if (first && !special && strips_first_space() && piece.starts_with(' ')) piece.remove_prefix(1);
    first = first && special;
    bytes += piece;
  }
  return repair_utf8(bytes);
}

std::optional<int32_t> Tokenizer::special_id(std::string_view spelling) const {
  const SpellingMatch match = special_spellings_.match_at(spelling);
  if (match && match.length == spelling.size()) return match.id;
  return std::nullopt;
}

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  CHECK(done == 1, "SHA-256 of {} bytes failed", bytes.size());
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string read_tokenizer_file(const std::string& path, size_t limit) {
  std::error_code status;
  if (!std::filesystem::is_regular_file(path, status)) {
    throw Error(ExitCode::kBadInput, path, "expected a tokenizer file, got no such file");
  }
  const auto size = std::filesystem::file_size(path, status);
  std::ifstream file(path, std::ios::binary);
  if (status || !file) throw Error(ExitCode::kIo, path, "expected a readable file, cannot open it");
  if (size > limit) {
    throw Error(ExitCode::kBadInput, path,
                fmt::format("expected at most {} bytes, got {}", limit, size));
  }
  std::string bytes(size, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  if (static_cast<uintmax_t>(file.gcount()) != size) {
    throw Error(ExitCode::kIo, path,
                fmt::format("expected {} bytes, read {}", size, file.gcount()));
  }
  return bytes;
}

}  // namespace ink
