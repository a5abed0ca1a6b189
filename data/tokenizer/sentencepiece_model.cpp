#include "data/tokenizer/sentencepiece_model.h"

#include <array>
#include <bit>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "data/tokenizer/wire_reader.h"
#include "engine/core/error.h"
#include "engine/core/utf8.h"

namespace ink {
namespace {

constexpr size_t kMaxPieces = size_t{1} << 21;
constexpr size_t kMaxPieceBytes = 1024;  // InternLM's longest piece has 384

class ModelParser {
 public:
  ModelParser(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  SentencePieceModel parse() {
    WireReader reader(bytes_, path_);
    WireField field;
    std::array<bool, 6> seen{};
    while (reader.next(field)) {
      if (field.number > 5) continue;
      if (field.type != WireType::kBytes)
        fail(fmt::format("field {} is not a message", field.number));
      if (field.number != 1 && std::exchange(seen[field.number], true)) {
        fail(fmt::format("field {} stands twice", field.number));
      }
      switch (field.number) {
        case 1:
          add_piece(reader.inside(field));
          break;
        case 2:
          read_trainer(reader.inside(field));
          break;
        case 3:
          read_normalizer(reader.inside(field));
          break;
        case 5:
          read_denormalizer(reader.inside(field));
          break;
        default:
          break;  // 4: self-test samples
      }
    }
    check();
    return std::move(model_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::kBadInput, path_, "expected a SentencePiece model, " + what);
  }

  void add_piece(WireReader reader) {
    const size_t id = model_.pieces.size();
    if (id >= kMaxPieces) fail(fmt::format("it has more than {} pieces", kMaxPieces));
    SentencePieceEntry entry;
    WireField field;
    while (reader.next(field)) {
      if (field.number == 1 && field.type == WireType::kBytes) {
        if (field.bytes.size() > kMaxPieceBytes) {
          fail(fmt::format("piece {} has {} bytes, at most {} are allowed", id, field.bytes.size(),
                           kMaxPieceBytes));
        }
        entry.text = field.bytes;
      } else if (field.number == 2 && field.type == WireType::kFixed32) {
        entry.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
      } else if (field.number == 3 && field.type == WireType::kVarint) {
        if (field.value < 1 || field.value > 6) {
          fail(fmt::format("piece {} has the unknown type {}", id, field.value));
        }
        entry.type = static_cast<PieceType>(field.value);
      } else if (field.number <= 3) {
        fail(fmt::format("piece {} holds field {} in another wire type", id, field.number));
      }
    }
    if (entry.text.empty()) fail(fmt::format("piece {} is empty", id));
    if (find_invalid_utf8(entry.text) != std::string_view::npos) {
      fail(fmt::format("piece {} is not valid UTF-8", id));
    }
    if (!std::isfinite(entry.score)) fail(fmt::format("the score of piece {} is not finite", id));
    model_.pieces.push_back(std::move(entry));
  }

  void read_trainer(WireReader reader) {
    WireField field;
    while (reader.next(field)) {
      if (field.number == 3) {
        if (field.value != 1 && field.value != 2) {
          fail(fmt::format("model type {} is neither unigram (1) nor BPE (2)", field.value));
        }
        model_.is_bpe = field.value == 2;
      } else if (field.number == 35) {
        model_.byte_fallback = field.value != 0;
      } else if (field.number == 24 && field.value != 0) {
        fail("white space as a suffix is not supported");
      }
    }
  }

  void read_normalizer(WireReader reader) {
    WireField field;
    while (reader.next(field)) {
      switch (field.number) {
        case 2:
          refuse_character_map(field);
          break;
        case 3:
          model_.add_dummy_prefix = field.value != 0;
          break;
        case 4:
          model_.remove_extra_whitespaces = field.value != 0;
          break;
        case 5:
          model_.escape_whitespaces = field.value != 0;
          break;
        default:
          break;  // name and rule source change nothing
      }
    }
  }

  void read_denormalizer(WireReader reader) {
    WireField field;
    while (reader.next(field)) {
      if (field.number == 2) refuse_character_map(field);
    }
  }

  // The library walks this table without bounds checks, and no InternLM model has one.
  void refuse_character_map(const WireField& field) const {
    if (field.type != WireType::kBytes || !field.bytes.empty()) {
      fail(fmt::format(
          "its normaliser has a character map of {} bytes; only the identity normaliser "
          "is supported",
          field.bytes.size()));
    }
  }

  void check() const {
    if (model_.pieces.empty()) fail("it has no pieces");
    std::unordered_set<std::string_view> names;
    int unknown = 0;
    int bytes = 0;
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      const SentencePieceEntry& piece = model_.pieces[id];
      if (!names.insert(piece.text).second) {
        fail(fmt::format("piece {} ({}) stands twice", id, piece.text));
      }
      unknown += piece.type == PieceType::kUnknown;
      bytes += piece.type == PieceType::kByte;
    }
    if (unknown != 1) fail(fmt::format("it has {} unknown pieces instead of one", unknown));
    if (bytes != (model_.byte_fallback ? 256 : 0)) {
      fail(fmt::format("it has {} byte pieces, byte fallback is {}", bytes,
                       model_.byte_fallback ? "on" : "off"));
    }
    for (int byte = 0; model_.byte_fallback && byte < 256; ++byte) {
      const std::string name = fmt::format("<0x{:02X}>", byte);
      if (!names.contains(name)) fail(fmt::format("byte piece {} is missing", name));
    }
  }

  std::string_view bytes_;
  const std::string& path_;
  SentencePieceModel model_;
};

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& path) {
  return ModelParser(bytes, path).parse();
}

}  // namespace ink
