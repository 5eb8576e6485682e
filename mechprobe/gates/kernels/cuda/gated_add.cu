// The gated residual add of n vectors, and its way back. A vector's numbers are
// [batch, pos, width]; `row_of` [n] is where a vector's own output stands, -1 where it was not run.
// Stand-ins are read at example * by_example + position * by_position + channel (steps of 0 where
// they are the same everywhere).
#include "mask_arithmetic.h"

__device__ inline float stand_at(
    const float* stand, long long at, int positions, int width, int by_example, int by_position) {
    long long row = at / width;
    return stand[(row / positions) * by_example + (row % positions) * by_position + at % width];
}

// gridDim.y = n; the threads of x go over the `size` = batch x positions x width numbers of one.
extern "C" __global__ void gated_add_f32(
    const float* stream, const float* own, const float* gates, const float* stand,
    const int* row_of, float* out, int size, int shared_stream, int positions, int width,
    int by_example, int by_position) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= size) return;
    long long vector = blockIdx.y, row = row_of[vector];
    float gate = gates[vector];
    float value = row < 0 ? 0 : own[row * size + at];
    float there = stand_at(stand, at, positions, width, by_example, by_position);
    float before = stream[(shared_stream ? 0 : vector * size) + at];
    out[vector * size + at] = gated_sum(before, value, gate, there);
}

// One block an example (x) of a vector that was run (y); `vector_of` [gridDim.y] names the vector.
// blockDim.x is a power of two, at most 256. `found` [n, batch] holds 0 where nothing was run.
extern "C" __global__ void gated_add_backward_f32(
    const float* grad, const float* own, const float* gates, const float* stand,
    const int* vector_of, float* into_own, float* found, int per_example, int positions, int width,
    int by_example, int by_position) {
    __shared__ double partial[256];
    long long examples = gridDim.x, vector = vector_of[blockIdx.y];
    long long from = (vector * examples + blockIdx.x) * per_example;
    long long to = (blockIdx.y * examples + blockIdx.x) * per_example;
    double sum = 0;
    for (int i = threadIdx.x; i < per_example; i += blockDim.x) {
        long long at = (long long)blockIdx.x * per_example + i;
        float there = stand_at(stand, at, positions, width, by_example, by_position);
        into_own[to + i] = gates[vector] * grad[from + i];
        sum += grad[from + i] * (own[to + i] - there);
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) found[vector * examples + blockIdx.x] = partial[0];
}
