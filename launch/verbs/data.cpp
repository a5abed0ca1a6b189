// inkstone data tokenizer | prepare | inspect | stats | meta: text to token stores, and a look into
// what is trained on.

#include "launch/verbs/data_verbs.h"
#include "launch/verbs/verb.h"

namespace ink {

void add_data(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand("data", "tokenizers, token stores, and what is in them");
  verb->require_subcommand(1);
  add_data_tokenizer(*verb, command);
  add_data_prepare(*verb, command);
  add_data_inspect(*verb, command);
  add_data_stats(*verb, command);
  add_data_meta(*verb, command);
}

}  // namespace ink
