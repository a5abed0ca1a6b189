// A JSON text that carries the SHA-256 of itself: the first member is `"sha256"`, and the hash is
// of every byte behind its line. So no byte of a manifest can change unseen.
#pragma once

#include <string>
#include <string_view>

namespace ink {

// text: a JSON object as dump(1) prints it.
[[nodiscard]] std::string seal(std::string_view text);
// Error 3 with the place, the expected and the found hash.
void check_seal(std::string_view text, const std::string& place);

}  // namespace ink
