// The one line a failed command says: `error[CODE]: place: message`, and perhaps `hint: ...`, on
// stderr.
#pragma once

#include "engine/core/error.h"

namespace ink {

// Prints the exception in flight and returns its exit code. Call inside a catch block.
ExitCode report_current_exception();
void report(const Error& error);

}  // namespace ink
