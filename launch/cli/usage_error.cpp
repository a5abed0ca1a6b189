#include "launch/cli/usage_error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/nearest.h"
#include "engine/io/json.h"

namespace ink {
namespace {

// The verb that was reached, the innermost one.
const CLI::App& active_verb(const CLI::App& app) {
  const CLI::App* active = &app;
  while (!active->get_subcommands().empty()) active = active->get_subcommands().back();
  return *active;
}

// "inkstone data prepare".
std::string full_name(const CLI::App& verb) {
  const CLI::App* parent = verb.get_parent();
  return parent == nullptr ? verb.get_name() : full_name(*parent) + " " + verb.get_name();
}

std::vector<std::string> verbs_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

// Flags of the verb and of all above it.
std::vector<std::string> flags_of(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::App* app = &verb; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    }
  }
  return names;
}

std::string see_help(const CLI::App& verb) { return fmt::format("see {} --help", full_name(verb)); }

Error unexpected_word(const CLI::App& app, const CLI::App& verb) {
  const std::vector<std::string> words = app.remaining(true);
  const std::string word = words.empty() ? "" : words.front();
  const bool flag = word.starts_with("-");
  const std::vector<std::string> known = flag ? flags_of(verb) : verbs_of(verb);
  const auto nearest = nearest_name(word.substr(0, word.find('=')), known);
  const std::string_view kind = flag ? "flag" : known.empty() ? "argument" : "verb";
  return {ExitCode::kConfig, full_name(verb), fmt::format("unknown {} {}", kind, quote_name(word)),
          nearest ? fmt::format("did you mean {}?", *nearest) : see_help(verb)};
}

// What CLI11 says, put into words of ours where the form is known.
std::string message_of(const CLI::ParseError& error) {
  std::string text = error.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (constexpr std::string_view kEnd = " is required"; text.ends_with(kEnd))
    return fmt::format("expected {}, got nothing", text.substr(0, text.size() - kEnd.size()));
  if (constexpr std::string_view kStart = "Could not convert: "; text.starts_with(kStart)) {
    const size_t equals = text.find(" = ");
    if (equals != std::string::npos)
      return fmt::format("{}: expected a number, got {}",
                         text.substr(kStart.size(), equals - kStart.size()),
                         quote_name(text.substr(equals + 3)));
  }
  if (const size_t at = text.find(": At Most 1 required but received "); at != std::string::npos)
    return fmt::format("{}: expected it once, got it {} times", text.substr(0, at),
                       text.substr(text.rfind(' ') + 1));
  if (const size_t at = text.find(": 1 required "); at != std::string::npos)
    return fmt::format("{}: expected a value, got nothing", text.substr(0, at));
  return text;
}

}  // namespace

Error usage_error(const CLI::ParseError& error, const CLI::App& app) {
  const CLI::App& verb = active_verb(app);
  // A misspelt flag is the cause where the one it was meant to be is missing.
  if (!app.remaining(true).empty()) return unexpected_word(app, verb);
  return {ExitCode::kConfig, full_name(verb), message_of(error), see_help(verb)};
}

void refuse_empty_values(const CLI::App& app) {
  const CLI::App& verb = active_verb(app);
  for (const CLI::Option* option : verb.get_options()) {
    if (option->check_lname("prompt")) continue;  // nothing is a text to continue
    for (const std::string& value : option->results())
      if (value.empty())
        throw Error(ExitCode::kConfig, full_name(verb),
                    fmt::format("{}: expected a value, got an empty text", option->get_name()));
  }
}

Error missing_verb(const CLI::App& app) {
  const CLI::App& verb = active_verb(app);
  return {ExitCode::kConfig, full_name(verb),
          fmt::format("expected one of {}, got nothing", fmt::join(verbs_of(verb), ", ")),
          see_help(verb)};
}

}  // namespace ink
