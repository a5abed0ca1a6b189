#include "models/hub/remote_code.h"

#include "engine/core/error.h"
#include "engine/io/json.h"
#include "engine/io/safe_path.h"

namespace ink {
namespace {

constexpr uint64_t kMaxFileBytes = 4 << 20;

[[noreturn]] void fail(const std::string& message) {
  throw Error(ExitCode::kConfig, "export as internlm2", message,
              "name a base directory that holds the class's code, or export under Llama names");
}

// "modeling_internlm2.InternLM2ForCausalLM", perhaps behind "repository--": the module's file.
std::string module_file(const std::string& reference) {
  const size_t start = reference.find("--") == std::string::npos ? 0 : reference.find("--") + 2;
  const size_t dot = reference.find('.', start);
  if (dot == std::string::npos)
    fail("expected module.Class in auto_map, got " + quote_name(reference));
  return reference.substr(start, dot - start) + ".py";
}

}  // namespace

RemoteCode read_remote_code(const std::filesystem::path& base) {
  if (base.empty())
    fail("expected a base directory with the code of InternLM2ForCausalLM, got none");
  const SafeDirectory directory(base);
  if (!directory.has("config.json"))
    fail(fmt::format("expected {}, got none", directory.place("config.json")));
  const nlohmann::json document = read_json(directory.open("config.json"));
  const JsonReader config(document, directory.place("config.json"));
  if (!config.has("auto_map"))
    fail(fmt::format("expected auto_map in {}, got none", config.place()));

  RemoteCode code{.auto_map = config.at("auto_map"), .files = {}};
  const JsonReader map = config.object("auto_map");
  for (const std::string& key : map.keys()) {
    if (!map.at(key).is_string()) continue;  // AutoTokenizer lists a slow and a fast class
    const std::string file = module_file(map.string(key));
    if (!directory.has(file))
      fail(fmt::format("expected {}, which auto_map names, got none", directory.place(file)));
  }
  for (const std::string& name : directory.names()) {
    if (name.ends_with(".py")) code.files[name] = read_text(directory.open(name), kMaxFileBytes);
  }
  return code;
}

}  // namespace ink
