// Rows for the tests of the report: plain values that are easy to find again.
#pragma once

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/report/run_log.h"
#include "tests/io/temporary_folder.h"

namespace ink {

inline StepRow example_step(int64_t step, double loss = 2.10341) {
  StepRow row{.step = step, .total_steps = 3000, .epoch = 0.25};
  row.loss = loss;
  row.lr = 9e-5;
  row.grad_norm = 0.9361;
  row.tokens = 4000;
  row.trained_tokens = 3900;
  row.total_tokens = 4000 * step;
  row.tokens_per_s = 2677.4;
  row.tokens_per_s_per_device = 1338.7;
  row.mfu = 0.412;
  row.step_time = 1.25;
  row.data_time = 0.01;
  row.mem_peak = 6'310'000'000;
  row.mem_reserved = 6'500'000'000;
  row.mem_limit = 8'000'000'000;
  row.elapsed = 150.5;
  return row;
}

inline RunRow example_run() {
  return {.command = "inkstone train run.yaml",
          .config_hash = "0123456789abcdef",
          .layout = "dp2",
          .devices = "2 x cpu",
          .model = "2 layers",
          .parameters = 1234567,
          .trainable = 1234567,
          .total_steps = 3000,
          .steps_per_epoch = 100,
          .tokens_per_step = 4096,
          .instruction_set = "avx2",
          .libraries = "none"};
}

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::string> file_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::vector<nlohmann::json> json_lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> rows;
  for (const std::string& line : file_lines(path)) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

inline size_t count_of(const std::string& text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace ink
