#include "launch/verbs/inspect_diff.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "launch/model_source.h"
#include "models/hub/hf_directory.h"
#include "models/hub/weights.h"
#include "optim/checkpoint/load.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int64_t kChunkElements = 1 << 16;

struct TensorKind {
  std::string dtype;
  std::vector<int64_t> shape;
  std::optional<DType> native;  // set where it can be computed with

  bool operator==(const TensorKind&) const = default;
};

// Named tensors that can be read whole, one at a time.
class TensorSet {
 public:
  virtual ~TensorSet() = default;
  [[nodiscard]] const std::map<std::string, TensorKind>& kinds() const { return kinds_; }
  [[nodiscard]] virtual std::vector<std::byte> read(const std::string& name) = 0;

 protected:
  void add(const SafetensorsEntry& entry) {
    kinds_[entry.name] = {std::string(entry.dtype->name), entry.shape, entry.dtype->native};
  }
  std::map<std::string, TensorKind> kinds_;
};

std::vector<std::byte> read_entry(const SafetensorsReader& file, const SafetensorsEntry& entry) {
  std::vector<std::byte> bytes(entry.bytes());
  file.read(entry, 0, bytes);
  return bytes;
}

class FileTensors : public TensorSet {
 public:
  explicit FileTensors(const fs::path& path) : file_(SafetensorsReader::open(path)) {
    for (const SafetensorsEntry& entry : file_.table().entries()) add(entry);
  }
  std::vector<std::byte> read(const std::string& name) override {
    return read_entry(file_, *file_.table().find(name));
  }

 private:
  SafetensorsReader file_;
};

class DirectoryTensors : public TensorSet {
 public:
  explicit DirectoryTensors(const fs::path& path) : directory_(path) {
    for (const auto& [name, location] : directory_.tensors()) add(*location.entry);
  }
  std::vector<std::byte> read(const std::string& name) override {
    const HfDirectory::Location& location = directory_.tensors().at(name);
    return read_entry(*location.file, *location.entry);
  }

 private:
  HfDirectory directory_;
};

// The state of a checkpoint, gathered from whatever pieces its ranks wrote.
class CheckpointTensors : public TensorSet {
 public:
  explicit CheckpointTensors(OpenedCheckpoint checkpoint) : checkpoint_(std::move(checkpoint)) {
    for (const ManifestTensor& tensor : checkpoint_.manifest.tensors) {
      const std::span<const int64_t> sizes = tensor.shape.sizes();
      kinds_[tensor.name] = {std::string(file_dtype_of(tensor.dtype).name),
                             {sizes.begin(), sizes.end()},
                             tensor.dtype};
    }
  }
  std::vector<std::byte> read(const std::string& name) override {
    const ManifestTensor& saved = *checkpoint_.manifest.find(name);
    const Parameter whole = whole_parameter(name, saved.shape, {});
    const StateTensor wanted{name, &whole,
                             Tensor(runtime_, saved.shape, saved.dtype, MemoryTag::kWorkspace)};
    load_state(checkpoint_.path, checkpoint_.manifest, std::span(&wanted, 1));
    const auto* first = static_cast<const std::byte*>(wanted.tensor.raw());
    return {first, first + wanted.tensor.bytes()};
  }

 private:
  OpenedCheckpoint checkpoint_;
  Runtime runtime_;
};

std::unique_ptr<TensorSet> open_tensors(const fs::path& path) {
  if (!fs::is_directory(path)) return std::make_unique<FileTensors>(path);
  if (model_path_kind(path) == ModelPathKind::kHuggingFace)
    return std::make_unique<DirectoryTensors>(path);
  return std::make_unique<CheckpointTensors>(open_checkpoint(path));
}

struct Distance {
  double norm2 = 0, error2 = 0, max_abs = 0;
};

Distance distance(const std::vector<std::byte>& a, DType a_dtype, const std::vector<std::byte>& b,
                  DType b_dtype, int64_t count) {
  Distance sum;
  std::vector<double> x(kChunkElements), y(kChunkElements);
  for (int64_t done = 0; done < count; done += kChunkElements) {
    const int64_t some = std::min(kChunkElements, count - done);
    convert_elements(&a[static_cast<size_t>(done * size_of(a_dtype))], a_dtype, x.data(),
                     DType::kF64, some);
    convert_elements(&b[static_cast<size_t>(done * size_of(b_dtype))], b_dtype, y.data(),
                     DType::kF64, some);
    for (size_t i = 0; i < static_cast<size_t>(some); ++i) {
      const double error = y[i] - x[i];
      sum.norm2 += x[i] * x[i];
      sum.error2 += error * error;
      sum.max_abs = std::max(sum.max_abs, std::abs(error));
    }
  }
  return sum;
}

template <class T>
ordered_json one_or_both(const T& a, const T& b) {
  return a == b ? ordered_json(a) : ordered_json::array({a, b});
}

bool computable(const TensorKind& kind) { return kind.native && is_float(*kind.native); }

// Null where every bit is equal.
ordered_json diff_one(const std::string& name, TensorSet& a, TensorSet& b) {
  const TensorKind &x = a.kinds().at(name), &y = b.kinds().at(name);
  ordered_json line{{"name", name},
                    {"dtype", one_or_both(x.dtype, y.dtype)},
                    {"shape", one_or_both(x.shape, y.shape)},
                    {"rel_frobenius", nullptr},
                    {"max_abs", nullptr}};
  if (x.shape != y.shape) return line;
  const std::vector<std::byte> left = a.read(name), right = b.read(name);
  if (x == y && left == right) return nullptr;
  if (!computable(x) || !computable(y)) return line;
  int64_t count = 1;
  for (const int64_t size : x.shape) count *= size;
  const Distance found = distance(left, *x.native, right, *y.native, count);
  line["rel_frobenius"] = found.error2 == 0 ? 0 : std::sqrt(found.error2 / found.norm2);
  line["max_abs"] = found.max_abs;
  return line;
}

ordered_json names_missing_in(const TensorSet& set, const TensorSet& from) {
  ordered_json names = ordered_json::array();
  for (const auto& [name, kind] : from.kinds())
    if (!set.kinds().contains(name)) names.push_back(name);
  return names;
}

}  // namespace

ordered_json diff_tensors(const fs::path& path, const fs::path& other) {
  const std::unique_ptr<TensorSet> a = open_tensors(path), b = open_tensors(other);
  ordered_json different = ordered_json::array();
  int64_t common = 0;
  for (const auto& [name, kind] : a->kinds()) {
    if (!b->kinds().contains(name)) continue;
    ++common;
    if (ordered_json line = diff_one(name, *a, *b); !line.is_null())
      different.push_back(std::move(line));
  }
  ordered_json only_a = names_missing_in(*b, *a), only_b = names_missing_in(*a, *b);
  const bool equal = different.empty() && only_a.empty() && only_b.empty();
  return {{"kind", "diff"},
          {"path", path.string()},
          {"other", other.string()},
          {"equal", equal},
          {"common_tensors", common},
          {"equal_tensors", common - static_cast<int64_t>(different.size())},
          {"only_in_path", std::move(only_a)},
          {"only_in_other", std::move(only_b)},
          {"different", std::move(different)}};
}

}  // namespace ink
