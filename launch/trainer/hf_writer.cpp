#include "launch/trainer/hf_writer.h"

#include <algorithm>
#include <string_view>

#include "data/tokenizer/export.h"
#include "engine/io/file.h"
#include "engine/io/sha256.h"
#include "models/hub/export.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// The snapshot's parameters as tensors of a host runtime.
std::vector<NamedTensor> weights_in(Runtime& runtime, const Snapshot& snapshot) {
  constexpr std::string_view kPrefix = "param/";
  std::vector<NamedTensor> weights;
  for (const HostTensor& host : snapshot.tensors) {
    if (!host.name.starts_with(kPrefix)) continue;
    const Tensor value(runtime, host.local_shape, host.dtype, MemoryTag::kWorkspace);
    runtime.backend().copy_from_host(value.raw(), host.bytes.data(), value.bytes());
    weights.push_back({host.name.substr(kPrefix.size()), value});
  }
  return weights;
}

std::vector<ManifestFile> list_files(const fs::path& directory) {
  std::vector<ManifestFile> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const File file = File::open(entry.path());
    files.push_back({entry.path().filename().string(), file.size(), sha256_of(file)});
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

}  // namespace

WriteHf hf_writer(Session& session) {
  const SessionPlan& plan = session.plan();
  return [model = plan.model](const fs::path& directory, const Snapshot& snapshot) {
    Runtime runtime;
    ExportOptions options{.dtype = model.compute};
    if (!model.tokenizer.empty()) {
      options.write_more = [&](const fs::path& into) { export_tokenizer(model.tokenizer, into); };
    }
    static_cast<void>(write_hf(directory, model.options, weights_in(runtime, snapshot), options));
    return list_files(directory);
  };
}

}  // namespace ink
