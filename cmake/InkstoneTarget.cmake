# inkstone_library(NAME SOURCES... LINKS...): a static library with the house's warnings and sanitizers.
# A library whose registrations must survive the linker is linked with WHOLE_ARCHIVE (see engine/kernels/README.md).

add_library(inkstone_flags INTERFACE)
target_compile_options(inkstone_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror -fno-math-errno -fstack-protector-strong>
  # g++ 12 sees overlap in "x" + std::to_string(i), and wants every member named beside a designated one.
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict -Wno-missing-field-initializers>)
target_include_directories(inkstone_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(inkstone_flags INTERFACE Threads::Threads fmt::fmt)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(inkstone_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
if(INKSTONE_OPENMP)
  target_link_libraries(inkstone_flags INTERFACE OpenMP::OpenMP_CXX)
else()
  target_compile_options(inkstone_flags INTERFACE -Wno-unknown-pragmas)
endif()
if(INKSTONE_SANITIZE)
  # g++ 12 takes the sanitizers' own code for reads of uninitialised memory.
  target_compile_options(inkstone_flags INTERFACE -fsanitize=${INKSTONE_SANITIZE} -fno-omit-frame-pointer
                                                  -fno-sanitize-recover=all
                                                  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
  target_link_options(inkstone_flags INTERFACE -fsanitize=${INKSTONE_SANITIZE})
endif()
if(INKSTONE_FUZZ)  # coverage for libFuzzer; only the fuzz programs link its main
  target_compile_options(inkstone_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
add_link_options(-Wl,-z,relro,-z,now)

function(inkstone_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC inkstone_flags ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
endfunction()
