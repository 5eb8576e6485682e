// Runs CUDA C++ kernels on a CPU, a block at a time, every thread of a block a real thread.
#include <barrier>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

struct Place { unsigned x, y, z; };
static thread_local Place threadIdx;
static Place blockIdx, blockDim, gridDim;
static std::unique_ptr<std::barrier<>> together;
inline void __syncthreads() { together->arrive_and_wait(); }
#define __global__
#define __device__
#define __shared__ static

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(args[I])...);
}

// `args` as cuLaunchKernel takes them: a pointer to each argument.
template <class... A>
void run(void (*kernel)(A...), unsigned x, unsigned y, unsigned threads, void** args) {
    blockDim = {threads, 1, 1};
    gridDim = {x, y, 1};
    for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) {
            together = std::make_unique<std::barrier<>>(threads);
            std::vector<std::thread> all;
            for (unsigned t = 0; t < threads; ++t)
                all.emplace_back([=] {
                    threadIdx = {t, 0, 0};
                    call(kernel, args, std::index_sequence_for<A...>{});
                });
            for (auto& one : all) one.join();
        }
}
#define RUN(name)                                                                         \
    extern "C" void run_##name(unsigned x, unsigned y, unsigned threads, void** args) { \
        run(name, x, y, threads, args);                                                   \
    }
