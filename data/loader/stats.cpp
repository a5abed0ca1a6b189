#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "data/loader/inspect.h"

namespace ink {
namespace {

constexpr uint64_t kBlock = 65536;

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

}  // namespace

SourceStats source_stats(const std::shared_ptr<const TokenStore>& store, Split split,
                         int64_t samples_of) {
  const SplitSizes& sizes = store->sizes(split);
  SourceStats stats;
  stats.name = fmt::format("{} ({})", store->path(), split_name(split));
  stats.packed = samples_of == 0;
  stats.documents = static_cast<int64_t>(sizes.documents);
  stats.tokens = static_cast<int64_t>(sizes.tokens);
  stats.packs = stats.packed ? static_cast<int64_t>(sizes.packs)
                             : sample_source(store, split, samples_of)->packs();
  stats.trained = static_cast<int64_t>(sizes.trained);
  const int64_t length = stats.packed ? store->header().max_length : samples_of;
  if (stats.packs > 0)
    stats.fill_rate = static_cast<double>(stats.tokens) /
                      (static_cast<double>(stats.packs) * static_cast<double>(length));
  if (stats.documents > 0)
    stats.mean = static_cast<double>(stats.tokens) / static_cast<double>(stats.documents);
  for (uint64_t first = 0; first < sizes.documents; first += kBlock)
    add_lengths(store->document_lengths(split, first, std::min(kBlock, sizes.documents - first)),
                stats);
  return stats;
}

nlohmann::json to_json(const SourceStats& stats) {
  return {{"name", stats.name},         {"documents", stats.documents},
          {"tokens", stats.tokens},     {stats.packed ? "packs" : "samples", stats.packs},
          {"trained", stats.trained},   {"fill_rate", stats.fill_rate},
          {"shortest", stats.shortest}, {"longest", stats.longest},
          {"mean", stats.mean},         {"histogram", stats.histogram}};
}

std::string to_table(const std::vector<SourceStats>& stats, bool histogram) {
  std::string out =
      fmt::format("{:>11} {:>14} {:>10} {:>14} {:>6} {:>8} {:>9} {:>8}  {}\n", "documents",
                  "tokens", stats.empty() || stats[0].packed ? "packs" : "samples", "trained",
                  "fill", "shortest", "mean", "longest", "source");
  for (const SourceStats& s : stats) {
    out += fmt::format("{:>11} {:>14} {:>10} {:>14} {:>5.1f}% {:>8} {:>9.1f} {:>8}  {}\n",
                       s.documents, s.tokens, s.packs, s.trained, 100 * s.fill_rate, s.shortest,
                       s.mean, s.longest, s.name);
    if (histogram) out += histogram_lines(s);
  }
  return out;
}

}  // namespace ink
