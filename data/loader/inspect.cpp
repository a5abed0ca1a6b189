#include "data/loader/inspect.h"

#include <fmt/format.h>

#include <utility>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr const char* kGrey = "\033[90m";
constexpr const char* kGreen = "\033[32m";
constexpr const char* kPlain = "\033[0m";

// Whether the token is a target anywhere: its own mask is not in the pack, the label before it is.
bool is_trained(const Pack& pack, size_t i, bool first) {
  return !first && pack.labels[i - 1] != kIgnoreLabel;
}

struct Span {
  size_t begin = 0, end = 0;
  bool trained = false;
};

struct Segment {
  size_t begin = 0, end = 0, index = 0;
};

std::vector<Segment> segments_of(const Pack& pack) {
  std::vector<Segment> segments;
  for (size_t s = 0; s < pack.starts.size(); ++s) {
    const size_t end =
        s + 1 < pack.starts.size() ? static_cast<size_t>(pack.starts[s + 1]) : pack.tokens.size();
    segments.push_back({static_cast<size_t>(pack.starts[s]), end, s});
  }
  return segments;
}

// Runs of equal training within a segment.
std::vector<Span> spans_of(const Pack& pack, const Segment& segment) {
  std::vector<Span> spans;
  for (size_t i = segment.begin; i < segment.end; ++i) {
    const bool trained = is_trained(pack, i, i == segment.begin);
    if (spans.empty() || spans.back().trained != trained) spans.push_back({i, i, trained});
    spans.back().end = i + 1;
  }
  return spans;
}

// The text of a span: specials by name and id, the rest decoded together.
std::string span_text(const Pack& pack, const Span& span, const PieceText& text) {
  std::string out;
  std::vector<int32_t> run;
  const auto flush = [&] {
    if (run.empty()) return;
    out += text.decode ? text.decode(run) : fmt::format("{}", fmt::join(run, " "));
    run.clear();
  };
  for (size_t i = span.begin; i < span.end; ++i) {
    const int32_t id = pack.tokens[i];
    if (!text.is_special || !text.is_special(id)) {
      run.push_back(id);
      continue;
    }
    flush();
    out += fmt::format("<{}:{}>", text.piece ? text.piece(id) : "special", id);
  }
  flush();
  return out;
}

std::string segment_title(const InspectedPack& shown, const Segment& segment) {
  const Pack& pack = shown.pack;
  int64_t trained = 0;
  for (size_t i = segment.begin; i < segment.end; ++i) trained += pack.labels[i] != kIgnoreLabel;
  std::string title =
      fmt::format("document {}: {}, {} tokens, {} trained", segment.index,
                  shown.places[segment.index], segment.end - segment.begin, trained);
  if (segment.index == 0 && pack.continues) title += ", continued";
  if (segment.end == pack.tokens.size() && pack.labels.back() != kIgnoreLabel)
    title += ", cut at the end";
  return title;
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

PieceText piece_text(const std::shared_ptr<const Tokenizer>& tokenizer) {
  if (!tokenizer) return {};
  return {.decode =
              [tokenizer](const std::vector<int32_t>& ids) {
                return tokenizer->decode(ids, Specials::kKeep);
              },
          .piece = [tokenizer](int32_t id) { return tokenizer->id_to_piece(id); },
          .is_special = [tokenizer](int32_t id) { return tokenizer->is_special(id); }};
}

InspectedPack inspected(const std::string& what, Pack pack,
                        const std::vector<std::string>& source_names) {
  InspectedPack shown;
  for (size_t s = 0; s < pack.starts.size(); ++s) {
    const std::string& file = source_names.at(static_cast<size_t>(pack.sources[s]));
    shown.places.push_back(pack.origins[s] > 0 ? fmt::format("{}:{}", file, pack.origins[s])
                                               : file);
  }
  const size_t documents = pack.starts.size();
  shown.heading =
      fmt::format("{}: {}, {} tokens, {} trained, {} document{}", what,
                  shown.places.empty() ? "empty" : shown.places.front(), pack.tokens.size(),
                  pack.trained, documents, documents == 1 ? "" : "s");
  shown.pack = std::move(pack);
  return shown;
}

std::string show_pack(const InspectedPack& shown, const PieceText& text, InspectColor color,
                      UntrainedSpans untrained) {
  const Pack& pack = shown.pack;
  std::string out;
  for (const Segment& segment : segments_of(pack)) {
    out += fmt::format("──── {} ────\n", segment_title(shown, segment));
    for (const Span& span : spans_of(pack, segment)) {
      const bool counted = !span.trained && untrained == UntrainedSpans::kCounted;
      const std::string words =
          counted ? fmt::format("{} tokens", span.end - span.begin) : span_text(pack, span, text);
      if (color == InspectColor::kAnsi && !counted) {
        out += fmt::format("{}{}{}", span.trained ? kGreen : kGrey, words, kPlain);
      } else {
        out += span.trained ? words : "⟦" + words + "⟧";
      }
    }
    out += '\n';
  }
  return out;
}

std::string show_columns(const Pack& pack, const PieceText& text) {
  std::string out = "place\tdocument\tposition\tid\tpiece\tlabel\n";
  for (const Segment& segment : segments_of(pack))
    for (size_t i = segment.begin; i < segment.end; ++i)
      out +=
          fmt::format("{}\t{}\t{}\t{}\t{}\t{}\n", i, segment.index, pack.positions[i],
                      pack.tokens[i], text.piece ? text.piece(pack.tokens[i]) : "", pack.labels[i]);
  return out;
}

std::string show_html(const std::vector<InspectedPack>& all, const PieceText& text,
                      const std::string& title) {
  std::string out = fmt::format(
      "<!doctype html><html><head><meta charset=\"utf-8\"><title>{0}</title><style>"
      "body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto}}p{{white-space:pre-wrap}}"
      ".masked{{color:#999}}.trained{{color:#065}}h3{{border-top:1px solid #ccc;font-size:13px}}"
      "</style></head><body><h1>{0}</h1>\n",
      escape_html(title));
  for (const InspectedPack& shown : all) {
    out += fmt::format("<h2>{}</h2>\n", escape_html(shown.heading));
    for (const Segment& segment : segments_of(shown.pack)) {
      out += fmt::format("<h3>{}</h3>\n<p>", escape_html(segment_title(shown, segment)));
      for (const Span& span : spans_of(shown.pack, segment))
        out += fmt::format("<span class=\"{}\">{}</span>", span.trained ? "trained" : "masked",
                           escape_html(span_text(shown.pack, span, text)));
      out += "</p>\n";
    }
  }
  return out + "</body></html>\n";
}

}  // namespace ink
