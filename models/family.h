// The registry of model families: a name of ModelOptions::family and the function that builds its
// decoder.
//
// One file per family registers itself (REGISTER_MODEL); make_model() is what launch and the tests
// call.
#pragma once

#include <memory>

#include "configs/schema/model_options.h"
#include "engine/nn/builder.h"
#include "models/common/decoder.h"

namespace ink {

using MakeModel = std::unique_ptr<Decoder> (*)(Builder&, const ModelOptions&);

// Error(kConfig) for a family that is not built; InternalError for shapes that do not fit together.
[[nodiscard]] std::unique_ptr<Decoder> make_model(Builder& builder, const ModelOptions& options);

bool register_model(Family family, MakeModel make);

}  // namespace ink

#define REGISTER_MODEL(family, make)                       \
  [[maybe_unused]] static const bool family##_registered = \
      ::ink::register_model(::ink::Family::family, make)
