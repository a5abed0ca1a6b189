// Run files and overrides that are refused: code 2, file with line and column, nothing written.

#include <fmt/format.h>
#include <unistd.h>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

// The file is refused alike by every verb that reads it, and the folder stays as it was.
void expect_refused(const Workplace& place, int code, const std::vector<std::string>& words) {
  const auto before = files_below(place.path());
  expect_error(place.run({"config", "check", "run.yaml"}), code, words);
  expect_error(place.run({"train", "run.yaml", "--dry-run"}), code, words);
  expect_error(place.run({"train", "run.yaml"}), code, words);
  expect_error(place.run({"inspect", "run.yaml"}), code, words);
  EXPECT_EQ(files_below(place.path()), before);
}

TEST(ConfigError, MisspeltKeyAtAnyDepth) {
  const Workplace place;
  place.write_run("train: {steps: 2}\noptm: {lr: 1}");
  expect_refused(place, 2, {"run.yaml:9:1", "optm", "optim"});
  place.write_run("train: {steps: 2, batch_ramp: {strat: 1}}");
  expect_refused(place, 2, {"run.yaml:8:", "train.batch_ramp.strat", "train.batch_ramp.start"});
}

TEST(ConfigError, KeyGivenTwiceNamesBothLines) {
  const Workplace place;
  place.write_run("train: {steps: 2}\ntrain: {steps: 3}");
  expect_refused(place, 2, {"run.yaml:9:1", "train", "run.yaml:8:1"});
}

TEST(ConfigError, OverrideThatIsNoYamlIsNamed) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  const std::vector<std::vector<std::string>> verbs = {{"config", "check"}, {"train"}};
  for (std::vector<std::string> arguments : verbs) {
    arguments.insert(arguments.end(), {"run.yaml", "optim.lr=[1"});
    expect_error(place.run(arguments), 2,
                 {"command line: optim.lr: expected a value in YAML, got [1 (a closing ]"});
  }
}

TEST(ConfigError, NumbersAreStrict) {
  const Workplace place;
  for (const char* value : {".nan", ".inf", "-1", "1.5", "1e400", "12345678901234567890", "010",
                            "0x10", "1_000", "yes", "\"5\"", ""}) {
    place.write_run(fmt::format("train: {{steps: {}}}", value));
    expect_error(place.run({"config", "check", "run.yaml"}), 2, {"run.yaml:8", "train.steps"});
  }
  for (const char* value : {"yes", "on", "1", "True", "no"}) {
    place.write_run(fmt::format("train: {{steps: 2, deterministic: {}}}", value));
    expect_error(place.run({"config", "check", "run.yaml"}), 2, {"train.deterministic"});
  }
  for (const char* value : {".nan", ".inf", "-.inf", "1e400", "-1"}) {
    place.write_run(fmt::format("train: {{steps: 2, max_hours: {}}}", value));
    expect_error(place.run({"config", "check", "run.yaml"}), 2, {"train.max_hours", "above 0"});
  }
}

TEST(ConfigError, HostileYaml) {
  const Workplace place;
  const std::string nested = std::string(100'000, '[') + std::string(100'000, ']');
  const std::vector<std::string> texts = {
      nested,
      std::string(100'000, '{'),
      "a: &a [*a]\n",
      "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\n",
      "train: {steps: 2}\n---\ntrain: {steps: 3}\n",
      std::string("train: {steps: 2}\n\0", 19),
      "train: {steps: 2} # \xff\xfe\n",
      "",
      "- 1\n- 2\n",
      "<<: {a: 1}\n"};
  for (const std::string& text : texts) {
    place.write("run.yaml", text);
    expect_error(place.run({"config", "check", "run.yaml"}), 2, {"run.yaml"});
    expect_error(place.run({"train", "run.yaml"}), 2, {"run.yaml"});
  }
}

TEST(ConfigError, BasesThatAreAbsentOrCircular) {
  const Workplace place;
  place.write("run.yaml", "base: other.yaml\n");
  expect_refused(place, 3, {"other.yaml"});
  place.write("other.yaml", "base: run.yaml\n");
  expect_refused(place, 2, {"base"});
  expect_error(place.run({"train", "absent.yaml"}), 3, {"absent.yaml"});
  expect_error(place.run({"config", "check", "absent.yaml"}), 3, {"absent.yaml"});
}

TEST(ConfigError, SizesThatDoNotDivide) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  const auto before = files_below(place.path());
  expect_error(place.run({"train", "run.yaml", "model.num_attention_heads=3"}), 2, {"3"});
  expect_error(
      place.run({"train", "run.yaml", "train.micro_batch_size=2", "train.global_batch_size=3"}), 2,
      {"3", "2"});
  expect_error(place.run({"train", "run.yaml", "parallel.tensor=2"}), 2, {"parallel.tensor"});
  expect_error(place.run({"train", "run.yaml", "train.device=cuda"}), 2, {"cuda"});
  expect_error(place.run({"train", "run.yaml", "train.epochs=1"}), 2, {"steps", "epochs"});
  EXPECT_EQ(files_below(place.path()), before);
}

TEST(ConfigError, Overrides) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  expect_error(place.run({"train", "run.yaml", "train.setps=3"}), 2, {"train.steps"});
  expect_error(place.run({"train", "run.yaml", "train.steps"}), 2, {"train.steps"});
  expect_error(place.run({"train", "run.yaml", "adapter.lora_rank=3"}), 2, {"adapter"});
  expect_done(place.run({"config", "check", "run.yaml", "train.steps=7"}));
  EXPECT_NE(place.run({"config", "check", "run.yaml", "train.steps=7"}).out.find("steps: 7"),
            std::string::npos);
}

TEST(ConfigError, KernelsThatAreNotThere) {
  const Workplace place;
  place.write_run("train: {steps: 2}\nkernels: {linear_forwrad: plain}");
  expect_error(place.run({"train", "run.yaml"}), 2, {"kernels.linear_forwrad"});
  place.write_run("train: {steps: 2}\nkernels: {linear_forward: fastest}");
  expect_error(place.run({"train", "run.yaml"}), 2, {"fastest"});
}

// The directory is tried before any work: a file in the way, a file system that cannot be written.
TEST(ConfigError, RunDirectoryThatCannotBeUsed) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  place.write("taken", "a file");
  expect_error(place.run({"train", "run.yaml", "--out", "taken"}), 4, {"taken"});
  expect_error(place.run({"train", "run.yaml", "--out", "/proc/inkstone"}), 4, {"/proc/inkstone"});
  place.write("full/notes.txt", "mine");
  expect_error(place.run({"train", "run.yaml", "--out", "full"}), 4, {"full", "--overwrite"});
  EXPECT_EQ(slurp(place / "full/notes.txt"), "mine");
}

TEST(ConfigError, RunDirectoryWithoutPermission) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  std::filesystem::create_directory(place / "closed");
  std::filesystem::permissions(
      place / "closed", std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  // Root may write anywhere; an unprivileged user must not.
  const bool root = geteuid() == 0;
  std::vector<std::string> command = command_of({"train", "run.yaml", "--out", "closed"});
  if (root) {
    std::filesystem::permissions(place.path(), std::filesystem::perms::all);
    command.insert(command.begin(), {"setpriv", "--reuid=65534", "--clear-groups"});
  }
  expect_error(run_child(command, place.options()), 4, {"closed", "Permission denied"});
}

}  // namespace
}  // namespace ink
