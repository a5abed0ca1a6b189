// The part of HDF5 that the token store uses: chunked tables of unsigned integers with the
// Fletcher32 filter, in groups of one level, nothing else.
//
// Reading refuses what a store never contains before the library follows it: soft and external
// links, virtual, external and contiguous storage, other types, ranks and filters, plugins, sizes
// that the file cannot hold. The library is not thread-safe and keeps its state per process, so
// every call here takes one process-wide lock; its own error printing is off. Errors: code 3 with
// file and data set, code 4 when writing fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace ink {

// An identifier of the library, closed under the lock.
class Hdf5Handle {
 public:
  using Close = int (*)(int64_t);
  Hdf5Handle() = default;
  Hdf5Handle(int64_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  ~Hdf5Handle();
  [[nodiscard]] int64_t get() const { return id_; }

 private:
  int64_t id_ = -1;
  Close close_ = nullptr;
};

enum class Hdf5Type { kU8, kU16, kU32, kU64 };
[[nodiscard]] int64_t size_of(Hdf5Type type);

// A table of `rows` x `columns`; columns == 0 means rank 1.
class Hdf5Table {
 public:
  [[nodiscard]] Hdf5Type type() const { return type_; }
  [[nodiscard]] uint64_t rows() const { return rows_; }
  [[nodiscard]] const std::string& place() const { return place_; }  // file:/group/name

  // Rows [first, first + count) in the table's own type.
  void read(uint64_t first, uint64_t count, void* out) const;
  template <class T>
  [[nodiscard]] std::vector<T> read(uint64_t first, uint64_t count) const {
    std::vector<T> values(count * std::max<uint64_t>(columns_, 1));
    check_element(sizeof(T));
    read(first, count, values.data());
    return values;
  }
  // Adds `count` rows at the end.
  void append(uint64_t count, const void* values);

 private:
  friend class Hdf5File;
  void check_element(size_t bytes) const;

  std::string place_;
  Hdf5Type type_ = Hdf5Type::kU8;
  uint64_t rows_ = 0, columns_ = 0;
  Hdf5Handle handle_;
};

class Hdf5File {
 public:
  // A new file; `place` names it in errors (the final name of a temporary file).
  [[nodiscard]] static Hdf5File create(const std::filesystem::path& path, std::string place);
  [[nodiscard]] static Hdf5File open(const std::filesystem::path& path);

  void add_group(const std::string& name);
  [[nodiscard]] Hdf5Table add_table(const std::string& name, Hdf5Type type, uint64_t columns,
                                    uint64_t chunk_rows);
  // Ends writing: every byte is on the disk afterwards. Tables must be gone.
  void close_and_sync();

  // Code 3 unless `group` ("/" or "/name") holds exactly these names, all hard links.
  void check_members(const std::string& group, std::vector<std::string> names) const;
  [[nodiscard]] Hdf5Table table(const std::string& name, std::initializer_list<Hdf5Type> types,
                                uint64_t columns) const;

 private:
  std::filesystem::path path_;
  std::string place_;
  uint64_t file_bytes_ = 0;
  mutable uint64_t claimed_bytes_ = 0;  // storage of the tables opened so far
  Hdf5Handle handle_;
};

// True if the file begins with the HDF5 signature; false if it cannot be read.
[[nodiscard]] bool has_hdf5_signature(const std::filesystem::path& path);

}  // namespace ink
