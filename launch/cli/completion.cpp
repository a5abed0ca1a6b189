#include "launch/cli/completion.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "engine/core/error.h"

namespace ink {
namespace {

struct Word {
  std::string text, meaning;
};

// A place on the command line: the verbs before it, each behind a blank, and what may follow.
struct Place {
  std::string verbs;  // "", " data", " data prepare"
  std::vector<Word> words;
};

std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Flags of the verbs above are accepted too; where a name is there twice, the innermost one counts.
void add_flags(const CLI::App& app, std::vector<Word>& words) {
  std::set<std::string> seen;
  const auto add = [&](const std::string& flag, const CLI::Option& option) {
    if (seen.insert(flag).second) words.push_back({flag, option.get_description()});
  };
  for (const CLI::App* each = &app; each != nullptr; each = each->get_parent()) {
    for (const CLI::Option* option : each->get_options()) {
      for (const std::string& name : option->get_lnames()) add("--" + name, *option);
      for (const std::string& name : option->get_snames()) add("-" + name, *option);
    }
  }
}

void collect(const CLI::App& app, const std::string& verbs, std::vector<Place>& places) {
  Place place{verbs, {}};
  for (const CLI::App* verb : verbs_of(app))
    place.words.push_back({verb->get_name(), verb->get_description()});
  add_flags(app, place.words);
  places.push_back(std::move(place));
  for (const CLI::App* verb : verbs_of(app)) collect(*verb, verbs + " " + verb->get_name(), places);
}

// In single quotes, for all three shells.
std::string shell_quote(const std::string& text) {
  std::string safe;
  for (const char c : text) safe += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + safe + "'";
}

// Every chain of verbs as a pattern of `case`: ' data'|' data prepare'.
std::string chains(const std::vector<Place>& places, const char* separator) {
  std::string text;
  for (const Place& place : places) {
    if (place.verbs.empty()) continue;
    text += (text.empty() ? "" : separator) + shell_quote(place.verbs);
  }
  return text;
}

std::string bash_script(const std::vector<Place>& places) {
  std::string cases;
  for (const Place& place : places) {
    std::string words;
    for (const Word& word : place.words) words += (words.empty() ? "" : " ") + word.text;
    cases += fmt::format("    {}) words={} ;;\n", shell_quote(place.verbs), shell_quote(words));
  }
  return fmt::format(R"(# source <(inkstone completion bash)
_inkstone() {{
  local verbs= words= word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$verbs $word" in
      {}) verbs="$verbs $word" ;;
    esac
  done
  case "$verbs" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _inkstone inkstone
)",
                     chains(places, "|"), cases);
}

std::string zsh_script(const std::vector<Place>& places) {
  std::string cases;
  for (const Place& place : places) {
    cases += fmt::format("    {}) candidates=(\n", shell_quote(place.verbs));
    for (const Word& word : place.words) {
      std::string entry = word.text + ":" + word.meaning;  // a colon in the meaning stands as it is
      cases += "      " + shell_quote(entry) + "\n";
    }
    cases += "    ) ;;\n";
  }
  return fmt::format(R"(#compdef inkstone
# source <(inkstone completion zsh)
_inkstone() {{
  local verbs= word
  local -a candidates
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "$verbs $word" in
      {}) verbs="$verbs $word" ;;
    esac
  done
  case "$verbs" in
{}  esac
  _describe inkstone candidates
  _files
}}
compdef _inkstone inkstone
)",
                     chains(places, "|"), cases);
}

std::string fish_script(const std::vector<Place>& places) {
  std::string lines;
  for (const Place& place : places) {
    for (const Word& word : place.words) {
      lines +=
          fmt::format("complete -c inkstone -n {} -a {} -d {}\n",
                      shell_quote(fmt::format("test (__inkstone_verbs) = \"{}.\"", place.verbs)),
                      shell_quote(word.text), shell_quote(word.meaning));
    }
  }
  return fmt::format(R"(# inkstone completion fish | source
function __inkstone_verbs
  set -l verbs ''
  for word in (commandline -opc)[2..-1]
    switch "$verbs $word"
      case {}
        set verbs "$verbs $word"
    end
  end
  echo "$verbs."
end
{})",
                     chains(places, " "), lines);
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  std::vector<Place> places;
  collect(app, "", places);
  if (shell == "bash") return bash_script(places);
  if (shell == "zsh") return zsh_script(places);
  CHECK(shell == "fish", "no completion for the shell {}", shell);
  return fish_script(places);
}

}  // namespace ink
