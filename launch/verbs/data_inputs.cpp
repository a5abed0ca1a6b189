#include "launch/verbs/data_verbs.h"

namespace ink {

Corpus list_inputs(const std::vector<std::string>& paths, DataFormat format) {
  Corpus all;
  for (const std::string& path : paths) {
    Corpus one = list_corpus(path, format);
    if (!all.files.empty() && one.kind != all.kind) {
      throw Error(
          ExitCode::kConfig, path,
          "expected the same kind of input as before, got text and InternEvo tokens together");
    }
    const auto first = static_cast<int32_t>(all.sources.size());
    all.kind = one.kind;
    all.files.insert(all.files.end(), one.files.begin(), one.files.end());
    for (const int32_t source : one.source_of) all.source_of.push_back(first + source);
    all.sources.insert(all.sources.end(), one.sources.begin(), one.sources.end());
  }
  return all;
}

}  // namespace ink
