// Marks are timing events in the stream of the kernels.
#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/cuda_stream.h"
#include "engine/tensor/device_mark.h"

namespace ink {
namespace {

class CudaMark final : public DeviceMark {
 public:
  explicit CudaMark(CudaBackend& backend) : backend_(backend) { event_.record(backend.stream()); }
  double seconds_since(const DeviceMark& earlier) const override {
    backend_.wait_for(event_.get());
    return event_.milliseconds_since(static_cast<const CudaMark&>(earlier).event_) * 1e-3;
  }

 private:
  CudaBackend& backend_;
  StreamEvent event_{Timing::kKept};
};

const bool kRegistered =
    register_marks(Device::kCuda, [](Runtime& runtime) -> std::unique_ptr<DeviceMark> {
      return std::make_unique<CudaMark>(static_cast<CudaBackend&>(runtime.backend()));
    });

}  // namespace
}  // namespace ink
