// A run file on disk, its bases and the command line -> RunOptions, and back.
//
// Called by the verbs of launch. Order: every `base:` file in turn, the file itself, the overrides
// in the order given; later values win, maps merge, lists are replaced, `key: null` unsets.
#pragma once

#include <span>
#include <string>

#include "configs/schema/node.h"
#include "configs/schema/place.h"
#include "configs/schema/run_options.h"

namespace ink {

struct LoadedRun {
  RunOptions options;
  Places places;
};

// The file with its bases and the overrides merged in, unchecked against the schema. `base` is a
// file or a list of files, relative to the file that names them; a cycle is an error.
ConfigNode read_merged(const std::string& path, std::span<const std::string> overrides = {});

// Checks keys, types and ranges of each value; validate() checks them against each other.
LoadedRun read_run(const ConfigNode& merged);

// read_merged, read_run and validate; checkpoint.dir falls back to runs/NAME for NAME.yaml.
LoadedRun load_run(const std::string& path, std::span<const std::string> overrides = {});

// One `key.sub=value`; list elements by number (`data.train.0.path=my.txt`), one past the end
// appends.
void apply_override(ConfigNode& root, const std::string& override_text);

// Every key with its value; reading the text again gives equal options. No key holds a secret.
std::string dump_run(const RunOptions& options);

}  // namespace ink
