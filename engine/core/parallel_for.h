// Host threads of one rank. A rank owns a number of OpenMP threads; ranks that live as threads of
// one process each set their own. Loops are cut statically, so a result depends on the thread count
// only.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace ink {

// Threads that a parallel region started by the calling thread will use.
inline int thread_count() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Takes effect for parallel regions that the calling thread starts from now on.
inline void set_thread_count([[maybe_unused]] int n) {
#ifdef _OPENMP
  omp_set_num_threads(n);
#endif
}

inline int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace ink
