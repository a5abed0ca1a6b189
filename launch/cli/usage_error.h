// What a command line that cannot be parsed says: one error line in the house's form, never the
// help text.
#pragma once

#include <CLI/CLI.hpp>

#include "engine/core/error.h"

namespace ink {

// error: what app.parse() threw. Names the verb, what was expected and what was there; the hint has
// the nearest verb or flag.
[[nodiscard]] Error usage_error(const CLI::ParseError& error, const CLI::App& app);
// Error 2 where an argument or a flag was given an empty text; only a prompt may be one.
void refuse_empty_values(const CLI::App& app);
// For a command line that names no verb, or `data` without what to do.
[[nodiscard]] Error missing_verb(const CLI::App& app);

}  // namespace ink
