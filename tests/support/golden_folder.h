// Where the tests find what torch, transformers, sentencepiece and tokenizers computed: in
// $INKSTONE_GOLDEN, a folder with `models/` and `text/`, or else in tests/golden. All sizes come
// from the files, so that cases of other shapes are judged by the same tests.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string_view>

namespace ink {

[[nodiscard]] inline std::filesystem::path golden_root() {
  const char* elsewhere = std::getenv("INKSTONE_GOLDEN");
  if (elsewhere != nullptr && *elsewhere != '\0') return elsewhere;
  return std::filesystem::path(INKSTONE_SOURCE_DIR) / "tests/golden";
}

// For the few tests that name numbers of the files in the tree: they skip other folders with
// kOfTheTree as the reason.
[[nodiscard]] inline bool golden_is_of_the_tree() {
  return golden_root() == std::filesystem::path(INKSTONE_SOURCE_DIR) / "tests/golden";
}
inline constexpr const char* kOfTheTree = "about the files in tests/golden: unset INKSTONE_GOLDEN";

// A model, or the batches they share.
[[nodiscard]] inline std::filesystem::path golden_folder(std::string_view name) {
  return golden_root() / "models" / name;
}
[[nodiscard]] inline std::filesystem::path golden_text(std::string_view name) {
  return golden_root() / "text" / name;
}

}  // namespace ink
