#include "launch/cli/error_report.h"

#include <cstdio>
#include <filesystem>
#include <new>
#include <system_error>

namespace ink {

void report(const Error& error) { fmt::print(stderr, "{}\n", error.line()); }

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {ExitCode::kOutOfMemory, "memory", "the system has no more host memory"};
  } catch (const std::filesystem::filesystem_error& error) {
    return {ExitCode::kIo, error.path1().string(), error.code().message()};
  } catch (const std::system_error& error) {
    return {ExitCode::kIo, "system", error.what()};
  } catch (const std::exception& error) {
    return {ExitCode::kInternal, "internal", error.what()};
  }
}

ExitCode report_current_exception() {
  const Error error = current_error();
  report(error);
  return error.code();
}

}  // namespace ink
