// Reads InternEvo's tokenised folders: `X.bin` (one `{"tokens": [...]}` line per sample) beside
// `X.bin.meta` (a NumPy array of byte offsets and token counts).
//
// Called by `data prepare` and by the loader's cache, which lay the samples end to end like any
// other documents. A negative id is a masked target: the input is its absolute value. The type id
// of a file is the index of its first-level sub-folder in sorted order; files are walked in sorted
// order. Source of the layout: InternEvo, tools/tokenizer.py and data/tokenized/single_dataset.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/packing/pack.h"
#include "engine/io/file.h"

namespace ink {

// One row of X.bin.meta.
struct MetaRow {
  int64_t offset = 0;  // of the sample's line in X.bin, bytes
  int64_t tokens = 0;
};

// Parses the bytes of a .meta file: npy version 1 or 2, int32 or int64, little endian, C order,
// shape (N, 2). Offsets must grow and lie inside of bin_size; token counts must be positive. Code 3
// with row and value.
[[nodiscard]] std::vector<MetaRow> parse_internevo_meta(std::string_view bytes,
                                                        const std::string& place, int64_t bin_size);

// One line of X.bin, its end included: nothing added, nothing truncated. Code 3 with the place.
[[nodiscard]] TokenDocument parse_internevo_line(std::string_view line, const std::string& place);

// X.bin.meta of X.bin.
[[nodiscard]] std::filesystem::path meta_of(const std::filesystem::path& bin);

struct InternEvoFile {
  std::filesystem::path path;  // X.bin
  int32_t type_id = 0;
};

struct InternEvoFolder {
  std::vector<std::string> types;  // names of the first-level sub-folders; {""} for a flat folder
  std::vector<InternEvoFile> files;
};

// Every .bin below `root`; `root` may also be one .bin file. Code 3 if there is none or, unless
// told otherwise, a .meta is missing.
enum class MetaFiles { kRequired, kAbsentToo };
[[nodiscard]] InternEvoFolder list_internevo(const std::filesystem::path& root,
                                             MetaFiles meta = MetaFiles::kRequired);
// True if `root` is a .bin file or a folder with one below it.
[[nodiscard]] bool is_internevo(const std::filesystem::path& root);

// Reads one file. Const members may be called from several threads at once.
class InternEvoReader {
 public:
  explicit InternEvoReader(const InternEvoFile& file);
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  // Sample `row` as a document: nothing added, nothing truncated; origin is row + 1.
  [[nodiscard]] TokenDocument read(int64_t row) const;

 private:
  int32_t type_id_;
  File bin_;
  std::vector<MetaRow> rows_;
};

}  // namespace ink
