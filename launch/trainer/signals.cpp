#include "launch/trainer/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace ink {
namespace {

// A handler can reach nothing but static storage.
std::atomic<int> requested{0};

void on_signal(int signal) {
  const int before = requested.load();
  if (signal == SIGUSR1 && before != 0) return;
  if (before != 0 && before != SIGUSR1) _exit(128 + signal);
  requested.store(signal);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (const int signal : {SIGXFSZ, SIGPIPE}) sigaction(signal, &ignore, nullptr);
}

int stop_signal() { return requested.load(); }

void clear_stop_signal() { requested.store(0); }

}  // namespace ink
