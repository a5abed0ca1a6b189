// inkstone generate: completes one prompt, or every prompt of a file.

#include <algorithm>
#include <cstdio>

#include "data/tokenizer/load.h"
#include "engine/io/atomic_file.h"
#include "engine/tensor/out_of_memory.h"
#include "launch/model_source.h"
#include "launch/text_generation.h"
#include "launch/verbs/prompt_file.h"
#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"
#include "models/hub/config_json.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

struct GenerateArguments {
  std::string model, tokenizer, in, out, dtype, device = "auto";
  std::vector<std::string> prompts, ids, stop;
  SamplingOptions sampling;
  bool json = false, no_verify = false;
};

std::vector<Prompt> collect_prompts(const GenerateArguments& a) {
  std::vector<Prompt> prompts;
  for (const std::string& text : a.prompts) prompts.push_back({.text = text});
  for (const std::string& ids : a.ids) prompts.push_back({.ids = parse_ids(ids, "--ids")});
  if (!a.in.empty()) {
    for (Prompt& prompt : read_prompts(a.in)) prompts.push_back(std::move(prompt));
  }
  if (std::ranges::any_of(a.stop, &std::string::empty))
    throw Error(ExitCode::kConfig, "--stop", "expected a text, got an empty one");
  if (prompts.empty())
    throw Error(ExitCode::kConfig, "--prompt", "expected --prompt, --ids or -i, got none of them");
  return prompts;
}

std::unique_ptr<Tokenizer> open_tokenizer(const GenerateArguments& a, const ModelSource& source,
                                          const std::vector<Prompt>& prompts) {
  const std::string path = a.tokenizer.empty() ? source.plan.tokenizer : a.tokenizer;
  if (!path.empty()) {
    auto tokenizer = load_tokenizer(path);
    check_vocabulary(*tokenizer, source.plan.options.vocab_size, a.model);
    return tokenizer;
  }
  for (const Prompt& prompt : prompts) {
    if (!prompt.ids)
      throw Error(ExitCode::kConfig, "--tokenizer",
                  "expected a tokenizer to read the prompt with, got none beside the model",
                  "name one, or give token ids with --ids");
  }
  return nullptr;
}

std::vector<int64_t> stop_ids_of(const ModelSource& source, const Tokenizer* tokenizer) {
  std::vector<int64_t> ids =
      source.plan.weights.empty()
          ? source.plan.options.eos_token_ids
          : read_stop_ids(SafeDirectory(source.plan.weights), source.plan.options);
  if (ids.empty() && tokenizer != nullptr && tokenizer->special_ids().eos)
    ids.push_back(*tokenizer->special_ids().eos);
  return ids;
}

std::string json_line(const TextResult& result) {
  const nlohmann::ordered_json line{{"prompt_ids", result.prompt_ids},
                                    {"ids", result.generated.ids},
                                    {"text", result.text},
                                    {"logprobs", result.generated.logprobs},
                                    {"stop_reason", name_of(result.generated.reason)}};
  return line.dump() + "\n";
}

void print_ids(const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) fmt::print("{}{}", i == 0 ? "" : " ", ids[i]);
}

// The cache of keys and values is as long as prompt and answer may become.
template <class F>
auto with_memory_hint(F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const OutOfMemory& error) {
    throw Error(error.code(), error.place(), error.what(),
                "lower --max-new-tokens, or compute with --dtype bf16");
  }
}

