#include "data/text/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <span>
#include <utility>

#include "engine/core/error.h"
#include "engine/io/file.h"

namespace ink {
namespace {

constexpr size_t kBlock = size_t{1} << 18;
constexpr size_t kMaxLineBytes = size_t{256} << 20;

// Turns packed bytes into plain ones. `in` loses what was used.
class Unpacker {
 public:
  virtual ~Unpacker() = default;
  // Bytes written to out.
  virtual size_t unpack(std::string_view& in, std::span<char> out, const std::string& path) = 0;
  // Whether the data may end here.
  [[nodiscard]] virtual bool complete() const = 0;
};

[[noreturn]] void damaged(const std::string& path, const char* kind, const char* what) {
  throw Error(ExitCode::kBadInput, path,
              fmt::format("expected {} data, got damaged ones: {}", kind, what));
}

class Plain final : public Unpacker {
 public:
  size_t unpack(std::string_view& in, std::span<char> out, const std::string&) override {
    const size_t n = in.copy(out.data(), out.size());
    in.remove_prefix(n);
    return n;
  }
  [[nodiscard]] bool complete() const override { return true; }
};

class Gzip final : public Unpacker {
 public:
  Gzip() {
    CHECK(inflateInit2(&z_, 15 + 16) == Z_OK, "zlib has no memory");
  }  // 16: a gzip header is required
  ~Gzip() override { inflateEnd(&z_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  size_t unpack(std::string_view& in, std::span<char> out, const std::string& path) override {
    if (ended_) {
      inflateReset(&z_);
      ended_ = false;
    }
    z_.next_in =
        reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));  // zlib's type; it only reads
    z_.avail_in = static_cast<uInt>(in.size());
    z_.next_out = reinterpret_cast<Bytef*>(out.data());
    z_.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&z_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      damaged(path, "gzip", z_.msg != nullptr ? z_.msg : "unknown");
    }
    ended_ = status == Z_STREAM_END;
    in.remove_prefix(in.size() - z_.avail_in);
    return out.size() - z_.avail_out;
  }
  [[nodiscard]] bool complete() const override { return ended_; }

 private:
  z_stream z_{};
  bool ended_ = false;
};

class Zstd final : public Unpacker {
 public:
  Zstd() : stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    CHECK(stream_ != nullptr, "zstd has no memory");
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, 27);  // 128 MiB
  }
  size_t unpack(std::string_view& in, std::span<char> out, const std::string& path) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const size_t left = ZSTD_decompressStream(stream_.get(), &to, &from);
    if (ZSTD_isError(left) != 0) damaged(path, "zstd", ZSTD_getErrorName(left));
    complete_ = left == 0;
    in.remove_prefix(from.pos);
    return to.pos;
  }
  [[nodiscard]] bool complete() const override { return complete_; }

 private:
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  bool complete_ = false;
};

std::unique_ptr<Unpacker> unpacker_for(std::string_view start) {
  if (start.starts_with("\x1F\x8B")) return std::make_unique<Gzip>();
  if (start.starts_with("\x28\xB5\x2F\xFD")) return std::make_unique<Zstd>();
  return std::make_unique<Plain>();
}

}  // namespace

struct ByteSource::Stream {
  File file;
  uint64_t at = 0;
  std::string in, out;
  std::string_view waiting;  // read from the file, not unpacked yet
  std::unique_ptr<Unpacker> unpacker;

  explicit Stream(const std::string& path) : file(File::open(path)) {}

  void refill() {
    in.resize(std::min<uint64_t>(kBlock, file.size() - at));
    file.read(at, std::as_writable_bytes(std::span(in)));
    at += in.size();
    waiting = in;
  }
};

ByteSource::ByteSource(const std::string& path)
    : path_(path), stream_(std::make_unique<Stream>(path)) {
  stream_->refill();
  stream_->unpacker = unpacker_for(stream_->waiting);
  stream_->out.resize(kBlock);
}

ByteSource::~ByteSource() = default;

int64_t ByteSource::file_bytes_read() const {
  return static_cast<int64_t>(stream_->at - stream_->waiting.size());
}

std::string_view ByteSource::unpack() {
  Stream& s = *stream_;
  while (true) {
    if (s.waiting.empty() && s.at < s.file.size()) s.refill();
    const bool at_end = s.waiting.empty();
    if (at_end && s.unpacker->complete()) return {};
    const size_t n = s.unpacker->unpack(s.waiting, s.out, path_);
    if (n > 0) return std::string_view(s.out).substr(0, n);
    if (at_end && !s.unpacker->complete()) damaged(path_, "packed", "the file ends too early");
  }
}

std::string_view ByteSource::peek() {
  if (peeked_.empty()) peeked_ = unpack();
  return peeked_;
}

std::string_view ByteSource::next() {
  if (peeked_.empty()) return unpack();
  stream_->out.replace(0, peeked_.size(), peeked_);
  const size_t n = std::exchange(peeked_, {}).size();
  return std::string_view(stream_->out).substr(0, n);
}

std::string read_all(ByteSource& source, size_t limit) {
  std::string text;
  for (std::string_view chunk = source.next(); !chunk.empty(); chunk = source.next()) {
    if (text.size() + chunk.size() > limit) {
      throw Error(ExitCode::kBadInput, source.path(),
                  fmt::format("expected a document of at most {} bytes, got more", limit),
                  "read it line by line: --format lines");
    }
    text += chunk;
  }
  return text;
}

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  while (true) {
    if (chunk_.empty()) chunk_ = source_.next();
    if (chunk_.empty()) break;
    any = true;
    const size_t end = chunk_.find('\n');
    line += chunk_.substr(0, end);
    if (line.size() > kMaxLineBytes) {
      throw Error(ExitCode::kBadInput, fmt::format("{}:{}", source_.path(), line_number_ + 1),
                  fmt::format("expected lines of at most {} bytes, got more", kMaxLineBytes));
    }
    if (end != std::string_view::npos) {
      chunk_.remove_prefix(end + 1);
      break;
    }
    chunk_ = {};
  }
  if (!any) return false;
  ++line_number_;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

}  // namespace ink
