// The arithmetic of one gate and of one number of the stream: no threads, no memory, so that a C++
// compiler can build it too and a test can hold it against PyTorch.
#pragma once

#ifdef __CUDACC__
#define MASK_FUNCTION __host__ __device__ inline
#else
#define MASK_FUNCTION inline
#endif
#ifndef __CUDACC_RTC__
#include <math.h>
#endif

struct HardConcrete {
    double gate, closed;          // the sample, and the probability that it is 0
    double slope, closed_slope;   // both differentiated by log alpha
};

// Louizos, Welling, Kingma 2018, section 3.2; `u` is uniform noise inside (0, 1).
MASK_FUNCTION HardConcrete hard_concrete(
    double log_alpha, double u, double left, double right, double temperature, double eps) {
    HardConcrete out;
    double s = 1 / (1 + exp(-(log(u) - log1p(-u) + log_alpha) / temperature));
    double stretched = s * (right - left) + left;
    bool inside = stretched > 0 && stretched < 1;
    out.gate = stretched < 0 ? 0 : (stretched > 1 ? 1 : stretched);
    out.slope = inside ? s * (1 - s) * (right - left) / temperature : 0;
    double p = 1 / (1 + exp(log_alpha - temperature * log(-left / right)));
    bool known = p >= eps && p <= 1 - eps;
    out.closed = p < eps ? eps : (p > 1 - eps ? 1 - eps : p);
    out.closed_slope = known ? p * (p - 1) : 0;
    return out;
}

// stream + g own + (1 - g) stand-in
MASK_FUNCTION float gated_sum(float stream, float own, float gate, float stand) {
    return stream + gate * own + (1 - gate) * stand;
}
