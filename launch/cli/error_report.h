// The one line a failed command says: `error[CODE]: place: message`, and perhaps `hint: ...`, on
// stderr.
#pragma once

#include "engine/core/error.h"

namespace ink {

// The exception in flight as an Error, whatever its type. Call inside a catch block.
[[nodiscard]] Error current_error();
// Prints it and returns its exit code.
ExitCode report_current_exception();
void report(const Error& error);

}  // namespace ink
