#include "configs/schema/scalar.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr std::string_view kDigits = "0123456789";

struct Unit {
  std::string_view suffix;
  int64_t factor;
};

constexpr Unit kCounts[] = {
    {"", 1}, {"k", 1'000}, {"M", 1'000'000}, {"G", 1'000'000'000}, {"T", 1'000'000'000'000}};

constexpr Unit kSizes[] = {{"", 1},
                           {"B", 1},
                           {"kB", 1'000},
                           {"KB", 1'000},  // as Hugging Face spells it
                           {"MB", 1'000'000},
                           {"GB", 1'000'000'000},
                           {"TB", 1'000'000'000'000},
                           {"KiB", int64_t{1} << 10},
                           {"MiB", int64_t{1} << 20},
                           {"GiB", int64_t{1} << 30},
                           {"TiB", int64_t{1} << 40}};

bool is_plain(const ConfigNode& node) {
  return node.kind == ConfigNode::Kind::kScalar && node.style == ConfigNode::Style::kPlain;
}

bool has_leading_zero(std::string_view digits) { return digits.size() > 1 && digits[0] == '0'; }

// -?(0|[1-9][0-9]*) and a unit; nothing on any other text or past 64 bits.
std::optional<int64_t> parse_integer(std::string_view text, std::span<const Unit> units) {
  const size_t sign = text.starts_with('-') ? 1 : 0;
  size_t end = text.find_first_not_of(kDigits, sign);
  if (end == std::string_view::npos) end = text.size();
  if (end == sign || has_leading_zero(text.substr(sign, end - sign))) return std::nullopt;
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + end, value).ec != std::errc{}) return std::nullopt;
  for (const Unit& unit : units) {
    if (text.substr(end) != unit.suffix) continue;
    int64_t product = 0;
    if (__builtin_mul_overflow(value, unit.factor, &product)) return std::nullopt;
    return product;
  }
  return std::nullopt;
}

// [-+]?(0|[1-9][0-9]*)?(.[0-9]*)?([eE][-+]?[0-9]+)? with at least one digit in front of the e.
bool is_decimal(std::string_view text) {
  const auto skip_digits = [&] {
    size_t count = text.find_first_not_of(kDigits);
    if (count == std::string_view::npos) count = text.size();
    const std::string_view digits = text.substr(0, count);
    text.remove_prefix(count);
    return digits;
  };
  const auto skip_sign = [&] {
    if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  };
  skip_sign();
  const std::string_view whole = skip_digits();
  if (has_leading_zero(whole)) return false;
  size_t digits = whole.size();
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    digits += skip_digits().size();
  }
  if (digits == 0) return false;
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    skip_sign();
    if (skip_digits().empty()) return false;
  }
  return text.empty();
}

std::optional<double> parse_number(std::string_view text) {
  if (!is_decimal(text)) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{} || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool allows(const Rule& rule, double value) {
  const bool low = rule.low_bound == Bound::kOpen ? value > rule.low : value >= rule.low;
  const bool high = rule.high_bound == Bound::kOpen ? value < rule.high : value <= rule.high;
  return low && high;
}

// Says which rule of the grammar a refused number breaks, where that is not plain to see.
std::string hint_for(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar) return {};
  if (node.style == ConfigNode::Style::kQuoted)
    return "a quoted value is text: write it without quotes";
  std::string_view text = node.text;
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with("0x") || text.starts_with("0X")) return "write numbers in decimal";
  if (text.find('_') != std::string_view::npos) return "write digits without underscores";
  if (text.size() > 1 && text[0] == '0' && kDigits.find(text[1]) != std::string_view::npos)
    return "write numbers without leading zeros";
  return {};
}

}  // namespace

void refuse_value(const ConfigNode& node, const std::string& key, const std::string& expected,
                  const std::string& hint) {
  throw Error(ExitCode::kConfig, node.place,
              fmt::format("{}: expected {}, got {}", key, expected, node.shown()), hint);
}

std::string describe(std::string_view noun, const Rule& rule) {
  const bool low = std::isfinite(rule.low), high = std::isfinite(rule.high);
  if (low && high && rule.low_bound == Bound::kClosed && rule.high_bound == Bound::kClosed)
    return fmt::format("{} from {} to {}", noun, rule.low, rule.high);
  std::string text(noun);
  if (low)
    text +=
        fmt::format(" {} {}", rule.low_bound == Bound::kOpen ? "above" : "of at least", rule.low);
  if (low && high) text += " and";
  if (high)
    text += fmt::format(" {} {}", rule.high_bound == Bound::kOpen ? "below" : "at most", rule.high);
  return text;
}

bool to_bool(const ConfigNode& node, const std::string& key) {
  if (is_plain(node) && node.text == "true") return true;
  if (is_plain(node) && node.text == "false") return false;
  refuse_value(node, key, "true or false");
}

int64_t to_integer(const ConfigNode& node, const Rule& rule, const std::string& key) {
  if (is_plain(node)) {
    const auto value = parse_integer(node.text, kCounts);
    if (value && allows(rule, static_cast<double>(*value))) return *value;
  }
  refuse_value(node, key, describe("an integer", rule), hint_for(node));
}

double to_number(const ConfigNode& node, const Rule& rule, const std::string& key) {
  if (is_plain(node)) {
    const auto value = parse_number(node.text);
    if (value && allows(rule, *value)) return *value;
  }
  refuse_value(node, key, describe("a finite number", rule), hint_for(node));
}

Bytes to_bytes(const ConfigNode& node, const Rule& rule, const std::string& key) {
  if (is_plain(node)) {
    const auto value = parse_integer(node.text, kSizes);
    if (value && allows(rule, static_cast<double>(*value))) return {*value};
  }
  refuse_value(node, key, describe("a size such as 8GB or 512MiB", rule), hint_for(node));
}

StepRange to_step_range(const ConfigNode& node, const std::string& key) {
  const std::string expected = "a step or a pair [first, last] of steps from 1 on";
  if (node.kind == ConfigNode::Kind::kScalar) {
    const int64_t step = to_integer(node, at_least(1), key);
    return {step, step};
  }
  if (node.kind != ConfigNode::Kind::kList || node.items.size() != 2)
    refuse_value(node, key, expected);
  const StepRange range{to_integer(node.items[0], at_least(1), key),
                        to_integer(node.items[1], at_least(1), key)};
  if (range.first > range.last)
    throw Error(
        ExitCode::kConfig, node.place,
        fmt::format("{}: expected first <= last, got [{}, {}]", key, range.first, range.last));
  return range;
}

std::string to_text(const ConfigNode& node, const std::string& key) {
  if (node.kind != ConfigNode::Kind::kScalar) refuse_value(node, key, "text");
  return node.text;
}

}  // namespace ink
