#include "engine/tensor/cuda_staging.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/tensor/cuda_backend.h"

namespace ink {
namespace {

constexpr int64_t kAlignment = 256;

}  // namespace

PinnedBuffer::PinnedBuffer(int64_t bytes) : bytes_(bytes) {
  check_cuda(cudaMallocHost(&pointer_, static_cast<size_t>(bytes)), "cudaMallocHost");
}

// A large copy goes in parts of a quarter of the ring: the next part is filled while one flies.
void UploadRing::upload(void* to, const void* from, int64_t bytes) {
  const int64_t most = ring_.bytes() / 4;
  for (int64_t done = 0; done < bytes; done += most) {
    const int64_t part = std::min(most, bytes - done);
    const int64_t begin = make_room(part);
    std::byte* staged = ring_.data() + begin;
    std::memcpy(staged, static_cast<const std::byte*>(from) + done, static_cast<size_t>(part));
    check_cuda(
        cudaMemcpyAsync(static_cast<std::byte*>(to) + done, staged, static_cast<size_t>(part),
                        cudaMemcpyHostToDevice, backend_.stream()),
        "copy to the card");
    if (events_.empty()) events_.push_back(std::make_unique<StreamEvent>());
    Flight flight{begin, begin + part, std::move(events_.back())};
    events_.pop_back();
    flight.landed->record(backend_.stream());
    flights_.push_back(std::move(flight));
  }
}

int64_t UploadRing::make_room(int64_t bytes) {
  const int64_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (next_ + room > ring_.bytes()) next_ = 0;
  const int64_t begin = next_, end = next_ + room;
  next_ = end;
  const auto in_the_way = [&] {
    return std::ranges::any_of(flights_,
                               [&](const Flight& f) { return f.begin < end && begin < f.end; });
  };
  while (!flights_.empty() && flights_.front().landed->passed()) retire_oldest();
  while (in_the_way()) {
    backend_.wait_for(flights_.front().landed->get());
    retire_oldest();
  }
  return begin;
}

void UploadRing::retire_oldest() {
  events_.push_back(std::move(flights_.front().landed));
  flights_.pop_front();
}

class ReadBuffers::Read final : public HostRead {
 public:
  Read(ReadBuffers& owner, std::unique_ptr<PinnedBuffer> buffer, int64_t bytes)
      : owner_(owner), buffer_(std::move(buffer)), bytes_(bytes) {
    landed_.record(owner_.backend_.stream());
  }
  // The card may still write: the buffer goes to a copy that is issued behind this one.
  ~Read() override { owner_.free_.emplace(buffer_->bytes(), std::move(buffer_)); }
  std::span<const std::byte> wait() override {
    owner_.backend_.wait_for(landed_.get());
    return {buffer_->data(), static_cast<size_t>(bytes_)};
  }

 private:
  ReadBuffers& owner_;
  std::unique_ptr<PinnedBuffer> buffer_;
  int64_t bytes_;
  StreamEvent landed_;
};

std::unique_ptr<HostRead> ReadBuffers::read_later(const void* from, int64_t bytes) {
  const auto rounded =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(bytes, kAlignment))));
  std::unique_ptr<PinnedBuffer> buffer;
  if (const auto found = free_.find(rounded); found != free_.end()) {
    buffer = std::move(found->second);
    free_.erase(found);
  } else {
    buffer = std::make_unique<PinnedBuffer>(rounded);
  }
  if (bytes > 0)
    check_cuda(cudaMemcpyAsync(buffer->data(), from, static_cast<size_t>(bytes),
                               cudaMemcpyDeviceToHost, backend_.stream()),
               "copy to the host");
  return std::make_unique<Read>(*this, std::move(buffer), bytes);
}

}  // namespace ink
