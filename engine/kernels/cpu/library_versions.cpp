#include "engine/kernels/library_versions.h"

#include <fmt/format.h>

#ifdef INKSTONE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif

namespace ink {

std::string library_versions() {
#ifdef INKSTONE_ONEDNN
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
#else
  return "no oneDNN";
#endif
}

}  // namespace ink
