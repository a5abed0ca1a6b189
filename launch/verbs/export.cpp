// inkstone export hf: the weights of a checkpoint or a directory as a Hugging Face directory.

#include "data/tokenizer/export.h"

#include <cstdio>

#include "data/tokenizer/load.h"
#include "launch/model_source.h"
#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"
#include "models/hub/export.h"

namespace ink {
namespace {

struct ExportArguments {
  std::string in, out, arch, dtype, tokenizer, shard_size = "2GB", base;
  bool overwrite = false, no_verify = false;
};

std::optional<HfClass> class_of(const std::string& arch) {
  if (arch == "llama") return HfClass::kLlama;
  if (arch == "internlm2") return HfClass::kInternLM2;
  if (arch == "qwen2") return HfClass::kQwen2;
  return std::nullopt;
}

DType target_dtype(const std::string& flag, const ModelSource& source) {
  if (flag == "fp32") return DType::kF32;
  if (flag == "bf16") return DType::kBF16;
  if (flag == "fp16") return DType::kF16;
  const DType stored = stored_dtype(source);
  return stored == DType::kF64 ? DType::kF32 : stored;
}

// Remote code lies beside InternLM2 weights; a directory that is one needs no --base.
std::filesystem::path remote_code_base(const ExportArguments& a, const ModelSource& source) {
  return a.base.empty() ? source.plan.weights : std::filesystem::path(a.base);
}

ExitCode run(const ExportArguments& a, const CommandLine& command) {
  ModelSource source =
      open_model(a.in, WeightForm::kState, std::nullopt, a.no_verify ? Verify::kNo : Verify::kYes);
  const DType dtype = target_dtype(a.dtype, source);
  // Rounded once: f16 is made from f32, never by way of bf16.
  source.plan.compute = dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
  const std::string tokenizer_path = a.tokenizer.empty() ? source.plan.tokenizer : a.tokenizer;
  ExportOptions options{
      .hf_class = class_of(a.arch),
      .dtype = dtype,
      .max_shard_bytes = static_cast<uint64_t>(parse_bytes_flag("--max-shard-size", a.shard_size)),
      .stop_ids = {},
      .remote_code_from = remote_code_base(a, source),
      .existing = a.overwrite ? Existing::kReplace : Existing::kRefuse};
  require_expressible(source.plan.options,
                      options.hf_class.value_or(default_hf_class(source.plan.options.family)));
  if (!tokenizer_path.empty()) {
    const auto tokenizer = load_tokenizer(tokenizer_path);
    check_vocabulary(*tokenizer, source.plan.options.vocab_size, a.in);
    ModelOptions& model = source.plan.options;
    if (!model.bos_token_id) model.bos_token_id = tokenizer->special_ids().bos;
    if (model.eos_token_ids.empty() && tokenizer->special_ids().eos)
      model.eos_token_ids = {*tokenizer->special_ids().eos};
    options.write_more = [&](const std::filesystem::path& into) {
      export_tokenizer(tokenizer_path, into);
    };
  }
  if (!source.plan.weights.empty())
    options.stop_ids = read_stop_ids(SafeDirectory(source.plan.weights), source.plan.options);
  Runtime runtime;
  LoadedModel model = load_model(runtime, source);
  const ExportReport report =
      write_hf(a.out, source.plan.options, weights_of(model.instance->parameters()), options);
  if (tokenizer_path.empty()) model.notices.push_back("no tokenizer: the directory has none");
  model.notices.insert(model.notices.end(), report.notices.begin(), report.notices.end());
  if (!command.quiet) {
    for (const std::string& notice : model.notices) fmt::print(stderr, "{}\n", notice);
  }
  fmt::print("{}\n", a.out);
  for (const auto& file : report.weight_files)
    fmt::print("  {}  {} bytes  sha256 {}\n", file.name, file.bytes, file.sha256);
  return ExitCode::kDone;
}

}  // namespace

void add_export(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand("export", "write weights for other programs");
  verb->require_subcommand(1);
  CLI::App* hf = verb->add_subcommand("hf", "a directory that transformers loads as it lies");
  auto a = std::make_shared<ExportArguments>();
  hf->add_option("--in", a->in, "run directory, step-N or Hugging Face directory")->required();
  hf->add_option("--out", a->out, "directory to make")->required();
  hf->add_option("--arch", a->arch, "class to write for; default: qwen2 for qwen2, else llama")
      ->check(one_of({"llama", "internlm2", "qwen2"}));
  hf->add_option("--dtype", a->dtype, "fp32, bf16 or fp16; default: as stored")
      ->check(one_of({"fp32", "bf16", "fp16"}));
  hf->add_option("--tokenizer", a->tokenizer, "default: that of the model");
  hf->add_option("--max-shard-size", a->shard_size, "largest weight file")->capture_default_str();
  hf->add_option("--base", a->base,
                 "directory with the Python files that internlm2 names need (copied, never run)");
  hf->add_flag("--overwrite", a->overwrite, "replace an existing directory");
  hf->add_flag("--no-verify", a->no_verify, "read a checkpoint without checking file hashes");
  hf->callback([a, &command] { command.run = [a, &command] { return run(*a, command); }; });
}

}  // namespace ink
