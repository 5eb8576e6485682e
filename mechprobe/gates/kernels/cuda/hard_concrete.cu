// Samples of all gates of all vectors, their slopes, and each vector's expected share of closed
// gates. One block a vector; blockDim.x is a power of two, at most 256.
#include "mask_arithmetic.h"

extern "C" __global__ void hard_concrete_f32(
    const float* log_alpha, const float* u, float* gates, float* closed, float* slope,
    float* closed_slope, int sites, double left, double right, double temperature, double eps) {
    __shared__ double partial[256];
    double sum = 0;
    for (int site = threadIdx.x; site < sites; site += blockDim.x) {
        int at = blockIdx.x * sites + site;
        HardConcrete one = hard_concrete(log_alpha[at], u[at], left, right, temperature, eps);
        gates[at] = one.gate;
        slope[at] = one.slope;
        closed_slope[at] = one.closed_slope / sites;
        sum += one.closed;
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int width = blockDim.x / 2; width > 0; width /= 2) {
        if (threadIdx.x < width) partial[threadIdx.x] += partial[threadIdx.x + width];
        __syncthreads();
    }
    if (threadIdx.x == 0) closed[blockIdx.x] = partial[0] / sites;
}
