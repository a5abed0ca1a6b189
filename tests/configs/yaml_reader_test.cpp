// The strict reader: everything that is refused before any schema is asked, with its exact message.
#include "configs/schema/yaml_reader.h"

#include <gtest/gtest.h>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

std::string parse_error(const std::string& yaml) {
  return error_line([&] { parse_yaml(yaml, "run.yaml"); });
}

std::string repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(YamlReader, KeepsPlacesStylesAndOrder) {
  const ConfigNode root = parse_yaml("b: 1\na:\n  - \"1\"\n  - {c: ~}\n", "run.yaml");
  ASSERT_EQ(root.entries.size(), 2u);
  EXPECT_EQ(root.entries[0].key, "b");
  EXPECT_EQ(root.entries[0].value.place, "run.yaml:1:4");
  const ConfigNode& list = *root.find("a");
  ASSERT_EQ(list.items.size(), 2u);
  EXPECT_EQ(list.items[0].style, ConfigNode::Style::kQuoted);
  EXPECT_EQ(list.items[0].place, "run.yaml:3:5");
  EXPECT_EQ(list.items[1].find("c")->kind, ConfigNode::Kind::kNull);
}

TEST(YamlReader, NamesBothLinesOfARepeatedKey) {
  EXPECT_EQ(parse_error("optim:\n  lr: 1\n  eps: 1\n  lr: 2\n"),
            "error[2]: run.yaml:4:3: key optim.lr is given twice, first at run.yaml:2:3");
  EXPECT_EQ(parse_error("data: {train: [{path: a}, {path: b, path: c}]}"),
            "error[2]: run.yaml:1:37: key data.train.1.path is given twice, first at "
            "run.yaml:1:28");
}

