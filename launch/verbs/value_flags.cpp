#include "launch/verbs/value_flags.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "configs/schema/scalar.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/error.h"
#include "engine/core/nearest.h"
#include "engine/io/json.h"

namespace ink {
namespace {

// The value called `text`; Error(kConfig) lists the names.
template <class E>
E choose(const std::string& flag, const std::string& text) {
  std::vector<std::string> names;
  for (const auto& choice : Choices<E>::kBuilt) {
    if (choice.name == text) return choice.value;
    names.emplace_back(choice.name);
  }
  const auto nearest = nearest_name(text, names);
  throw Error(ExitCode::kConfig, flag,
              fmt::format("expected one of {}, got {}", fmt::join(names, ", "), text),
              nearest ? fmt::format("did you mean {}?", *nearest) : "");
}

ConfigNode scalar(const std::string& text) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kScalar;
  node.text = text;
  return node;
}

}  // namespace

int64_t parse_bytes_flag(const std::string& flag, const std::string& text) {
  return to_bytes(scalar(text), at_least(1), flag).value;
}

DataFormat parse_format_flag(const std::string& text) {
  return choose<DataFormat>("--format", text);
}

std::optional<Precision> parse_precision_flag(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(choose<Precision>("--dtype", text));
}

DeviceChoice parse_device_flag(const std::string& text) {
  if (text == "gpu")  // whose nearest name is cpu
    throw Error(ExitCode::kConfig, "--device", "expected one of auto, cpu, cuda, got gpu",
                "did you mean cuda?");
  return choose<DeviceChoice>("--device", text);
}

CLI::Validator one_of(std::vector<std::string> names) {
  const std::string list = fmt::format("{}", fmt::join(names, "|"));
  return {[names = std::move(names)](std::string& text) -> std::string {
            if (std::ranges::find(names, text) != names.end()) return {};
            const auto nearest = nearest_name(text, names);
            return fmt::format("expected one of {}, got {}{}", fmt::join(names, ", "),
                               quote_name(text),
                               nearest ? fmt::format("; nearest: {}", *nearest) : "");
          },
          list};
}

CLI::Validator positive() {
  return {[](std::string& text) -> std::string {
            int64_t value = 0;
            const auto [end, failed] =
                std::from_chars(text.data(), text.data() + text.size(), value);
            const bool whole = failed == std::errc() && end == text.data() + text.size();
            return whole && value > 0
                       ? std::string()
                       : fmt::format("expected an integer above 0, got {}", quote_name(text));
          },
          "POSITIVE"};
}

CLI::Validator whole(const Rule& rule) {
  return {[rule](std::string& text) -> std::string {
            try {
              text = std::to_string(to_integer(scalar(text), rule, ""));
              return {};
            } catch (const Error&) {
              return fmt::format("expected {}, got {}", describe("an integer", rule),
                                 quote_name(text));
            }
          },
          ""};
}

}  // namespace ink
