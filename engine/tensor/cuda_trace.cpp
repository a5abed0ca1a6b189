// Trace ranges become NVTX ranges, which Nsight Systems shows beside the kernels. Header only; a
// toolkit without the header has no ranges.
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

#include "engine/core/trace.h"

namespace ink {
namespace {

constexpr TraceListener kNvtx{.begin = [](const char* name) { nvtxRangePushA(name); },
                              .end = [] { nvtxRangePop(); }};
const bool kListening = listen_to_traces(&kNvtx);

}  // namespace
}  // namespace ink
#endif
