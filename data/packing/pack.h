// Documents laid end to end and cut into packs: the types, and the rule that turns a range of
// tokens into inputs, labels and positions.
//
// Called by the token store and the other pack sources (ranges in) and by the loader (packs out).
// The rule (spec: pretraining, packing): a document's last label is -100; at a cut inside a
// document the label is the next real token; the first token of a document is never a target;
// positions restart at every document and after every cut; a document that goes on in the next pack
// is a new segment there, so attention does not cross the cut. All offsets and lengths count
// tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/schema/data_options.h"

namespace ink {

inline constexpr int32_t kIgnoreLabel = -100;

// One document before packing. `untrained` is empty (every token may be a target) or has one flag
// per id.
struct TokenDocument {
  std::vector<int32_t> ids;
  std::vector<uint8_t> untrained;
  int32_t source = 0;  // index into the store's list of sources
  int64_t origin = 0;  // line or row in the source, from 1; 0 = unknown
};

// A row of the pack table.
struct PackRow {
  uint64_t first_document = 0;   // document that holds the pack's first token
  uint64_t document_offset = 0;  // tokens of that document before the pack
  uint64_t token_offset = 0;     // of the pack's first token in the split
  uint64_t length = 0;
  uint64_t trained = 0;  // labels that are not -100

  bool operator==(const PackRow&) const = default;
};

// The tokens of one pack as a source delivers them.
struct TokenRange {
  std::vector<int32_t> ids;
  std::vector<uint8_t> untrained;  // one flag per id
  std::vector<int32_t> starts;     // first token of every segment; starts[0] == 0
  std::vector<int32_t> sources;    // per segment
  std::vector<int64_t> origins;    // per segment
  bool continues = false;          // the first segment began in an earlier pack
  int32_t next_label =
      kIgnoreLabel;  // label of the last token: the next token of the same document, or -100
};

// A pack that is ready for a batch. All vectors but the per-segment ones have one entry per token.
struct Pack {
  std::vector<int32_t> tokens, labels, positions;
  std::vector<int32_t> starts;   // first token of every segment
  std::vector<int32_t> sources;  // per segment
  std::vector<int64_t> origins;  // per segment
  bool continues = false;
  int64_t trained = 0;
};

// ResetPositions::kNever lets positions run from 0 through the pack; attention still stays inside
// a document.
[[nodiscard]] Pack make_pack(TokenRange range, ResetPositions reset);

}  // namespace ink
