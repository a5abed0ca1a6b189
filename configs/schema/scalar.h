// One scalar of a configuration -> one typed value, from the text and by our own grammar.
//
// Integers: optional minus, no leading zeros, no hexadecimal, no underscores; a suffix k, M, G or T
// multiplies by a power of 1000. Numbers: decimal, finite. Booleans: true and false. Bytes: an
// integer with an optional B, kB, MB, GB, TB, KiB, MiB, GiB, TiB. A quoted scalar is only ever
// text. Every refusal is an Error of code 2 that names key, allowed range and value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "configs/schema/field.h"
#include "configs/schema/node.h"

namespace ink {

bool to_bool(const ConfigNode& node, const std::string& key);
int64_t to_integer(const ConfigNode& node, const Rule& rule, const std::string& key);
double to_number(const ConfigNode& node, const Rule& rule, const std::string& key);
Bytes to_bytes(const ConfigNode& node, const Rule& rule, const std::string& key);
StepRange to_step_range(const ConfigNode& node, const std::string& key);
std::string to_text(const ConfigNode& node, const std::string& key);

// `an integer of at least 1`, `a number above 0 and at most 1`.
std::string describe(std::string_view noun, const Rule& rule);

[[noreturn]] void refuse_value(const ConfigNode& node, const std::string& key,
                               const std::string& expected, const std::string& hint = {});

}  // namespace ink
