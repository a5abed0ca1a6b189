// The reference of all keys as text: `inkstone config doc` and docs/run-file.md.
#pragma once

#include <string>

namespace ink {

// Aligned plain text; only keys that contain `pattern`, all for an empty one.
std::string reference_text(const std::string& pattern = {});

// The whole page docs/run-file.md; a test compares the two.
std::string reference_page();

}  // namespace ink
