#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "data/loader/inspect.h"

namespace ink {
namespace {

constexpr int64_t kBlock = 65536;

const char* name_of(PackUnit unit) { return unit == PackUnit::kPacks ? "packs" : "samples"; }

void add_lengths(const std::vector<uint64_t>& lengths, SourceStats& stats) {
  for (const uint64_t length : lengths) {
    const auto tokens = static_cast<int64_t>(length);
    stats.shortest = stats.shortest == 0 ? tokens : std::min(stats.shortest, tokens);
    stats.longest = std::max(stats.longest, tokens);
    const auto bin = static_cast<size_t>(std::bit_width(length) - 1);
    if (stats.histogram.size() <= bin) stats.histogram.resize(bin + 1, 0);
    ++stats.histogram[bin];
  }
}

std::string histogram_lines(const SourceStats& stats) {
  constexpr int64_t kWidth = 40;
  std::string out;
  int64_t most = 1;
  for (const int64_t count : stats.histogram) most = std::max(most, count);
  for (size_t bin = 0; bin < stats.histogram.size(); ++bin) {
    const int64_t count = stats.histogram[bin];
    const int64_t bar = (count * kWidth + most - 1) / most;
    out += fmt::format("  {:>9}..{:<9} {:>10} {}\n", uint64_t{1} << bin, (uint64_t{2} << bin) - 1,
                       count, std::string(static_cast<size_t>(bar), '#'));
  }
  return out;
}

// Empty where nothing was left out.
std::string drops_line(const SourceStats& stats) {
  if (!stats.dropped)
    return fmt::format("  {}: what was left out is not recorded in this store\n", stats.name);
  const auto& [empty, bad] = *stats.dropped;
  std::string what;
  if (empty > 0) what = fmt::format("{} empty documents", empty);
  if (bad > 0) what += fmt::format("{}{} malformed rows", what.empty() ? "" : ", ", bad);
  return what.empty() ? "" : fmt::format("  {}: left out {}\n", stats.name, what);
}

}  // namespace

SourceStats source_stats(const PackSource& source, std::string name, PackUnit unit) {
  SourceStats stats{.name = std::move(name),
                    .unit = unit,
                    .documents = source.documents(),
                    .tokens = source.tokens(),
                    .packs = source.packs(),
                    .trained = source.trained_tokens(),
                    .histogram = {},
                    .dropped = source.dropped()};
  if (stats.packs > 0)
    stats.fill_rate = static_cast<double>(stats.tokens) /
                      (static_cast<double>(stats.packs) * static_cast<double>(source.max_length()));
  if (stats.documents > 0)
    stats.mean = static_cast<double>(stats.tokens) / static_cast<double>(stats.documents);
  for (int64_t first = 0; first < stats.documents; first += kBlock)
    add_lengths(source.document_lengths(first, std::min(kBlock, stats.documents - first)), stats);
  return stats;
}

nlohmann::json to_json(const SourceStats& stats) {
  nlohmann::json dropped;
  if (stats.dropped)
    dropped = {{"empty_documents", stats.dropped->empty_documents},
               {"bad_rows", stats.dropped->bad_rows}};
  return {{"name", stats.name},         {"documents", stats.documents},
          {"tokens", stats.tokens},     {name_of(stats.unit), stats.packs},
          {"trained", stats.trained},   {"fill_rate", stats.fill_rate},
          {"shortest", stats.shortest}, {"longest", stats.longest},
          {"mean", stats.mean},         {"histogram", stats.histogram},
          {"dropped", dropped}};
}

std::string to_table(const std::vector<SourceStats>& stats, bool histogram) {
  std::string out =
      fmt::format("{:>11} {:>14} {:>10} {:>14} {:>6} {:>8} {:>9} {:>8}  {}\n", "documents",
                  "tokens", name_of(stats.empty() ? PackUnit::kPacks : stats[0].unit), "trained",
                  "fill", "shortest", "mean", "longest", "source");
  for (const SourceStats& s : stats) {
    out += fmt::format("{:>11} {:>14} {:>10} {:>14} {:>5.1f}% {:>8} {:>9.1f} {:>8}  {}\n",
                       s.documents, s.tokens, s.packs, s.trained, 100 * s.fill_rate, s.shortest,
                       s.mean, s.longest, s.name);
    out += drops_line(s);
    if (histogram) out += histogram_lines(s);
  }
  return out;
}

}  // namespace ink
