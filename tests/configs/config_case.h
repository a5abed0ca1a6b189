// Helpers of the configuration tests: run text in, options or the printed error out.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/run_file.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/error.h"

namespace ink {

// What the user would read, or an empty text if nothing was refused.
template <class Body>
std::string error_line(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.line();
  }
  return {};
}

inline RunOptions read_text(const std::string& yaml) {
  return read_run(parse_yaml(yaml, "run.yaml")).options;
}

inline std::string read_error(const std::string& yaml) {
  return error_line([&] { read_text(yaml); });
}

// A folder that is gone at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "configs_test_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ink
