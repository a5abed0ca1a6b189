# The CUDA language, where it was asked for and nvcc is found; without nvcc the CPU product is built and one line says so.
if(NOT INKSTONE_CUDA)
  set(INKSTONE_NCCL OFF)
  return()
endif()

find_program(INKSTONE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT INKSTONE_NVCC)
  message(STATUS "nvcc not found: building the CPU product, without the CUDA backend")
  set(INKSTONE_CUDA OFF)
  set(INKSTONE_NCCL OFF)
  return()
endif()

set(CMAKE_CUDA_COMPILER "${INKSTONE_NVCC}")
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90a-real 90-virtual)
endif()
if(CCACHE_PROGRAM)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
# CMake 3.25 knows no flag for CUDA C++20: without this line the standard required of C++ would be required of CUDA too.
set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# CMake 3.25 does not know CUDA C++20 and ignores CMAKE_CUDA_STANDARD 20 without a word: the flag is passed by hand,
# behind everything that CMake appends. Relaxed constexpr: kernels share constexpr functions with the host.
# fmt 9 turns constexpr off under nvcc although it checks format strings at compile time: it is told to keep it.
string(APPEND CMAKE_CUDA_FLAGS " -std=c++20 -DFMT_USE_CONSTEXPR=1 --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra,-Werror,-Wno-missing-field-initializers --threads 0 -Werror all-warnings")

# cuDNN's attention: the library from the toolkit or the system, the headers of cudnn-frontend from launch/scripts/setup.sh.
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV CUDNN_HOME PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} ENV CUDNN_HOME PATH_SUFFIXES lib lib64)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${PROJECT_SOURCE_DIR}/third_party/cudnn-frontend/include)
if(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY AND CUDNN_FRONTEND_INCLUDE_DIR)
  add_library(inkstone_cudnn INTERFACE)
  target_include_directories(inkstone_cudnn SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
  # The headers hold engines that compile at run time; nothing here asks for one, the linker wants nvrtc all the same.
  target_link_libraries(inkstone_cudnn INTERFACE ${CUDNN_LIBRARY} CUDA::nvrtc)
else()
  message(STATUS "cuDNN or the headers of cudnn-frontend not found (launch/scripts/setup.sh brings them): attention by the own kernels")
endif()

# NCCL comes with the toolkit or from the system; without it a job on cards has one rank.
if(INKSTONE_NCCL)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV NCCL_HOME PATH_SUFFIXES include)
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} ENV NCCL_HOME PATH_SUFFIXES lib lib64)
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    add_library(inkstone_nccl_library INTERFACE)
    target_include_directories(inkstone_nccl_library SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
    target_link_libraries(inkstone_nccl_library INTERFACE ${NCCL_LIBRARY})
  else()
    message(STATUS "NCCL not found: a job on cards has one rank")
    set(INKSTONE_NCCL OFF)
  endif()
endif()
