#include "data/store/spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "engine/core/error.h"
#include "engine/io/atomic_file.h"

namespace ink {
namespace {
constexpr size_t kBufferBytes = size_t{1} << 20;
}

Spill::Stream::Stream(const std::filesystem::path& folder) : folder_(folder) {
  const std::filesystem::path path = temporary_name(folder / "spill");
  file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file_) throw Error(ExitCode::kIo, path.string(), system_error("", "create", errno).what());
  ::unlink(path.c_str());
  buffer_.reserve(kBufferBytes);
}

void Spill::Stream::append(const void* bytes, size_t count) {
  const char* first = static_cast<const char*>(bytes);
  buffer_.insert(buffer_.end(), first, first + count);
  if (buffer_.size() >= kBufferBytes) flush();
}

void Spill::Stream::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t wrote = ::write(file_.get(), buffer_.data() + done, buffer_.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0)
      throw Error(ExitCode::kIo, folder_.string(),
                  system_error("", "write temporary data to", wrote < 0 ? errno : ENOSPC).what());
    done += static_cast<size_t>(wrote);
  }
  written_ += buffer_.size();
  buffer_.clear();
}

void Spill::Stream::read(uint64_t offset, void* out, size_t count) const {
  auto* bytes = static_cast<char*>(out);
  while (count > 0) {
    const ssize_t got = ::pread(file_.get(), bytes, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Error(ExitCode::kIo, folder_.string(),
                  system_error("", "read temporary data from", got < 0 ? errno : EIO).what());
    bytes += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
}

Spill::Spill(const std::filesystem::path& folder) : tokens_(folder), index_(folder) {}

void Spill::append(const TokenDocument& document) {
  CHECK(!reading_, "append after read");
  const size_t length = document.ids.size();
  CHECK(document.untrained.empty() || document.untrained.size() == length, "{} flags for {} ids",
        document.untrained.size(), length);
  const Entry entry{tokens_.size(), static_cast<uint32_t>(length), document.source,
                    document.origin};
  index_.append(&entry, sizeof(entry));
  tokens_.append(document.ids.data(), length * sizeof(int32_t));
  if (document.untrained.empty()) {
    const std::vector<uint8_t> trained(length, 0);
    tokens_.append(trained.data(), length);
  } else {
    tokens_.append(document.untrained.data(), length);
  }
  ++documents_;
}

void Spill::read(uint64_t document, TokenDocument& out) {
  if (!reading_) {
    tokens_.flush();
    index_.flush();
    reading_ = true;
  }
  Entry entry;
  index_.read(document * sizeof(Entry), &entry, sizeof(entry));
  out.ids.resize(entry.length);
  out.untrained.resize(entry.length);
  out.source = entry.source;
  out.origin = entry.origin;
  tokens_.read(entry.offset, out.ids.data(), entry.length * sizeof(int32_t));
  tokens_.read(entry.offset + entry.length * sizeof(int32_t), out.untrained.data(), entry.length);
}

}  // namespace ink
