// Weights of a Hugging Face directory into the parameters of a model.
//
// The directory must hold exactly the tensors of the model, in the right shapes: what is missing is
// never replaced by random values. check_import reads headers only, so it can run before anything
// is allocated; load_weights checks again and streams tensor by tensor through a few MiB. Files in
// f64, f32, bf16 and f16 fill parameters of any float dtype. Errors are Error 3.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "configs/schema/model_options.h"
#include "models/hub/hf_directory.h"
#include "models/hub/weights.h"

namespace ink {

struct ImportOptions {
  // Shell patterns over Hugging Face names; a missing tensor that matches keeps its parameter's
  // value.
  std::vector<std::string> allow_missing;
  bool allow_nonfinite = false;
};

// Both flags leave lines for the log in the notices that these return.
Notices check_import(const HfDirectory& directory, const ModelOptions& model,
                     const ImportOptions& options = {});
// `weights` are the model's parameters, all of them, in any order.
Notices load_weights(const HfDirectory& directory, const ModelOptions& model,
                     std::span<const NamedTensor> weights, const ImportOptions& options = {});

}  // namespace ink
