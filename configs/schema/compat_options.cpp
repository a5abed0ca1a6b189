#include "configs/schema/compat_options.h"

namespace ink {
namespace {

struct SwitchLister {
  std::vector<std::string> names;
  void field(std::string_view name, bool& on, std::string_view, const Rule& = {}) {
    if (on) names.emplace_back(name);
  }
};

}  // namespace

std::vector<std::string> switches_of(const Compat& compat) {
  Compat copy = compat;  // field lists take members by reference
  SwitchLister lister;
  copy.fields(lister);
  return lister.names;
}

}  // namespace ink
