// Which keys exist, which are called otherwise elsewhere, and what to say about one that does not.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

// A name that another tool uses for one of our keys.
struct ForeignKey {
  std::string_view name;
  std::string_view tool;
  std::string_view ours;
};

std::span<const ForeignKey> foreign_keys();

// Keys that are reserved for what is not built yet, whole sections included.
std::span<const std::string_view> planned_keys();
[[nodiscard]] bool is_planned(std::string_view key);

// Every key of a schema in the form `data.train[].path`.
using KeyTable = std::vector<std::string>;

// `run.yaml:7:3: unknown key optim.learing_rate; nearest: optim.lr`; a name of another tool and a
// reserved key are answered as such. Error of code 2.
[[noreturn]] void refuse_key(const KeyTable& keys, const std::string& place,
                             const std::string& key);

// The key that `key` was probably meant to be; empty for an empty table.
std::string nearest_key(const KeyTable& keys, const std::string& key);

}  // namespace ink
