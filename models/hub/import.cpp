#include "models/hub/import.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/core/error.h"
#include "engine/io/json.h"

namespace ink {
namespace {

constexpr int64_t kChunkElements = 1 << 20;
constexpr size_t kMaxNames = 10;

// `3 missing ("a", "b", "c")`, at most ten names.
std::string counted(std::string_view what, const std::vector<std::string>& names) {
  std::string text = fmt::format("{} {} (", names.size(), what);
  for (size_t i = 0; i < std::min(names.size(), kMaxNames); ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > kMaxNames ? ", ...)" : ")");
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

// Reads ranges of file tensors as one dtype, and counts what is not finite.
class ChunkedCopy {
 public:
  explicit ChunkedCopy(bool allow_nonfinite) : allow_nonfinite_(allow_nonfinite) {}

  void run(const HfDirectory::Location& source, const RowCopy& rows, int64_t width,
           const Tensor& target) {
    const DType from = *source.entry->dtype->native, to = target.dtype();
    const int64_t total = rows.count * width;
    for (int64_t done = 0; done < total; done += kChunkElements) {
      const int64_t count = std::min(kChunkElements, total - done);
      raw_.resize(static_cast<size_t>(count * size_of(from)));
      ready_.resize(static_cast<size_t>(count * size_of(to)));
      source.read(static_cast<uint64_t>((rows.hf_row * width + done) * size_of(from)), raw_);
      convert_elements(raw_.data(), from, ready_.data(), to, count);
      nonfinite_ += value_stats(ready_.data(), to, count).nonfinite;
      char* place =
          static_cast<char*>(target.raw()) + (rows.local_row * width + done) * size_of(to);
      target.runtime().backend().copy_from_host(place, ready_.data(), count * size_of(to));
    }
  }

  // Ends one file tensor.
  void finish(const HfDirectory::Location& source, DType to, Notices& notices) {
    const int64_t nonfinite = std::exchange(nonfinite_, 0);
    if (nonfinite == 0) return;
    const std::string message = fmt::format("{} of {} values are NaN or infinite as {}", nonfinite,
                                            source.entry->numel(), name_of(to));
    if (!allow_nonfinite_) {
      throw Error(ExitCode::kBadInput, source.place(), "expected finite values, got " + message,
                  "--allow-nonfinite loads them as they are");
    }
    notices.push_back(fmt::format("{}: loaded although {}", source.place(), message));
  }

 private:
  bool allow_nonfinite_;
  int64_t nonfinite_ = 0;
  std::vector<std::byte> raw_, ready_;
};

std::vector<float> as_floats(const HfDirectory::Location& source, int64_t first, int64_t count) {
  const DType dtype = *source.entry->dtype->native;
  std::vector<std::byte> raw(static_cast<size_t>(count * size_of(dtype)));
  source.read(static_cast<uint64_t>(first * size_of(dtype)), raw);
  std::vector<float> values(static_cast<size_t>(count));
  convert_elements(raw.data(), dtype, values.data(), DType::kF32, count);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(),
                    [](float x, float y) { return x == y || (x != x && y != y); });
}

// A tied model may carry a copy of the embedding as its head, nothing else.
void check_tied_head(const HfDirectory& directory, HfNames names) {
  const auto head = directory.tensors().find(hf_head_name(names));
  const auto embedding = directory.tensors().find(hf_embedding_name(names));
  if (head == directory.tensors().end() || embedding == directory.tensors().end()) return;
  const int64_t total = embedding->second.entry->numel();
  bool equal = head->second.entry->shape == embedding->second.entry->shape &&
               head->second.entry->dtype->native && is_float(*head->second.entry->dtype->native);
  for (int64_t done = 0; equal && done < total; done += kChunkElements) {
    const int64_t count = std::min(kChunkElements, total - done);
    equal =
        same_bits(as_floats(head->second, done, count), as_floats(embedding->second, done, count));
  }
  if (!equal) {
    throw Error(
        ExitCode::kBadInput, head->second.place(),
        fmt::format("expected a copy of {}, because tie_word_embeddings is true, got other values",
                    hf_embedding_name(names)));
  }
}

// Names, shapes and dtypes of the directory against those of the model.
class Comparison {
 public:
  Comparison(const HfDirectory& directory, const ModelOptions& model, const ImportOptions& options)
      : directory_(directory),
        names_(directory.names()),
        tensors_(hf_tensors(hf_parameter_maps(model, names_))) {
    std::set<std::string_view> wanted;
    for (const HfTensor& tensor : tensors_) {
      wanted.insert(tensor.name);
      compare(tensor, options.allow_missing);
    }
    for (const auto& [name, location] : directory.tensors()) {
      const bool tied_copy = model.tie_word_embeddings && name == hf_head_name(names_);
      if (!wanted.contains(name) && !tied_copy && !is_ignored_buffer(name))
        extra_.push_back(quote_name(name));
    }
  }

