// inkstone_gpu_bench: times kernels of the card and prints a line of JSON for the card, then one
// for every row as soon as it is measured: what comes behind a kernel that hangs or fails is lost,
// and nothing else. Progress goes to the standard error.
//
//   inkstone_gpu_bench [--list] [--family NAME]... [--samples N] [--device N] [--tiny]
#include <charconv>
#include <cstdio>
#include <cstring>

#include "bench/gpu/bench.h"

namespace ink::bench {
namespace {

struct Arguments {
  Settings settings;
  std::vector<std::string> families;
  int device = 0;
  bool list = false;
};

int number(const char* option, const char* text) {
  int value = 0;
  const char* end = text == nullptr ? nullptr : text + std::strlen(text);
  if (text == nullptr || std::from_chars(text, end, value).ptr != end || value < 0)
    throw Error(ExitCode::kConfig, option,
                fmt::format("expected a number, got {}", text == nullptr ? "nothing" : text));
  return value;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (option == "--list") {
      arguments.list = true;
    } else if (option == "--tiny") {
      arguments.settings.tiny = true;
      arguments.settings.samples = 1;
    } else if (option == "--family" && value != nullptr) {
      arguments.families.emplace_back(argv[++i]);
    } else if (option == "--samples") {
      arguments.settings.samples = std::max(1, number("--samples", value));
      ++i;
    } else if (option == "--device") {
      arguments.device = number("--device", value);
      ++i;
    } else {
      throw Error(ExitCode::kConfig, std::string(option), "unknown option",
                  "--list, --family NAME, --samples N, --device N, --tiny");
    }
  }
  if (arguments.families.empty()) arguments.families = family_names();
  return arguments;
}

void print_line(const nlohmann::json& row) {
  fmt::print("{}\n", row.dump());
  std::fflush(stdout);
}

void run(const Arguments& arguments) {
  if (arguments.list) {
    for (const std::string& name : family_names()) fmt::print("{}\n", name);
    return;
  }
  Bench bench(arguments.settings, arguments.device, print_line);
  print_line(bench.about());
  bench.run("copy");
  for (const std::string& name : arguments.families) {
    if (name == "copy") continue;
    fmt::print(stderr, "{}\n", name);
    bench.run(name);
  }
}

}  // namespace
}  // namespace ink::bench

int main(int argc, char** argv) {
  try {
    ink::bench::run(ink::bench::parse(argc, argv));
    return 0;
  } catch (const ink::Error& error) {
    fmt::print(stderr, "{}: {}\n{}\n", error.place(), error.what(), error.hint());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
