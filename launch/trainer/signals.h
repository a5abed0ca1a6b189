// Signals that ask for a save and an end: SIGINT, SIGTERM, SIGUSR1.
//
// The first one sets a flag that is polled at step boundaries and in every long loop; a second
// SIGINT or SIGTERM leaves at once with 128 + signal. SIGUSR1 is no first and no second one:
// launchers and schedulers send it beside the others, in either order. SIGXFSZ and SIGPIPE are
// ignored, so that writes return an error instead.
#pragma once

namespace ink {

void install_signal_handlers();
// The signal that asked to stop, 0 when none has.
[[nodiscard]] int stop_signal();
// For tests that run several trainings in one process.
void clear_stop_signal();

}  // namespace ink