  void require_equal() const {
    std::vector<std::string> parts;
    if (!missing_.empty()) parts.push_back(counted("missing", missing_));
    if (!extra_.empty()) parts.push_back(counted("extra", extra_));
    if (!misshapen_.empty()) parts.push_back(counted("of another shape", misshapen_));
    if (!foreign_.empty()) parts.push_back(counted("of a dtype not supported", foreign_));
    if (parts.empty()) return;
    throw Error(ExitCode::kBadInput, directory_.place(),
                fmt::format("expected the {} tensors of the model, got {}", tensors_.size(),
                            fmt::join(parts, ", ")),
                missing_.empty()
                    ? ""
                    : "--allow-missing PATTERN keeps the initial values of missing tensors");
  }

  [[nodiscard]] Notices notices() const {
    if (allowed_.empty()) return {};
    return {fmt::format("{}: {}: they keep their initial values", directory_.place(),
                        counted("allowed missing", allowed_))};
  }
  [[nodiscard]] HfNames names() const { return names_; }

 private:
  void compare(const HfTensor& tensor, const std::vector<std::string>& allow_missing) {
    const auto found = directory_.tensors().find(tensor.name);
    if (found == directory_.tensors().end()) {
      (matches_any(allow_missing, tensor.name) ? allowed_ : missing_)
          .push_back(quote_name(tensor.name));
      return;
    }
    const SafetensorsEntry& entry = *found->second.entry;
    if (!std::equal(entry.shape.begin(), entry.shape.end(), tensor.shape.sizes().begin(),
                    tensor.shape.sizes().end())) {
      misshapen_.push_back(fmt::format("{}: expected {}, got {}", quote_name(tensor.name),
                                       tensor.shape.str(), shape_text(entry.shape)));
    }
    if (!entry.dtype->native || !is_float(*entry.dtype->native)) {
      foreign_.push_back(fmt::format("{}: expected F32, BF16, F16 or F64, got {}",
                                     quote_name(tensor.name), entry.dtype->name));
    }
  }

  const HfDirectory& directory_;
  HfNames names_;
  std::vector<HfTensor> tensors_;
  std::vector<std::string> missing_, allowed_, extra_, misshapen_, foreign_;
};

}  // namespace

Notices check_import(const HfDirectory& directory, const ModelOptions& model,
                     const ImportOptions& options) {
  const Comparison comparison(directory, model, options);
  comparison.require_equal();
  if (model.tie_word_embeddings) check_tied_head(directory, comparison.names());
  return comparison.notices();
}

Notices load_weights(const HfDirectory& directory, const ModelOptions& model,
                     std::span<const NamedTensor> weights, const ImportOptions& options) {
  Notices notices = check_import(directory, model, options);
  const std::vector<ParameterMap> maps = hf_parameter_maps(model, directory.names());
  std::map<std::string_view, const Tensor*> targets;
  for (const NamedTensor& weight : weights) targets[weight.name] = &weight.value;
  CHECK(targets.size() == maps.size(), "{} parameters for a model of {}", targets.size(),
        maps.size());

  ChunkedCopy copy(options.allow_nonfinite);
  for (const HfTensor& tensor : hf_tensors(maps)) {
    const auto source = directory.tensors().find(tensor.name);
    if (source == directory.tensors().end()) continue;  // allowed to be missing
    DType dtype = DType::kF32;
    for (const HfPiece& piece : tensor.pieces) {
      const ParameterMap& map = maps[piece.parameter];
      const auto target = targets.find(map.name);
      CHECK(target != targets.end() && target->second->shape() == map.shape &&
                target->second->contiguous(),
            "parameter {} of shape {} is not there", map.name, map.shape.str());
      dtype = target->second->dtype();
      copy.run(source->second, piece.rows, row_width(tensor.shape), *target->second);
    }
    copy.finish(source->second, dtype, notices);
  }
  return notices;
}

}  // namespace ink
