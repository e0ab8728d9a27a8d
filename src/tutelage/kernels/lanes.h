// Arithmetic on vectors of 16 numbers, in the compiler's own vector types: no instruction set is named here.
#pragma once

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

constexpr int64_t LANES = 16;

using Lanes = float __attribute__((vector_size(4 * LANES), aligned(4)));
using Bits = uint32_t __attribute__((vector_size(4 * LANES)));
using Integers = int32_t __attribute__((vector_size(4 * LANES)));
using Halves = uint16_t __attribute__((vector_size(2 * LANES), aligned(2)));

inline Lanes lanes(const float* x) { return *reinterpret_cast<const Lanes*>(x); }

inline Lanes lanes(const c10::BFloat16* x) {
  const Halves halves = *reinterpret_cast<const Halves*>(x);
  return reinterpret_cast<Lanes>(__builtin_convertvector(halves, Bits) << 16);
}

inline void store(Lanes values, float* out) { *reinterpret_cast<Lanes*>(out) = values; }

// Rounds to the nearest, ties to even, as torch does. NaN stays NaN: infinities and NaN are not rounded upwards.
inline void store(Lanes values, c10::BFloat16* out) {
  const Bits bits = reinterpret_cast<Bits>(values);
  const Bits special = (bits & 0x7f800000u) == 0x7f800000u;
  const Bits nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  *reinterpret_cast<Halves*>(out) = __builtin_convertvector((special ? bits : nearest) >> 16, Halves);
}

template <typename T>
void prefetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + i);
}

inline float sum(Lanes values) {
  float total = 0.0f;
  for (int64_t i = 0; i < LANES; ++i) total += values[i];
  return total;
}

inline float largest(Lanes values) {
  float top = values[0];
  for (int64_t i = 1; i < LANES; ++i) top = std::max(top, values[i]);
  return top;
}

template <typename T>
float mean_square(const T* x, int64_t width) {
  Lanes squares = {};
  for (int64_t d = 0; d < width; d += LANES) squares += lanes(x + d) * lanes(x + d);
  return sum(squares) / float(width);
}

// e^x to about 1e-7, for x up to 88: 2^n times a polynomial (Cephes' expf). 0 below -87; NaN stays NaN.
inline Lanes exponential(Lanes x) {
  const auto small = x < -87.0f;
  const Lanes inside = small ? Lanes{} - 87.0f : (x > 88.0f ? Lanes{} + 88.0f : x);
  const Lanes n = (inside * 1.44269504f + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Lanes f = (inside - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = f * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  const Bits power = reinterpret_cast<Bits>(__builtin_convertvector(n, Integers) + 127) << 23;
  return small ? Lanes{} : p * reinterpret_cast<Lanes>(power);
}

// silu(gate) * up.
inline Lanes gated(Lanes gate, Lanes up) { return gate / (1.0f + exponential(-gate)) * up; }

// scores[first:length] become their softmax; the rest of their pages, up to `padded`, becomes 0.
inline void softmax(float* scores, int64_t first, int64_t length, int64_t padded) {
  const int64_t begin = first / LANES * LANES;
  std::fill(scores + begin, scores + first, -INFINITY);
  std::fill(scores + length, scores + padded, -INFINITY);
  Lanes tops = lanes(scores + begin), sums = {};
  for (int64_t t = begin; t < padded; t += LANES) tops = lanes(scores + t) > tops ? lanes(scores + t) : tops;
  const float top = largest(tops);
  for (int64_t t = begin; t < padded; t += LANES) {
    const Lanes mass = exponential(lanes(scores + t) - top);
    store(mass, scores + t);
    sums += mass;
  }
  const float factor = 1.0f / sum(sums);
  for (int64_t t = begin; t < padded; t += LANES) store(lanes(scores + t) * factor, scores + t);
}

// body(how many heads, the first of them), with the number known to the compiler: up to four stay in registers.
template <typename Body>
void by_heads(int64_t heads, const Body& body) {
  int64_t r = 0;
  for (; r + 4 <= heads; r += 4) body(std::integral_constant<int, 4>(), r);
  if (heads - r == 3) body(std::integral_constant<int, 3>(), r);
  if (heads - r == 2) body(std::integral_constant<int, 2>(), r);
  if (heads - r == 1) body(std::integral_constant<int, 1>(), r);
}

// 16 scores of each head: keys [E, 16], query [HEADS, E].
template <int HEADS, typename T>
void page_scores(const T* keys, const float* query, int64_t E, float* scores, int64_t stride) {
  Lanes sums[HEADS] = {};
  for (int64_t e = 0; e < E; ++e) {
    const Lanes key = lanes(keys + e * LANES);
    for (int h = 0; h < HEADS; ++h) sums[h] += query[h * E + e] * key;
  }
  for (int h = 0; h < HEADS; ++h) store(sums[h], scores + h * stride);
}

// out [HEADS, E] += weights [HEADS, count] @ values [count, E].
template <int HEADS, typename T>
void page_values(const T* values, const float* weights, int64_t stride, int64_t count, int64_t E, float* out) {
  for (int64_t e = 0; e < E; e += LANES) {
    Lanes sums[HEADS];
    for (int h = 0; h < HEADS; ++h) sums[h] = lanes(out + h * E + e);
    for (int64_t t = 0; t < count; ++t) {
      const Lanes value = lanes(values + t * E + e);
      for (int h = 0; h < HEADS; ++h) sums[h] += weights[h * stride + t] * value;
    }
    for (int h = 0; h < HEADS; ++h) store(sums[h], out + h * E + e);
  }
}
