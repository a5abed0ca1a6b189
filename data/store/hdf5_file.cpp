#include "data/store/hdf5_file.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <mutex>
#include <utility>

#include "engine/core/error.h"
#include "engine/io/file.h"

namespace ink {
namespace {

static_assert(sizeof(hid_t) == sizeof(int64_t));

constexpr uint64_t kMaxChunkBytes = uint64_t{1} << 24;
constexpr uint64_t kChecksumBytes = 4;  // what Fletcher32 adds to a chunk

// One lock for the process: the library's tables are shared by all files.
class Hdf5Lock {
 public:
  Hdf5Lock() : lock_(mutex()) {
    // Handles are closed by their owners. At exit the library would walk over a file whose close
    // failed (a full disk) and crash; it must be told before any other call.
    [[maybe_unused]] static const herr_t no_exit_handler = H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5Eclear2(H5E_DEFAULT);
  }

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  std::lock_guard<std::mutex> lock_;
};

// The innermost message of the library's error stack.
std::string library_message() {
  std::string message = "no reason given";
  const auto take_first = [](unsigned depth, const H5E_error2_t* error, void* out) -> herr_t {
    if (depth == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &message);
  return message;
}

[[noreturn]] void bad_input(const std::string& place, const std::string& message) {
  throw Error(ExitCode::kBadInput, place, message);
}

[[noreturn]] void write_failed(const std::string& place) {
  throw Error(ExitCode::kIo, place, "cannot write: " + library_message());
}

hid_t file_type(Hdf5Type type) {
  const std::array<hid_t, 4> types = {H5T_STD_U8LE, H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE};
  return types[static_cast<size_t>(type)];
}

hid_t memory_type(Hdf5Type type) {
  const std::array<hid_t, 4> types = {H5T_NATIVE_UINT8, H5T_NATIVE_UINT16, H5T_NATIVE_UINT32,
                                      H5T_NATIVE_UINT64};
  return types[static_cast<size_t>(type)];
}

// Handles that live inside one locked call.
struct Local {
  hid_t id;
  herr_t (*close)(hid_t);
  Local(hid_t id, herr_t (*close)(hid_t)) : id(id), close(close) {}
  Local(const Local&) = delete;
  Local& operator=(const Local&) = delete;
  ~Local() {
    if (id >= 0) close(id);
  }
};

// Properties of a new object. Without its times a file is made of its contents alone.
Local without_times(hid_t kind) {
  const hid_t id = H5Pcreate(kind);
  H5Pset_obj_track_times(id, false);
  return {id, H5Pclose};
}

void check_storage(hid_t creation, const std::string& place) {
  if (H5Pget_layout(creation) != H5D_CHUNKED)
    bad_input(place,
              "expected chunked storage inside of this file, got contiguous, external or virtual");
  if (H5Pget_external_count(creation) != 0) bad_input(place, "expected no external storage");
  unsigned flags = 0, config = 0;
  size_t values = 0;
  const int filters = H5Pget_nfilters(creation);
  const H5Z_filter_t filter =
      filters == 1 ? H5Pget_filter2(creation, 0, &flags, &values, nullptr, 0, nullptr, &config)
                   : -1;
  if (filter != H5Z_FILTER_FLETCHER32)
    bad_input(place, fmt::format("expected one filter, Fletcher32, got {} filters", filters));
}

Hdf5Type check_type(hid_t data_set, std::initializer_list<Hdf5Type> allowed,
                    const std::string& place) {
  const Local type(H5Dget_type(data_set), H5Tclose);
  std::string expected;
  for (const Hdf5Type candidate : allowed) {
    if (type.id >= 0 && H5Tequal(type.id, file_type(candidate)) > 0) return candidate;
    expected += fmt::format("{}u{}", expected.empty() ? "" : " or ", size_of(candidate) * 8);
  }
  bad_input(place, fmt::format("expected type {}, got another one of {} bytes", expected,
                               type.id >= 0 ? H5Tget_size(type.id) : 0));
}

uint64_t check_shape(hid_t data_set, uint64_t columns, const std::string& place) {
  const Local space(H5Dget_space(data_set), H5Sclose);
  const int rank = space.id >= 0 ? H5Sget_simple_extent_ndims(space.id) : -1;
  const int expected = columns == 0 ? 1 : 2;
  if (rank != expected) bad_input(place, fmt::format("expected rank {}, got {}", expected, rank));
  std::array<hsize_t, 2> dims{};
  H5Sget_simple_extent_dims(space.id, dims.data(), nullptr);
  if (columns != 0 && dims[1] != columns)
    bad_input(place, fmt::format("expected {} columns, got {}", columns, dims[1]));
  return dims[0];
}

// Bytes in the file; every chunk must be there, so that no size in the header is taken on trust.
uint64_t check_chunks(hid_t data_set, hid_t creation, uint64_t rows, uint64_t row_bytes, int rank,
                      const std::string& place) {
  std::array<hsize_t, 2> chunk{1, 1};
  if (H5Pget_chunk(creation, rank, chunk.data()) != rank)
    bad_input(place, "chunk shape is unreadable");
  const uint64_t bytes = chunk[0] * row_bytes;
  if (chunk[0] == 0 || chunk[0] > kMaxChunkBytes || bytes > kMaxChunkBytes)
    bad_input(place,
              fmt::format("expected chunks of at most {} bytes, got {}", kMaxChunkBytes, bytes));
  const uint64_t chunks = rows / chunk[0] + (rows % chunk[0] != 0);
  const uint64_t stored = H5Dget_storage_size(data_set);
  // Compared by division: chunks * bytes may not fit into 64 bits.
  if (stored % (bytes + kChecksumBytes) != 0 || stored / (bytes + kChecksumBytes) != chunks)
    bad_input(place, fmt::format("expected {} stored chunks of {} bytes for {} rows, got {} bytes",
                                 chunks, bytes + kChecksumBytes, rows, stored));
  return stored;
}

}  // namespace

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept
    : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(close_, other.close_);
  return *this;
}

Hdf5Handle::~Hdf5Handle() {
  if (id_ < 0) return;
  const Hdf5Lock lock;
  close_(id_);
}

int64_t size_of(Hdf5Type type) { return int64_t{1} << static_cast<int>(type); }

void Hdf5Table::check_element(size_t bytes) const {
  CHECK(static_cast<int64_t>(bytes) == size_of(type_),
        "{} holds elements of {} bytes, asked for {}", place_, size_of(type_), bytes);
}

void Hdf5Table::read(uint64_t first, uint64_t count, void* out) const {
  CHECK(first <= rows_ && count <= rows_ - first, "rows {}+{} of {} in {}", first, count, rows_,
        place_);
  if (count == 0) return;
  const Hdf5Lock lock;
  const int rank = columns_ == 0 ? 1 : 2;
  const std::array<hsize_t, 2> start{first, 0}, size{count, columns_};
  const Local space(H5Dget_space(handle_.get()), H5Sclose);
  const Local memory(H5Screate_simple(rank, size.data(), nullptr), H5Sclose);
  if (H5Sselect_hyperslab(space.id, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr) <
          0 ||
      H5Dread(handle_.get(), memory_type(type_), memory.id, space.id, H5P_DEFAULT, out) < 0) {
    throw Error(ExitCode::kBadInput, place_,
                fmt::format("rows {} to {} cannot be read: {}", first, first + count - 1,
                            library_message()),
                "the file is damaged; prepare it again or restore a copy");
  }
}

void Hdf5Table::append(uint64_t count, const void* values) {
  if (count == 0) return;
  const Hdf5Lock lock;
  const int rank = columns_ == 0 ? 1 : 2;
  const std::array<hsize_t, 2> start{rows_, 0}, size{count, columns_}, all{rows_ + count, columns_};
  if (H5Dset_extent(handle_.get(), all.data()) < 0) write_failed(place_);
  const Local space(H5Dget_space(handle_.get()), H5Sclose);
  const Local memory(H5Screate_simple(rank, size.data(), nullptr), H5Sclose);
  if (H5Sselect_hyperslab(space.id, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr) <
          0 ||
      H5Dwrite(handle_.get(), memory_type(type_), memory.id, space.id, H5P_DEFAULT, values) < 0)
    write_failed(place_);
  rows_ += count;
}

Hdf5File Hdf5File::create(const std::filesystem::path& path, std::string place) {
  Hdf5File file;
  file.path_ = path;
  file.place_ = std::move(place);
  const Hdf5Lock lock;
  const Local access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // The 1.10 format puts a checksum on every structure of the file, too.
  H5Pset_libver_bounds(access.id, H5F_LIBVER_V110, H5F_LIBVER_V110);
  const Local creation = without_times(H5P_FILE_CREATE);
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.id, access.id);
  if (id < 0) write_failed(file.place_);
  file.handle_ = Hdf5Handle(id, H5Fclose);
  return file;
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  Hdf5File file;
  file.path_ = path;
  file.place_ = path.string();
  file.file_bytes_ = File::open(path).size();  // also says why a path cannot be opened
  if (!has_hdf5_signature(path))
    bad_input(file.place_, "expected an HDF5 file, got another format");
  const Hdf5Lock lock;
  H5PLset_loading_state(0);
  const Local access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access.id, false, true);  // read-only and network file systems have no locks
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id);
  if (id < 0) bad_input(file.place_, "expected a whole HDF5 file, got: " + library_message());
  file.handle_ = Hdf5Handle(id, H5Fclose);
  return file;
}

