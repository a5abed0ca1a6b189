// The sub-verbs of `inkstone data`.
#pragma once

#include <string>
#include <vector>

#include "data/loader/corpus.h"
#include "launch/verbs/verb.h"

namespace ink {

void add_data_tokenizer(CLI::App& data, CommandLine& command);
void add_data_prepare(CLI::App& data, CommandLine& command);
void add_data_inspect(CLI::App& data, CommandLine& command);
void add_data_stats(CLI::App& data, CommandLine& command);
void add_data_meta(CLI::App& data, CommandLine& command);

// The files of several --in arguments as one corpus, in the order given.
[[nodiscard]] Corpus list_inputs(const std::vector<std::string>& paths, DataFormat format);

}  // namespace ink
