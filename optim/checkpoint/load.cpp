#include "optim/checkpoint/load.h"

#include <algorithm>
#include <map>

#include "engine/io/safetensors_reader.h"
#include "optim/checkpoint/coverage.h"

namespace ink {
namespace {

// A contiguous run of one row of the overlap of two boxes: offsets in elements.
struct Run {
  int64_t from = 0, to = 0, count = 0;
};

int64_t offset_in(const Piece& piece, std::span<const int64_t> at) {
  int64_t offset = 0;
  for (size_t d = 0; d < at.size(); ++d) offset = offset * piece.size[d] + (at[d] - piece.begin[d]);
  return piece.local_offset + offset;
}

// Runs along the last dimension that lie in both boxes.
std::vector<Run> overlap(const Piece& from, const Piece& to) {
  const size_t rank = from.begin.size();
  if (rank == 0) return {{from.local_offset, to.local_offset, 1}};
  std::vector<int64_t> low(rank), high(rank);
  for (size_t d = 0; d < rank; ++d) {
    low[d] = std::max(from.begin[d], to.begin[d]);
    high[d] = std::min(from.begin[d] + from.size[d], to.begin[d] + to.size[d]);
    if (low[d] >= high[d]) return {};
  }
  std::vector<Run> runs;
  std::vector<int64_t> at = low;
  for (;;) {
    const Run run{offset_in(from, at), offset_in(to, at), high[rank - 1] - low[rank - 1]};
    if (!runs.empty() && runs.back().from + runs.back().count == run.from &&
        runs.back().to + runs.back().count == run.to) {
      runs.back().count += run.count;
    } else {
      runs.push_back(run);
    }
    size_t d = rank - 1;
    while (d-- > 0) {
      if (++at[d] < high[d]) break;
      at[d] = low[d];
    }
    if (d == static_cast<size_t>(-1)) return runs;
  }
}

class Files {
 public:
  explicit Files(std::filesystem::path checkpoint) : checkpoint_(std::move(checkpoint)) {}
  const SafetensorsReader& open(const std::string& name) {
    const auto found = files_.find(name);
    if (found != files_.end()) return found->second;
    return files_.emplace(name, SafetensorsReader::open(checkpoint_ / name)).first->second;
  }

 private:
  std::filesystem::path checkpoint_;
  std::map<std::string, SafetensorsReader> files_;
};

// Weights in another type: a card without bf16 computes and saves in fp16 where the run file says
// bf16.
std::string hint_for(const ManifestTensor& saved, const StateTensor& wanted) {
  if (saved.shape != wanted.parameter->shape || !wanted.name.starts_with("param/")) return {};
  const DType dtype = saved.dtype;
  return fmt::format("model.dtype: {} goes on from it", dtype == DType::kF16    ? "fp16"
                                                        : dtype == DType::kBF16 ? "bf16"
                                                                                : "fp32");
}

void check_kind(const ManifestTensor& saved, const StateTensor& wanted, const std::string& place) {
  if (saved.shape == wanted.parameter->shape && saved.dtype == wanted.tensor.dtype()) return;
  throw Error(
      ExitCode::kBadInput, place,
      fmt::format("{}: expected {} {}, got {} {}", wanted.name, name_of(wanted.tensor.dtype()),
                  wanted.parameter->shape.str(), name_of(saved.dtype), saved.shape.str()),
      hint_for(saved, wanted));
}

}  // namespace

void load_state(const std::filesystem::path& checkpoint, const Manifest& manifest,
                std::span<const StateTensor> tensors) {
  Files files(checkpoint);
  std::map<std::string, std::vector<const ManifestTensor*>> by_name;
  for (const ManifestTensor& t : manifest.tensors) by_name[t.name].push_back(&t);
  const std::string place = (checkpoint / "manifest.json").string();
  for (const StateTensor& wanted : tensors) {
    const std::vector<const ManifestTensor*>& saved_parts = by_name[wanted.name];
    if (saved_parts.empty())
      throw Error(ExitCode::kBadInput, place,
                  fmt::format("expected tensor {}, got none of that name", wanted.name));
    for (const ManifestTensor* saved : saved_parts) check_kind(*saved, wanted, place);
    check_global_coverage(saved_parts, place);
    const int64_t width = size_of(wanted.tensor.dtype());
    std::vector<std::byte> host(static_cast<size_t>(wanted.tensor.bytes()));
    int64_t filled = 0;
    for (const ManifestTensor* part : saved_parts) {
      const ManifestTensor& saved = *part;
      const SafetensorsReader& file = files.open(saved.file);
      const SafetensorsEntry* entry = file.table().find(saved.name);
      if (entry == nullptr)
        throw Error(ExitCode::kBadInput, file.place(),
                    fmt::format("expected tensor {}, got none of that name", saved.name));
      check_file_coverage(saved, *entry, place);
      for (const Piece& from : saved.pieces) {
        for (const Piece& to : wanted.parameter->pieces) {
          for (const Run& run : overlap(from, to)) {
            file.read(*entry, static_cast<uint64_t>(run.from * width),
                      std::span(host).subspan(static_cast<size_t>(run.to * width),
                                              static_cast<size_t>(run.count * width)));
            filled += run.count;
          }
        }
      }
    }
    if (filled != wanted.tensor.numel()) {
      throw Error(ExitCode::kBadInput, place,
                  fmt::format("{}: expected {} elements of this rank, got {}", wanted.name,
                              wanted.tensor.numel(), filled));
    }
    wanted.tensor.runtime().backend().copy_from_host(wanted.tensor.raw(), host.data(),
                                                     wanted.tensor.bytes());
  }
}

}  // namespace ink