void Hdf5File::add_group(const std::string& name) {
  const Hdf5Lock lock;
  const Local creation = without_times(H5P_GROUP_CREATE);
  const Local group(H5Gcreate2(handle_.get(), name.c_str(), H5P_DEFAULT, creation.id, H5P_DEFAULT),
                    H5Gclose);
  if (group.id < 0) write_failed(place_);
}

Hdf5Table Hdf5File::add_table(const std::string& name, Hdf5Type type, uint64_t columns,
                              uint64_t chunk_rows) {
  Hdf5Table table;
  table.place_ = place_ + ":" + name;
  table.type_ = type;
  table.columns_ = columns;
  const Hdf5Lock lock;
  const int rank = columns == 0 ? 1 : 2;
  const std::array<hsize_t, 2> none{0, columns}, most{H5S_UNLIMITED, columns},
      chunk{chunk_rows, columns};
  const Local space(H5Screate_simple(rank, none.data(), most.data()), H5Sclose);
  const Local creation = without_times(H5P_DATASET_CREATE);
  H5Pset_chunk(creation.id, rank, chunk.data());
  H5Pset_fletcher32(creation.id);
  const hid_t id = H5Dcreate2(handle_.get(), name.c_str(), file_type(type), space.id, H5P_DEFAULT,
                              creation.id, H5P_DEFAULT);
  if (id < 0) write_failed(table.place_);
  table.handle_ = Hdf5Handle(id, H5Dclose);
  return table;
}

