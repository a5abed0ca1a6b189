#include "data/store/split_writer.h"

#include <algorithm>

namespace ink {
namespace {

Hdf5Table column(Hdf5File& file, Split split, const char* name, Hdf5Type type, uint64_t columns,
                 uint64_t rows) {
  const uint64_t most = columns == 0 ? kStoreChunk : kStorePackChunk;
  return file.add_table(std::string("/") + split_name(split) + "/" + name, type, columns,
                        std::clamp<uint64_t>(rows, 1, most));
}

}  // namespace

template <class Id>
SplitWriter<Id>::SplitWriter(Hdf5File& file, Split split, int64_t max_length, uint64_t tokens,
                             uint64_t documents)
    : tokens_(column(file, split, "tokens", sizeof(Id) == 2 ? Hdf5Type::kU16 : Hdf5Type::kU32, 0,
                     tokens),
              1),
      untrained_(column(file, split, "untrained", Hdf5Type::kU8, 0, tokens / 8 + 1), 1),
      documents_(column(file, split, "documents", Hdf5Type::kU64, 0, documents + 1), 1),
      sources_(column(file, split, "sources", Hdf5Type::kU16, 0, documents), 1),
      origins_(column(file, split, "origins", Hdf5Type::kU64, 0, documents), 1),
      packs_(column(file, split, "packs", Hdf5Type::kU64, kPackColumns,
                    tokens / static_cast<uint64_t>(max_length) + 1),
             kPackColumns),
      cutter_(max_length, [this](const PackRow& row) {
        for (const uint64_t cell :
             {row.first_document, row.document_offset, row.token_offset, row.length, row.trained})
          packs_.push(cell);
        ++sizes_.packs;
        sizes_.trained += row.trained;
      }) {
  documents_.push(0);
}

template <class Id>
void SplitWriter<Id>::add(const TokenDocument& document) {
  cutter_.add(document.untrained);
  for (size_t i = 0; i < document.ids.size(); ++i) {
    tokens_.push(static_cast<Id>(document.ids[i]));
    bits_ = static_cast<uint8_t>(bits_ | document.untrained[i] << (sizes_.tokens % 8));
    if (++sizes_.tokens % 8 == 0) {
      untrained_.push(bits_);
      bits_ = 0;
    }
  }
  ++sizes_.documents;
  documents_.push(sizes_.tokens);
  sources_.push(static_cast<uint16_t>(document.source));
  origins_.push(static_cast<uint64_t>(document.origin));
}

template <class Id>
SplitSizes SplitWriter<Id>::finish(ContentHash& hash) {
  if (sizes_.tokens % 8 != 0) untrained_.push(bits_);
  cutter_.finish();
  tokens_.finish(hash);
  untrained_.finish(hash);
  documents_.finish(hash);
  sources_.finish(hash);
  origins_.finish(hash);
  packs_.finish(hash);
  return sizes_;
}

template class SplitWriter<uint16_t>;
template class SplitWriter<uint32_t>;

}  // namespace ink
