// Uniform quantisers on a CPU, one pass over memory each way; quantize.py says what they compute.
//
// The numbers are seen as parts, each of some rows of `width`; shifts, steps and gains are the same in all rows of a
// part. Parts are the same for any number of threads, so sums are too.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct BFloat16 {
  uint16_t bits;
};

inline float load(float from) { return from; }

inline float load(BFloat16 from) {
  const uint32_t bits = uint32_t(from.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline void store(float* to, float value) { *to = value; }

inline void store(BFloat16* to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // ties to even
  to->bits = uint16_t(value != value ? 0x7fc0 : nearest);
}

inline float clip(float value, float low, float high) {  // NaN stays
  const float raised = value < low ? low : value;
  return raised > high ? high : raised;
}

struct Row {
  const float *shift, *step, *gain;
};

// `laws`: shifts, steps and gains, each [rows, width]; part p has row p modulo their number.
inline Row row_of(const float* laws, int64_t rows, int64_t width, int64_t part) {
  const float* shift = laws + part % rows * width;
  return {shift, shift + rows * width, shift + 2 * rows * width};
}

template <typename T>
void quantize_row(const T* x, T* y, Row law, int64_t count, float low, float high) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float code = clip(std::floor((load(x[i]) + law.shift[i]) / law.step[i] + 0.5f), low, high);
    store(y + i, code * law.step[i] * law.gain[i]);
  }
}

template <typename T>
void gradients_row(const T* x, const T* grad, T* grad_x, Row law, float* sums, int64_t count, float low, float high) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float ratio = (load(x[i]) + law.shift[i]) / law.step[i], upstream = load(grad[i]) * law.gain[i];
    const float rounded = std::floor(ratio + 0.5f), code = clip(rounded, low, high);
    const float inside = rounded == code ? 1.0f : 0.0f;
    store(grad_x + i, upstream * inside);
    sums[i] += (code - ratio * inside) * upstream;
  }
}

// Calls run(first number, how many of them, part) for every row.
template <typename Run>
void for_rows(int64_t total, int64_t size, int64_t width, int threads, const Run& run) {
  const int64_t parts = (total + size - 1) / size;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t stop = std::min(total, (part + 1) * size);
    for (int64_t first = part * size; first < stop; first += width) run(first, std::min(width, stop - first), part);
  }
}

}  // namespace

#define KERNELS(NAME, T)                                                                                             \
  extern "C" void quantize_##NAME(const T* x, T* y, const float* laws, int64_t rows, int64_t total, int64_t size,    \
                                  int64_t width, float low, float high, int threads) {                              \
    for_rows(total, size, width, threads, [=](int64_t first, int64_t count, int64_t part) {                          \
      quantize_row(x + first, y + first, row_of(laws, rows, width, part), count, low, high);                         \
    });                                                                                                              \
  }                                                                                                                  \
  /* `sums`: [parts, width] */                                                                                       \
  extern "C" void gradients_##NAME(const T* x, const T* grad, T* grad_x, const float* laws, float* sums,             \
                                   int64_t rows, int64_t total, int64_t size, int64_t width, float low, float high, \
                                   int threads) {                                                                    \
    for_rows(total, size, width, threads, [=](int64_t first, int64_t count, int64_t part) {                          \
      gradients_row(x + first, grad + first, grad_x + first, row_of(laws, rows, width, part), sums + part * width,   \
                    count, low, high);                                                                               \
    });                                                                                                              \
  }

KERNELS(float32, float)
KERNELS(bfloat16, BFloat16)
