// The token store: one HDF5 file with tokenised, permuted documents and the pack tables cut from
// them.
//
//   /header                 u8 [n]       JSON object: the fields of StoreHeader
//   /train, /eval           groups; eval holds the documents that were held out (possibly none)
//     tokens                u16|u32 [T]  ids, u16 when vocab_size <= 65536
//     untrained             u8 [(T+7)/8] bit t%8 of byte t/8: token t is never a target
//     documents             u64 [D+1]    first token of every document, then T
//     sources               u16 [D]      index into header.sources
//     origins               u64 [D]      line or row in that source, from 1; 0 = unknown
//     packs                 u64 [P, 5]   the fields of PackRow
//
// Every data set is chunked with the Fletcher32 filter and no other: HDF5 reads a flipped bit of
// unfiltered data without a word. Documents lie in the order of Permutation(documents, seed,
// "documents"), or of NumpyShuffle(seed) where the header has `"order": "numpy"`; the first max(1,
// floor(eval_fraction * documents)) of that order are the eval split when eval_fraction > 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/packing/pack.h"

namespace ink {

inline constexpr int kStoreVersion = 1;
inline constexpr uint64_t kStoreChunk = 8192;      // elements per chunk of the 1-D data sets
inline constexpr uint64_t kStorePackChunk = 1024;  // rows per chunk of the pack tables
inline constexpr const char* kStoreFormat = "inkstone-token-store";

inline constexpr size_t kMaxStoreSources = 65536;

enum class Split { kTrain, kEval };
[[nodiscard]] const char* split_name(Split split);

struct StoreSource {
  std::string path;
  std::string sha256;  // of the file's bytes; empty when the source is not a file
};

// kNumpy: as InternEvo shuffles samples before it packs them.
enum class DocumentOrder : uint8_t { kPermuted, kNumpy };
[[nodiscard]] const char* name_of(DocumentOrder order);

// What the inputs had and the store has not.
struct StoreDrops {
  int64_t empty_documents = 0;  // without any text
  int64_t bad_rows = 0;         // malformed

  bool operator==(const StoreDrops&) const = default;
};

struct StoreHeader {
  int64_t vocab_size = 0;
  std::string tokenizer_hash;  // empty: the ids came without a tokenizer
  uint64_t seed = 0;           // below 2^63; of kNumpy below 2^32
  DocumentOrder order = DocumentOrder::kPermuted;
  int64_t max_length = 0;
  double eval_fraction = 0;
  std::vector<StoreSource> sources;
  std::string content_hash;  // SHA-256 of tokens, masks, indexes and pack tables; set by the writer
  std::optional<StoreDrops> dropped;  // set by the writer; of a store without the field: unknown

  [[nodiscard]] std::vector<std::string> source_paths() const;
  [[nodiscard]] std::string to_json() const;
  // Strict: unknown, missing, duplicate or ill-typed fields throw code 3 with `place`.
  [[nodiscard]] static StoreHeader from_json(const std::string& text, const std::string& place);
};

struct SplitSizes {
  uint64_t tokens = 0, documents = 0, packs = 0, trained = 0;
};

}  // namespace ink
