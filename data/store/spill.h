// Documents on disk in the order of their arrival, read back in any order: how the writer permutes
// more tokens than memory holds. Two files without a lasting name (unlinked while open), 24 bytes
// of index and 5 bytes per token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/packing/pack.h"
#include "engine/io/file.h"

namespace ink {

class Spill {
 public:
  // The files lie in `folder`. Code 4 if they cannot be made or written.
  explicit Spill(const std::filesystem::path& folder);

  void append(const TokenDocument& document);
  [[nodiscard]] uint64_t documents() const { return documents_; }
  // Ends appending on the first call.
  void read(uint64_t document, TokenDocument& out);

 private:
  struct Entry {
    uint64_t offset = 0;  // bytes
    uint32_t length = 0;  // tokens
    int32_t source = 0;
    int64_t origin = 0;
  };
  // An unnamed file with a write buffer.
  class Stream {
   public:
    explicit Stream(const std::filesystem::path& folder);
    void append(const void* bytes, size_t count);
    void flush();
    void read(uint64_t offset, void* out, size_t count) const;
    [[nodiscard]] uint64_t size() const { return written_ + buffer_.size(); }

   private:
    std::filesystem::path folder_;
    Descriptor file_;
    std::vector<char> buffer_;
    uint64_t written_ = 0;
  };

  Stream tokens_, index_;
  uint64_t documents_ = 0;
  bool reading_ = false;
};

}  // namespace ink