TEST(YamlReader, RefusesDeepNestingWithoutBuildingIt) {
  const std::string expected = "expected at most 64 levels of nesting";
  EXPECT_EQ(parse_error(repeated("[", 100'000) + repeated("]", 100'000)),
            "error[2]: run.yaml:1:65: " + expected);
  EXPECT_EQ(parse_error(repeated("{a: ", 100'000) + repeated("}", 100'000)),
            "error[2]: run.yaml:1:257: " + expected);
  EXPECT_EQ(parse_error(repeated("[", 100'000)).substr(0, 9), "error[2]:");
  EXPECT_EQ(parse_error(repeated("{", 100'000)).substr(0, 9), "error[2]:");
  EXPECT_NE(parse_error(repeated("- ", 100'000)).find(expected), std::string::npos);
  EXPECT_EQ(parse_error(repeated("[", 64) + repeated("]", 64)), "");
  EXPECT_EQ(parse_error(repeated("[", 65) + repeated("]", 65)),
            "error[2]: run.yaml:1:65: " + expected);
}

TEST(YamlReader, RefusesAnchorsAliasesAndBombs) {
  EXPECT_EQ(parse_error("a: &a [*a]\n"), "error[2]: run.yaml:1:4: expected no anchors, got &a");
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 8; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) bomb += (j ? ",*a" : "*a") + std::to_string(i - 1);
    bomb += "]\n";
  }
  EXPECT_EQ(parse_error(bomb), "error[2]: run.yaml:1:5: expected no anchors, got &a0");
  EXPECT_EQ(parse_error("a: *a\n").substr(0, 9), "error[2]:");
}

TEST(YamlReader, RefusesMergeKeysTagsAndOddKeys) {
  EXPECT_EQ(parse_error("a: 1\n<<: {b: 1}\n"),
            "error[2]: run.yaml:2:1: expected no merge keys, got <<");
  EXPECT_EQ(parse_error("a: !!int 1\n"),
            "error[2]: run.yaml:1:4: expected no tags, got tag:yaml.org,2002:int");
  EXPECT_EQ(parse_error("? [a, b]\n: 1\n"),
            "error[2]: run.yaml:1:3: expected a key, got a map or a list");
  EXPECT_NE(parse_error("~: 1\n"), "");
}

TEST(YamlReader, RefusesASecondDocument) {
  const std::string expected = "expected one document, got the start of a second";
  EXPECT_NE(parse_error("a: 1\n---\nb: 2\n").find(expected), std::string::npos);
  EXPECT_NE(parse_error("a: 1\n...\nb: 2\n"), "");
  EXPECT_EQ(parse_error("---\na: 1\n"), "");
}

TEST(YamlReader, ChecksBytesFirst) {
  EXPECT_EQ(parse_error(std::string("a: 1\nb: \0", 9)),
            "error[2]: run.yaml:2:4: expected UTF-8 text, got a NUL byte");
  EXPECT_EQ(parse_error("a: \xff\n"), "error[2]: run.yaml:1:4: expected UTF-8 text, got byte 0xff");
  EXPECT_NE(parse_error("a: \xc0\xaf"), "");          // overlong
  EXPECT_NE(parse_error("a: \xe0\x80\x80"), "");      // overlong
  EXPECT_NE(parse_error("a: \xed\xa0\x80"), "");      // surrogate
  EXPECT_NE(parse_error("a: \xf4\x90\x80\x80"), "");  // above U+10FFFF
  EXPECT_NE(parse_error("a: \xe4\xb8"), "");          // cut
  EXPECT_EQ(parse_error("a: \xe4\xb8\xad\xf0\x9f\x98\x80"), "");
}

TEST(YamlReader, LimitsBytesAndValues) {
  EXPECT_EQ(parse_error("a: " + std::string(kLongestConfig, 'x')),
            "error[2]: run.yaml: expected at most 1048576 bytes, got 1048579");
  EXPECT_NE(parse_error("[" + repeated("1,", 100'001) + "]").find("at most 100000 values"),
            std::string::npos);
  EXPECT_EQ(parse_error("[" + repeated("1,", 99'000) + "]"), "");
}

TEST(YamlReader, RefusesEmptyAndBrokenText) {
  EXPECT_EQ(parse_error(""), "error[2]: run.yaml: expected a map of keys, got an empty file");
  EXPECT_EQ(parse_error("# only a comment\n"),
            "error[2]: run.yaml: expected a map of keys, got an empty file");
  EXPECT_EQ(parse_error("a: [1, 2\nb: 3\n").substr(0, 19), "error[2]: run.yaml:");
  EXPECT_EQ(parse_error("b: 中\na: \"op\\\"en\n"),
            "error[2]: run.yaml:2:4: expected a closing quote, got the end of the text");
  EXPECT_NE(parse_error("a: 'open"), "");
  EXPECT_EQ(parse_error("\xEF\xBB\xBF# 中文\n\"a\": 'it''s'\nb: \"c\\\"\"\nd: [\"\", '']\n"), "");
  EXPECT_EQ(parse_error("a: ! b\n"), "error[2]: run.yaml:1:4: expected no tags, got !");
  EXPECT_NE(parse_error("\ta: 1\n"), "");
}

TEST(YamlReader, AFileThatIsNoFileIsCode3) {
  const TemporaryFolder folder;
  const std::string missing = (folder.path() / "none.yaml").string();
  EXPECT_EQ(error_line([&] { read_yaml(missing); }),
            "error[3]: " + missing + ": expected a configuration file, found none");
  EXPECT_EQ(error_line([&] { read_yaml(folder.path().string()); }),
            "error[3]: " + folder.path().string() + ": expected a regular file");
  const std::string big = folder.write("big.yaml", std::string(kLongestConfig + 10, '#'));
  EXPECT_EQ(error_line([&] { read_yaml(big); }),
            "error[2]: " + big + ": expected at most 1048576 bytes, got more");
}

TEST(YamlReader, ErrorsStayOnOneLine) {
  const std::string error = parse_error("\"a\\nb\": 1\n\"a\\nb\": 2\n");
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  EXPECT_NE(error.find("a\\x0ab"), std::string::npos) << error;
}

}  // namespace
}  // namespace ink
