#include "launch/cli/error_report.h"

#include <cstdio>
#include <filesystem>
#include <new>
#include <system_error>

namespace ink {

void report(const Error& error) { fmt::print(stderr, "{}\n", error.line()); }

ExitCode report_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    report(error);
    return error.code();
  } catch (const std::bad_alloc&) {
    report(Error(ExitCode::kOutOfMemory, "memory", "the system has no more host memory"));
    return ExitCode::kOutOfMemory;
  } catch (const std::filesystem::filesystem_error& error) {
    report(Error(ExitCode::kIo, error.path1().string(), error.code().message()));
    return ExitCode::kIo;
  } catch (const std::system_error& error) {
    report(Error(ExitCode::kIo, "system", error.what()));
    return ExitCode::kIo;
  } catch (const std::exception& error) {
    report(Error(ExitCode::kInternal, "internal", error.what()));
    return ExitCode::kInternal;
  }
}

}  // namespace ink