ExitCode run(const GenerateArguments& a, const CommandLine& command) {
  check_sampling(a.sampling);
  const std::vector<Prompt> prompts = collect_prompts(a);
  const DeviceSeat seat = choose_device(parse_device_flag(a.device));
  const ModelSource source = open_model(a.model, WeightForm::kAny, parse_precision_flag(a.dtype),
                                        a.no_verify ? Verify::kNo : Verify::kYes, seat);
  const auto tokenizer = open_tokenizer(a, source, prompts);
  if (!tokenizer && !a.stop.empty())
    throw Error(ExitCode::kConfig, "--stop", "expected a tokenizer to find texts with, got none");
  Runtime runtime({}, seat.make());
  const LoadedModel model = load_model(runtime, source);
  if (!command.quiet) {
    if (!seat.note.empty()) fmt::print(stderr, "{}\n", seat.note);
    for (const std::string& notice : model.notices) fmt::print(stderr, "{}\n", notice);
  }
  SamplingOptions sampling = a.sampling;
  sampling.stop_ids = stop_ids_of(source, tokenizer.get());
  const bool rows = a.json || !a.out.empty();
  TextOptions options{.stop = a.stop};
  if (!rows) {
    options.on_text = [](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    };
  }
  std::string file;
  const Decoder& decoder = model.instance->decoder();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const TextResult result = with_memory_hint([&] {
      return prompts[i].ids
                 ? continue_ids(runtime, decoder, tokenizer.get(), *prompts[i].ids, sampling,
                                options)
                 : continue_text(runtime, decoder, *tokenizer, prompts[i].text, sampling, options);
    });
    if (!a.out.empty()) {
      file += json_line(result);
    } else if (rows) {
      fmt::print("{}", json_line(result));
    } else {
      if (!tokenizer) print_ids(result.generated.ids);
      fmt::print("{}", i + 1 < prompts.size() ? "\n\n" : "\n");
    }
  }
  if (!a.out.empty()) write_file_atomically(a.out, file);
  return ExitCode::kDone;
}

void add_sampling(CLI::App& verb, GenerateArguments& a) {
  SamplingOptions& s = a.sampling;
  verb.add_option("--max-new-tokens", s.max_new_tokens, "longest answer")->capture_default_str();
  verb.add_option("--temperature", s.temperature, "0 = always the likeliest token")
      ->capture_default_str();
  verb.add_option("--top-k", s.top_k, "draw from this many likeliest tokens; 0 = all")
      ->capture_default_str();
  verb.add_option("--top-p", s.top_p, "draw from the likeliest tokens with this mass; 1 = all")
      ->capture_default_str();
  verb.add_option("--min-p", s.min_p,
                  "leave out tokens below this share of the likeliest; 0 = none")
      ->capture_default_str();
  verb.add_option("--repetition-penalty", s.repetition_penalty, "1 = none")->capture_default_str();
  verb.add_option("--seed", s.seed, "of the draws")
      ->transform(whole(at_least(0)))
      ->capture_default_str();
  verb.add_option("--stop", a.stop, "text that ends the answer and is cut off; repeatable")
      ->allow_extra_args(false);
}

}  // namespace

void add_generate(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand("generate", "continue prompts with a model");
  auto a = std::make_shared<GenerateArguments>();
  verb->add_option("--model", a->model, "Hugging Face directory, run directory or step-N")
      ->required();
  verb->add_option("--tokenizer", a->tokenizer, "default: beside the weights");
  verb->add_option("--prompt", a->prompts, "text to continue; repeatable")->allow_extra_args(false);
  verb->add_option("--ids", a->ids, "prompt as token ids, such as \"1 2 3\"; repeatable")
      ->allow_extra_args(false);
  verb->add_option("-i,--in", a->in, "prompts: a .jsonl with `prompt` or `text`, or one per line");
  verb->add_option("-o,--out", a->out, "write the JSON lines into this file");
  add_sampling(*verb, *a);
  verb->add_option("--dtype", a->dtype, "fp32 or bf16; default: that of the model");
  verb->add_option("--device", a->device, "auto, cpu or cuda")->capture_default_str();
  verb->add_flag("--json", a->json, "one JSON line per prompt, with ids and log-probabilities");
  verb->add_flag("--no-verify", a->no_verify, "use a checkpoint without checking file hashes");
  verb->callback([a, &command] { command.run = [a, &command] { return run(*a, command); }; });
}

}  // namespace ink
