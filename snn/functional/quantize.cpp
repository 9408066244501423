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

// What a row does to its numbers. Without shifts and gains nothing is added and nothing multiplied.
template <bool corrected>
struct Row {
  const float *step, *shift, *gain;

  float ratio(float x, int64_t i) const { return (corrected ? x + shift[i] : x) / step[i]; }
  float gained(float y, int64_t i) const { return corrected ? y * gain[i] : y; }
};

// `laws`: steps and, if corrected, shifts and gains, each [rows, width]; part p has row p modulo their number.
template <bool corrected>
Row<corrected> row_of(const float* laws, int64_t rows, int64_t width, int64_t part) {
  const float* step = laws + part % rows * width;
  return {step, step + rows * width, step + 2 * rows * width};
}

template <typename T, bool corrected>
void quantize_row(const T* x, T* y, Row<corrected> law, int64_t count, float low, float high) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float code = clip(std::floor(law.ratio(load(x[i]), i) + 0.5f), low, high);
    store(y + i, law.gained(code * law.step[i], i));
  }
}

template <typename T, bool corrected>
void gradients_row(const T* x, const T* grad, T* grad_x, Row<corrected> law, float* sums, int64_t count, float low,
                   float high) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float ratio = law.ratio(load(x[i]), i), upstream = law.gained(load(grad[i]), i);
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

template <typename T, bool corrected>
void quantize(const T* x, T* y, const float* laws, int64_t rows, int64_t total, int64_t size, int64_t width, float low,
              float high, int threads) {
  for_rows(total, size, width, threads, [=](int64_t first, int64_t count, int64_t part) {
    quantize_row(x + first, y + first, row_of<corrected>(laws, rows, width, part), count, low, high);
  });
}

template <typename T, bool corrected>
void gradients(const T* x, const T* grad, T* grad_x, const float* laws, float* sums, int64_t rows, int64_t total,
               int64_t size, int64_t width, float low, float high, int threads) {
  for_rows(total, size, width, threads, [=](int64_t first, int64_t count, int64_t part) {
    gradients_row(x + first, grad + first, grad_x + first, row_of<corrected>(laws, rows, width, part),
                  sums + part * width, count, low, high);
  });
}

}  // namespace

// `sums`: [parts, width]
#define KERNELS(NAME, T, CORRECTED)                                                                                  \
  extern "C" void quantize_##NAME(const T* x, T* y, const float* laws, int64_t rows, int64_t total, int64_t size,    \
                                  int64_t width, float low, float high, int threads) {                              \
    quantize<T, CORRECTED>(x, y, laws, rows, total, size, width, low, high, threads);                                \
  }                                                                                                                  \
  extern "C" void gradients_##NAME(const T* x, const T* grad, T* grad_x, const float* laws, float* sums,             \
                                   int64_t rows, int64_t total, int64_t size, int64_t width, float low, float high, \
                                   int threads) {                                                                    \
    gradients<T, CORRECTED>(x, grad, grad_x, laws, sums, rows, total, size, width, low, high, threads);              \
  }

KERNELS(float32, float, false)
KERNELS(bfloat16, BFloat16, false)
KERNELS(corrected_float32, float, true)
KERNELS(corrected_bfloat16, BFloat16, true)
