#include "data/tokenizer/tokenizer_json_pipeline.h"

#include <utility>

namespace ink {
namespace {

using nlohmann::json;

// GPT-2's pattern, which "ByteLevel" with use_regex applies.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Calls part(reader, type) for a component, or for each member of one of type "Sequence".
template <class Part>
void for_each_part(const JsonReader& root, std::string_view key, std::string_view list_key,
                   Part&& part) {
  if (!root.has(key)) return;
  const JsonReader component = root.object(key);
  const std::string type = component.string("type");
  if (type != "Sequence") {
    part(component, type);
    return;
  }
  const json& list = component.at(list_key);
  if (!list.is_array()) throw component.error(list_key, "a list");
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonReader member(list[i], root.place(), fmt::format("{}.{}[{}]", key, list_key, i));
    part(member, member.string("type"));
  }
}

// {"String": "x"} or {"Regex": "x"}
SplitPattern read_pattern(const JsonReader& part) {
  const JsonReader pattern = part.object("pattern");
  if (pattern.has("Regex"))
    return {pattern.string("Regex"), PatternKind::kRegex, SplitBehavior::kIsolated};
  return {pattern.string("String"), PatternKind::kLiteral, SplitBehavior::kIsolated};
}

NormalizerStep read_replacement(const JsonReader& part) {
  const SplitPattern pattern = read_pattern(part);
  if (pattern.kind != PatternKind::kLiteral || pattern.pattern.empty()) {
    throw part.error("pattern", "a non-empty String");
  }
  return {NormalizerKind::kReplace, pattern.pattern, part.string("content")};
}

void read_normalizer(const JsonReader& root, TokenizerSpec& spec) {
  for_each_part(
      root, "normalizer", "normalizers", [&](const JsonReader& part, const std::string& type) {
        if (type == "NFC") {
          spec.normalizer.push_back({NormalizerKind::kNfc, {}, {}});
        } else if (type == "Replace") {
          spec.normalizer.push_back(read_replacement(part));
        } else if (type == "Prepend") {
          spec.normalizer.push_back({NormalizerKind::kPrepend, {}, part.string("prepend")});
        } else {
          throw part.error("type", "a normalizer NFC, Replace, Prepend or Sequence");
        }
      });
}

void read_byte_level(const JsonReader& part, TokenizerSpec& spec) {
  if (part.boolean_or("add_prefix_space", true)) {
    throw part.error("add_prefix_space", "false (a prefix space is not supported)");
  }
  if (part.boolean_or("use_regex", true)) {
    spec.splits.push_back(
        {std::string(kGpt2Pattern), PatternKind::kRegex, SplitBehavior::kIsolated});
  }
  spec.byte_level = true;
}

void read_split(const JsonReader& part, TokenizerSpec& spec) {
  const std::string behavior = part.string("behavior");
  if (behavior != "Isolated" && behavior != "MergedWithPrevious") {
    throw part.error("behavior", "Isolated or MergedWithPrevious");
  }
  if (part.boolean_or("invert", false)) throw part.error("invert", "false");
  SplitPattern pattern = read_pattern(part);
  if (pattern.pattern.empty()) throw part.error("pattern", "a non-empty pattern");
  if (behavior == "MergedWithPrevious") pattern.behavior = SplitBehavior::kMergedWithPrevious;
  spec.splits.push_back(std::move(pattern));
}

// Metaspace that neither splits nor adds a prefix is a replacement of the space.
void read_metaspace(const JsonReader& part, TokenizerSpec& spec) {
  if (part.boolean_or("split", true)) throw part.error("split", "false");
  if (!part.has("prepend_scheme") || part.string("prepend_scheme") != "never") {
    throw part.error("prepend_scheme", "never");
  }
  spec.normalizer.push_back({NormalizerKind::kReplace, " ", part.string("replacement")});
}

void read_pre_tokenizer(const JsonReader& root, TokenizerSpec& spec) {
  for_each_part(
      root, "pre_tokenizer", "pretokenizers", [&](const JsonReader& part, const std::string& type) {
        if (spec.byte_level) throw part.error("type", "nothing behind ByteLevel");
        if (type == "ByteLevel") {
          read_byte_level(part, spec);
        } else if (type == "Split") {
          read_split(part, spec);
        } else if (type == "Digits") {
          const bool single = part.boolean_or("individual_digits", false);
          spec.splits.push_back(
              {single ? "\\p{N}" : "\\p{N}+", PatternKind::kRegex, SplitBehavior::kIsolated});
        } else if (type == "Metaspace") {
          read_metaspace(part, spec);
        } else {
          throw part.error("type",
                           "a pre-tokenizer ByteLevel, Split, Digits, Metaspace or Sequence");
        }
      });
}

// A template may put one token in front of the text, nothing else.
void read_template(const JsonReader& part, TokenizerSpec& spec) {
  const json& single = part.at("single");
  const bool is_list = single.is_array() && !single.empty() && single.size() <= 2;
  if (!is_list || !single.back().is_object() || !single.back().contains("Sequence")) {
    throw part.error("single", "a template [text] or [special token, text]");
  }
  if (single.size() == 1) return;
  const JsonReader first(single.front(), part.place(), "post_processor.single[0]");
  spec.bos = first.object("SpecialToken").string("id");
}

void read_post_processor(const JsonReader& root, TokenizerSpec& spec) {
  for_each_part(
      root, "post_processor", "processors", [&](const JsonReader& part, const std::string& type) {
        if (type == "TemplateProcessing") {
          read_template(part, spec);
        } else if (type != "ByteLevel") {  // which only moves offsets
          throw part.error("type", "a post-processor TemplateProcessing, ByteLevel or Sequence");
        }
      });
}

void read_strip(const JsonReader& part, TokenizerSpec& spec) {
  if (part.string("content") != " ") throw part.error("content", "a space");
  const int64_t start = part.integer("start", 0, 1);
  if (part.integer("stop", 0, 0) == 0 && start == 1) spec.decoder_strips_first_space = true;
}

void read_decoder(const JsonReader& root, TokenizerSpec& spec) {
  bool byte_level = false;
  for_each_part(root, "decoder", "decoders", [&](const JsonReader& part, const std::string& type) {
    if (type == "ByteLevel") {
      byte_level = true;
    } else if (type == "Replace") {
      spec.decoder_steps.push_back(read_replacement(part));
    } else if (type == "Strip") {
      read_strip(part, spec);
    } else if (type == "Metaspace") {
      spec.decoder_steps.push_back({NormalizerKind::kReplace, part.string("replacement"), " "});
    } else if (type != "ByteFallback" && type != "Fuse") {  // implied: pieces are joined as bytes
      throw part.error(
          "type", "a decoder ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace or Sequence");
    }
  });
  if (byte_level != spec.byte_level) {
    throw root.error("decoder", spec.byte_level ? "ByteLevel, as the pre-tokenizer"
                                                : "no ByteLevel, as the pre-tokenizer");
  }
}

}  // namespace

void read_pipeline(const JsonReader& root, TokenizerSpec& spec) {
  read_normalizer(root, spec);
  read_pre_tokenizer(root, spec);
  read_post_processor(root, spec);
  read_decoder(root, spec);
}

}  // namespace ink
