#include "launch/trainer/reference_log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace ink {
namespace {

std::string last_part(const std::string& path) {
  const std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  const std::filesystem::path name =
      normal.has_filename() ? normal.filename() : normal.parent_path().filename();
  return name.stem().string();
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : std::nan(""); }

double zero_if_nan(double value) { return std::isnan(value) ? 0 : value; }

}  // namespace

TextTypes text_types(const DataSet& data) {
  TextTypes types;
  for (const LoaderSource& source : data.train) {
    for (const std::string& path : source.packs->source_names()) {
      const std::string name = last_part(path);
      const auto found = std::ranges::find(types.names, name);
      types.type_of_source.push_back(found - types.names.begin());
      if (found == types.names.end()) types.names.push_back(name);
    }
  }
  return types;
}

BatchShape shape_of(std::span<const HostBatch> micro_batches) {
  BatchShape shape;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    const HostBatch& batch = micro_batches[i];
    int64_t documents = 0;
    for (size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
      if (batch.source_ids[d] < 0) continue;
      ++documents;
      shape.longest =
          std::max<int64_t>(shape.longest, batch.cu_seqlens[d + 1] - batch.cu_seqlens[d]);
    }
    shape.documents += documents;
    shape.most = std::max(shape.most, documents);
    shape.fewest = i == 0 ? documents : std::min(shape.fewest, documents);
  }
  return shape;
}

// There, an accuracy without tokens is 0 and a loss without tokens is not a number.
ReferenceRow ReferenceLog::row(const StepRow& step, const StepResult& result,
                               const ReferenceFacts& facts) {
  ReferenceRow row{.step = step.step - 1,
                   .tflops = step.reference_tflops.value_or(0),
                   .loss = step.computed() ? step.loss : std::nan(""),
                   .lr = step.lr,
                   .loss_scale = step.loss_scale,
                   .grad_norm = step.group_norms,
                   .micro_num = facts.micro_batches,
                   .consumed_tokens = facts.consumed_tokens,
                   .skipped = step.skipped,
                   .samples = facts.shape.documents,
                   .largest_length = facts.shape.longest,
                   .largest_batch = facts.shape.most,
                   .smallest_batch = facts.shape.fewest,
                   .beta2 = step.beta2,
                   .forward_backward_time = result.forward_backward_seconds,
                   .backward_time = result.backward_seconds,
                   .skip_reason = step.skip_reason};
  const double seconds = step.step_time;
  row.real_tgs = ratio(static_cast<double>(step.trained_tokens) / devices_, seconds);
  row.speed = history_.add(static_cast<double>(facts.tokens) / devices_, seconds);
  if (row.grad_norm.empty()) row.grad_norm = {{"0_default", step.grad_norm}};
  TypeScore all;
  for (size_t i = 0; i < result.types.size(); ++i) {
    const TypeScore& type = result.types[i];
    all.loss += type.loss;
    all.correct += type.correct;
    all.tokens += type.tokens;
    row.types.push_back({.name = types_.names[i],
                         .accuracy = zero_if_nan(ratio(type.correct, type.tokens)),
                         .loss = ratio(type.loss, type.tokens),
                         .tokens = static_cast<int64_t>(type.tokens)});
  }
  row.accuracy = zero_if_nan(ratio(all.correct, all.tokens));
  row.loss_from_metric = ratio(all.loss, all.tokens);
  return row;
}

}  // namespace ink
