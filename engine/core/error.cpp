#include "engine/core/error.h"

namespace ink {

std::string Error::line() const {
  std::string text = fmt::format("error[{}]: ", static_cast<int>(code_));
  if (!place_.empty()) text += place_ + ": ";
  text += what();
  if (!hint_.empty()) text += "\nhint: " + hint_;
  return text;
}

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  const std::string path = file;
  const size_t slash = path.find_last_of('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  throw InternalError(fmt::format("{}:{}: {} ({})", name, line, message, condition));
}

void op_check_failed(const char* op, const std::string& message) {
  throw InternalError(fmt::format("[{}] {}", op, message));
}

}  // namespace ink
