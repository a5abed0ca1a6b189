// Versions of the libraries whose arithmetic a run depends on, for logs and manifests:
// "oneDNN 2.6.3".
#pragma once

#include <string>

namespace ink {

[[nodiscard]] std::string library_versions();

}  // namespace ink
