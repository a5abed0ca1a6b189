// What a path of the run file or the command line names: a file, every data file below a directory,
// or the matches of a pattern with * ? [ ]. Always in sorted order, so that the order of documents
// is a property of the files alone.
#pragma once

#include <string>
#include <vector>

namespace ink {

// Code 3 if nothing matches. In a directory hidden files and the companions of other files are left
// out (NAME.dict beside NAME.index, NAME.dat beside NAME).
[[nodiscard]] std::vector<std::string> expand_paths(const std::string& pattern);

}  // namespace ink
