# Finds every library once and gives each one imported target, so that folders name targets only.
# docs/building.md lists the Debian packages.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)

pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

if(INKSTONE_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()

# Debian's dnnl package file asks for OpenCL headers that nothing here uses: find the two files directly.
if(INKSTONE_ONEDNN)
  find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
  find_library(DNNL_LIBRARY dnnl REQUIRED)
  add_library(inkstone_dnnl INTERFACE)
  target_include_directories(inkstone_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
  target_link_libraries(inkstone_dnnl INTERFACE ${DNNL_LIBRARY})
endif()

if(INKSTONE_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)  # the C++ bindings are long deprecated: MPI is used through its C functions
  find_package(MPI COMPONENTS CXX)
  if(NOT MPI_CXX_FOUND)
    message(STATUS "MPI not found: building without the MPI transport")
    set(INKSTONE_MPI OFF)
  endif()
endif()
