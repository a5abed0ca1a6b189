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

// One line on a terminal that is written over; nothing elsewhere or when quiet.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine();
  void show(const std::string& text);

 private:
  bool active_, shown_ = false;
};

}  // namespace ink
