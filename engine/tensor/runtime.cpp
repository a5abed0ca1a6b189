#include "engine/tensor/runtime.h"

#include <utility>

namespace ink {

Runtime::Runtime(RuntimeOptions options, std::unique_ptr<DeviceBackend> backend)
    : options_(options), backend_(std::move(backend)) {
  allocator().set_limit(options_.memory_limit);
}

}  // namespace ink
