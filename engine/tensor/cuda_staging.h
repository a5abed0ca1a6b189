// Pinned host memory between the host and the card, so that neither waits for the other.
//
// Uploads go through a ring: the bytes are taken before the call returns, and the host waits only
// when it is a whole ring ahead of the card. Reads get a buffer each, kept for the next one. Used
// by one thread, like the backend that owns it, which lives longer than every read.
#pragma once

#include <cuda_runtime.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "engine/tensor/backend.h"
#include "engine/tensor/cuda_stream.h"

namespace ink {

class CudaBackend;

// Page-locked host memory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(int64_t bytes);
  ~PinnedBuffer() { (void)cudaFreeHost(pointer_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(pointer_); }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  void* pointer_ = nullptr;
  int64_t bytes_;
};

class UploadRing {
 public:
  explicit UploadRing(CudaBackend& backend, int64_t bytes = int64_t{16} << 20)
      : backend_(backend), ring_(bytes) {}
  void upload(void* to, const void* from, int64_t bytes);

 private:
  struct Flight {
    int64_t begin = 0, end = 0;  // in the ring
    std::unique_ptr<StreamEvent> landed;
  };
  // Where so many bytes of the ring are free; waits for the copies that still read them.
  int64_t make_room(int64_t bytes);
  void retire_oldest();

  CudaBackend& backend_;
  PinnedBuffer ring_;
  int64_t next_ = 0;
  std::deque<Flight> flights_;
  std::vector<std::unique_ptr<StreamEvent>> events_;  // for reuse
};

class ReadBuffers {
 public:
  explicit ReadBuffers(CudaBackend& backend) : backend_(backend) {}
  [[nodiscard]] std::unique_ptr<HostRead> read_later(const void* from, int64_t bytes);

 private:
  class Read;
  CudaBackend& backend_;
  std::multimap<int64_t, std::unique_ptr<PinnedBuffer>> free_;  // by size
};

}  // namespace ink
