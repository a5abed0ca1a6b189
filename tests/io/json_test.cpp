#include "engine/io/json.h"

#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

const ExitCode kBad = ExitCode::kBadInput;

TEST(Json, ParsesEveryKindOfValue) {
  const nlohmann::json doc =
      parse_json(R"({"a": [1, -2, 0.5, true, null, "x", {"b": []}], "c": {}})", "f.json");
  EXPECT_EQ(doc.dump(), R"({"a":[1,-2,0.5,true,null,"x",{"b":[]}],"c":{}})");
  EXPECT_EQ(parse_json("7", "f.json"), 7);
}

TEST(Json, RefusesTheSameKeyTwiceAtAnyDepth) {
  expect_error(kBad, {"f.json", "\"k\"", "twice"},
               [] { (void)parse_json(R"({"k":1,"k":1})", "f.json"); });
  expect_error(kBad, {"\"k\""},
               [] { (void)parse_json(R"([{"a":{"k":1,"b":2,"k":3}}])", "f.json"); });
  EXPECT_NO_THROW((void)parse_json(R"([{"k":1},{"k":2}])", "f.json"));
}

TEST(Json, LimitsDepthAndSize) {
  const std::string deep(1'000'000, '[');
  expect_error(kBad, {"64"}, [&] { (void)parse_json(deep, "f.json"); });
  const std::string just = std::string(64, '[') + std::string(64, ']');
  EXPECT_NO_THROW((void)parse_json(just, "f.json"));
  expect_error(kBad, {"at most 4 bytes", "got 5"},
               [] { (void)parse_json("12345", "f.json", {.max_bytes = 4}); });
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", "{", "{\"a\":1,}", "nan", "[1] 2", "{'a':1}", "\xff", "\"\xff\"", "01", "1e400"}) {
    expect_error(kBad, {"f.json"}, [&] { (void)parse_json(text, "f.json"); });
  }
}

TEST(Json, GettersWantTheExactType) {
  const nlohmann::json doc = parse_json(
      R"({"i":-3,"big":18446744073709551615,"e":1e3,"f":1.0,"s":"x","b":true,"n":null,"o":{"p":1},"l":[1,2],"ls":["a","b"]})",
      "f.json");
  const JsonReader reader(doc, "f.json");
  EXPECT_EQ(reader.integer("i"), -3);
  EXPECT_EQ(reader.number("i"), -3.0);
  EXPECT_EQ(reader.number("e"), 1000.0);
  EXPECT_TRUE(reader.boolean("b"));
  EXPECT_EQ(reader.string("s"), "x");
  EXPECT_FALSE(reader.has("n"));
  EXPECT_EQ(reader.integers("l", 0, 9), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(reader.integers("i", -9, 9), (std::vector<int64_t>{-3}));
  EXPECT_EQ(reader.strings("ls"), (std::vector<std::string>{"a", "b"}));
  expect_error(kBad, {"f.json: e", "expected an integer", "1000"},
               [&] { (void)reader.integer("e"); });
  expect_error(kBad, {"f.json: f"}, [&] { (void)reader.integer("f"); });
  expect_error(kBad, {"f.json: big"}, [&] { (void)reader.integer("big"); });
  expect_error(kBad, {"f.json: i", "from 0 to 9", "-3"}, [&] { (void)reader.integer("i", 0, 9); });
  expect_error(kBad, {"f.json: absent", "got nothing"}, [&] { (void)reader.integer("absent"); });
  expect_error(kBad, {"true or false", "\"x\""}, [&] { (void)reader.boolean("s"); });
  expect_error(kBad, {"f.json: o.p", "a string", "1"},
               [&] { (void)reader.object("o").string("p"); });
  expect_error(kBad, {"f.json: ls"}, [&] { (void)reader.integers("ls", 0, 9); });
}

TEST(Json, QuotesForeignNamesOnOneLine) {
  EXPECT_EQ(quote_name("a\nb\"\xff"), "\"a\\nb\\\"\xef\xbf\xbd\"");
  EXPECT_LT(quote_name(std::string(5000, 'x')).size(), 250u);
}

}  // namespace
}  // namespace ink
