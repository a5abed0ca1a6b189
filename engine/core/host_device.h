// Marks a function that kernels of both devices share.
#pragma once

#ifdef __CUDACC__
#define INK_HOST_DEVICE __host__ __device__
#else
#define INK_HOST_DEVICE
#endif
