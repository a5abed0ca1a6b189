#include "data/tokenizer/text_normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "engine/core/error.h"

namespace ink {
namespace {

// Code points below U+0300 neither combine with nor change through canonical composition.
bool is_surely_nfc(std::string_view text) {
  for (const char byte : text) {
    if (static_cast<uint8_t>(byte) >= 0xCC) return false;
  }
  return true;
}

std::string nfc(std::string_view text) {
  if (is_surely_nfc(text)) return std::string(text);
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &raw,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  CHECK(size >= 0, "NFC of {} bytes failed: {}", text.size(), utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(raw), static_cast<size_t>(size)};
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (size_t at; (at = text.find(from)) != std::string_view::npos;
       text.remove_prefix(at + from.size())) {
    out += text.substr(0, at);
    out += to;
  }
  return out += text;
}

std::string TextNormalizer::apply(std::string_view text) const {
  std::string now(text);
  for (const NormalizerStep& step : steps_) {
    switch (step.kind) {
      case NormalizerKind::kNfc:
        now = nfc(now);
        break;
      case NormalizerKind::kReplace:
        now = replace_all(now, step.from, step.to);
        break;
      case NormalizerKind::kPrepend:
        if (!now.empty()) now.insert(0, step.to);
        break;
    }
  }
  return now;
}

}  // namespace ink