void Hdf5File::close_and_sync() {
  {
    const Hdf5Lock lock;
    if (H5Fflush(handle_.get(), H5F_SCOPE_GLOBAL) < 0) write_failed(place_);
  }
  handle_ = Hdf5Handle();
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file || ::fsync(file.get()) != 0) throw system_error(place_, "make durable", errno);
}

void Hdf5File::check_members(const std::string& group, std::vector<std::string> names) const {
  const std::string place = place_ + ":" + group;
  std::vector<std::string> found;
  {
    const Hdf5Lock lock;
    const Local id(H5Gopen2(handle_.get(), group.c_str(), H5P_DEFAULT), H5Gclose);
    if (id.id < 0) bad_input(place, "expected a group, got: " + library_message());
    const auto visit = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
      auto& list = *static_cast<std::vector<std::string>*>(out);
      list.push_back(info->type == H5L_TYPE_HARD ? name : std::string(name) + " (a link)");
      return list.size() > 64 ? 1 : 0;
    };
    if (H5Literate(id.id, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &found) < 0)
      bad_input(place, "its members cannot be listed: " + library_message());
  }
  std::sort(names.begin(), names.end());
  std::sort(found.begin(), found.end());
  if (names != found)
    bad_input(place, fmt::format("expected members {}, got {}", fmt::join(names, ", "),
                                 fmt::join(found, ", ")));
}

Hdf5Table Hdf5File::table(const std::string& name, std::initializer_list<Hdf5Type> types,
                          uint64_t columns) const {
  Hdf5Table table;
  table.place_ = place_ + ":" + name;
  table.columns_ = columns;
  const Hdf5Lock lock;
  H5O_info_t info;
  if (H5Oget_info_by_name2(handle_.get(), name.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0 ||
      info.type != H5O_TYPE_DATASET)
    bad_input(table.place_, "expected a data set, got: " + library_message());
  Local data_set(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
  if (data_set.id < 0) bad_input(table.place_, "cannot be opened: " + library_message());
  const Local creation(H5Dget_create_plist(data_set.id), H5Pclose);
  check_storage(creation.id, table.place_);
  table.type_ = check_type(data_set.id, types, table.place_);
  table.rows_ = check_shape(data_set.id, columns, table.place_);
  const uint64_t row_bytes =
      static_cast<uint64_t>(size_of(table.type_)) * std::max<uint64_t>(columns, 1);
  claimed_bytes_ += check_chunks(data_set.id, creation.id, table.rows_, row_bytes,
                                 columns == 0 ? 1 : 2, table.place_);
  if (claimed_bytes_ > file_bytes_)
    bad_input(table.place_,
              fmt::format("expected at most {} stored bytes, the size of the file, got {}",
                          file_bytes_, claimed_bytes_));
  table.handle_ = Hdf5Handle(std::exchange(data_set.id, -1), H5Dclose);
  return table;
}

bool has_hdf5_signature(const std::filesystem::path& path) {
  constexpr std::array<char, 8> kSignature = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  std::array<char, 8> begin{};
  std::ifstream file(path, std::ios::binary);
  return file.read(begin.data(), begin.size()) && begin == kSignature;
}

}  // namespace ink
