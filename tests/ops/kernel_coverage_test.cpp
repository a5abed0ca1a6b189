// Every slot declared in a header has a CPU kernel, and a row of op tests exercises it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "tests/support/op_case.h"

namespace ink {
namespace {

std::set<std::string> declared_slots() {
  static const std::regex declaration(R"((?:^|\n)DECLARE_KERNEL\((\w+),)");
  std::set<std::string> names;
  const std::filesystem::path root = std::filesystem::path(INKSTONE_SOURCE_DIR) / "engine";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".h") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string content = text.str();
    for (std::sregex_iterator it(content.begin(), content.end(), declaration), end; it != end; ++it)
      names.insert((*it)[1]);
  }
  return names;
}

TEST(KernelCoverage, EveryDeclaredSlotHasACpuKernel) {
  std::set<std::string> filled;
  for (const KernelSlotBase* slot : KernelSlotBase::all()) {
    if (slot->has(Device::kCpu)) filled.insert(slot->name());
  }
  const std::set<std::string> declared = declared_slots();
  ASSERT_GE(declared.size(), 20u);
  for (const std::string& name : declared) EXPECT_TRUE(filled.contains(name)) << name;
}

TEST(KernelCoverage, EverySlotHasATestRow) {
  std::set<std::string> tested;
  for (const OpCase& row : op_cases()) {
    for (const KernelSlotBase* slot : row.slots) tested.insert(slot->name());
  }
  for (const KernelSlotBase* slot : KernelSlotBase::all())
    EXPECT_TRUE(tested.contains(slot->name())) << slot->name();
}

TEST(KernelCoverage, ChoosingAnUnknownCandidateNamesTheKnownOnes) {
  for (KernelSlotBase* slot : KernelSlotBase::all()) {
    try {
      slot->choose(Device::kCpu, "no_such_label");
      ADD_FAILURE() << slot->name() << " took a label that does not exist";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      for (const std::string_view label : slot->labels(Device::kCpu))
        EXPECT_NE(std::string(error.what()).find(label), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace ink
