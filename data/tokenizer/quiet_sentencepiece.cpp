#include "data/tokenizer/quiet_sentencepiece.h"

#include <mutex>

// Exported by the library, its header is not installed.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);
}

namespace ink {

void quiet_sentencepiece() {
  constexpr int kFatalOnly = 3;
  static std::once_flag done;
  std::call_once(done, [] { sentencepiece::logging::SetMinLogLevel(kFatalOnly); });
}

}  // namespace ink
