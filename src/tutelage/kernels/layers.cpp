// What lies between the products of a decoder layer in training, forward and backward: norm with the residual sum,
// rotation by position, gated activation. Each is one pass over memory; sums and gradients are fp32, tensors are T.
//
// Suffixes as in Python: N positions, D width, H heads, E width of a head, F inner width.

#include "lanes.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <omp.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>

namespace {

using at::Tensor;
using c10::BFloat16;

template <typename T>
struct Type {
  using type = T;
};

// body(the type of the numbers), for bf16 and fp32.
template <typename Body>
auto by_type(const Tensor& tensor, const Body& body) {
  TORCH_CHECK(tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kFloat, "bf16 or fp32");
  return tensor.scalar_type() == at::kBFloat16 ? body(Type<BFloat16>()) : body(Type<float>());
}

void check(const Tensor& tensor, int64_t multiple) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.size(-1) % multiple == 0, "contiguous, in whole vectors");
}

// sum = x + added, rounded as T; normed = weight * sum / rms(sum). Returns both, and 1 / rms of each row.
std::tuple<Tensor, Tensor, Tensor> add_norm(const Tensor& x, const Tensor& added, const Tensor& weight_D, double epsilon) {
  check(x, LANES);
  check(added, LANES);
  const int64_t D = x.size(-1), N = x.numel() / D;
  const bool adds = added.numel();
  Tensor sum = adds ? at::empty_like(x) : x, normed = at::empty_like(x), factor_N = at::empty({N}, at::kFloat);
  by_type(x, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *a = x.const_data_ptr<T>(), *b = adds ? added.const_data_ptr<T>() : nullptr, *w = weight_D.const_data_ptr<T>();
    T *s = adds ? sum.data_ptr<T>() : nullptr, *out = normed.data_ptr<T>();
    float* factors = factor_N.data_ptr<float>();
#pragma omp parallel for num_threads(at::get_num_threads())
    for (int64_t n = 0; n < N; ++n) {
      const T* row = a + n * D;
      if (adds) {
        for (int64_t d = 0; d < D; d += LANES) store(lanes(row + d) + lanes(b + n * D + d), s + n * D + d);
        row = s + n * D;
      }
      const float factor = 1.0f / std::sqrt(mean_square(row, D) + float(epsilon));
      for (int64_t d = 0; d < D; d += LANES) store(lanes(row + d) * factor * lanes(w + d), out + n * D + d);
      factors[n] = factor;
    }
  });
  return {sum, normed, factor_N};
}

// The gradients of the sum (which reaches it directly, too, if `direct` is not empty) and of the weight.
std::tuple<Tensor, Tensor> add_norm_backward(const Tensor& direct, const Tensor& grad, const Tensor& sum,
                                             const Tensor& weight_D, const Tensor& factor_N) {
  check(grad, LANES);
  check(direct, LANES);
  const int64_t D = sum.size(-1), N = sum.numel() / D;
  Tensor grad_sum = at::empty_like(sum), grad_weights_TD = at::zeros({at::get_num_threads(), D}, at::kFloat);
  by_type(sum, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *g = grad.const_data_ptr<T>(), *s = sum.const_data_ptr<T>(), *w = weight_D.const_data_ptr<T>();
    const T* more = direct.numel() ? direct.const_data_ptr<T>() : nullptr;
    T* out = grad_sum.data_ptr<T>();
#pragma omp parallel num_threads(at::get_num_threads())
    {
      float* grad_weight = grad_weights_TD.data_ptr<float>() + omp_get_thread_num() * D;
#pragma omp for
      for (int64_t n = 0; n < N; ++n) {
        const float factor = factor_N.const_data_ptr<float>()[n];
        Lanes along = {};
        for (int64_t d = 0; d < D; d += LANES) {
          const Lanes x = lanes(s + n * D + d) * factor, y = lanes(g + n * D + d);
          store(lanes(grad_weight + d) + x * y, grad_weight + d);
          along += x * y * lanes(w + d);
        }
        const float mean = ::sum(along) / float(D);
        for (int64_t d = 0; d < D; d += LANES) {
          const Lanes x = lanes(s + n * D + d) * factor;
          Lanes value = (lanes(g + n * D + d) * lanes(w + d) - x * mean) * factor;
          if (more) value += lanes(more + n * D + d);
          store(value, out + n * D + d);
        }
      }
    }
  });
  return {grad_sum, grad_weights_TD.sum(0).to(weight_D.scalar_type())};
}

// Every head of x [N, H, E] turned by its position's angles, or turned back: then a gradient is taken backward.
Tensor rotate(const Tensor& x, const Tensor& cos_NE, const Tensor& sin_NE, bool back) {
  check(x, 2 * LANES);
  check(cos_NE, 2 * LANES);
  check(sin_NE, 2 * LANES);
  const int64_t N = x.size(0), H = x.size(1), E = x.size(2), half = E / 2;
  Tensor turned = at::empty_like(x);
  by_type(x, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *in = x.const_data_ptr<T>(), *cosines = cos_NE.const_data_ptr<T>(), *sines = sin_NE.const_data_ptr<T>();
    T* out = turned.data_ptr<T>();
#pragma omp parallel for num_threads(at::get_num_threads())
    for (int64_t n = 0; n < N; ++n)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t e = 0; e < half; e += LANES) {
          const int64_t at = (n * H + h) * E + e;
          const Lanes low = lanes(in + at), high = lanes(in + at + half);
          const Lanes cos = lanes(cosines + n * E + e), sin = lanes(sines + n * E + e);
          const Lanes cos2 = lanes(cosines + n * E + e + half), sin2 = lanes(sines + n * E + e + half);
          store(back ? low * cos + high * sin2 : low * cos - high * sin, out + at);
          store(back ? high * cos2 - low * sin : high * cos2 + low * sin2, out + at + half);
        }
  });
  return turned;
}

// silu(gate) * up.
Tensor gate(const Tensor& gate_NF, const Tensor& up_NF) {
  check(gate_NF, LANES);
  check(up_NF, LANES);
  Tensor acted_NF = at::empty_like(gate_NF);
  by_type(gate_NF, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *g = gate_NF.const_data_ptr<T>(), *u = up_NF.const_data_ptr<T>();
    T* out = acted_NF.data_ptr<T>();
#pragma omp parallel for num_threads(at::get_num_threads())
    for (int64_t i = 0; i < gate_NF.numel(); i += LANES)
      store(gated(lanes(g + i), lanes(u + i)), out + i);
  });
  return acted_NF;
}

// The gradients of gate and up.
std::tuple<Tensor, Tensor> gate_backward(const Tensor& grad_NF, const Tensor& gate_NF, const Tensor& up_NF) {
  check(grad_NF, LANES);
  Tensor grad_gate_NF = at::empty_like(gate_NF), grad_up_NF = at::empty_like(up_NF);
  by_type(gate_NF, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *d = grad_NF.const_data_ptr<T>(), *g = gate_NF.const_data_ptr<T>(), *u = up_NF.const_data_ptr<T>();
    T *grad_gate = grad_gate_NF.data_ptr<T>(), *grad_up = grad_up_NF.data_ptr<T>();
#pragma omp parallel for num_threads(at::get_num_threads())
    for (int64_t i = 0; i < gate_NF.numel(); i += LANES) {
      const Lanes x = lanes(g + i), open = 1.0f / (1.0f + exponential(-x)), grad = lanes(d + i);
      store(grad * lanes(u + i) * open * (1.0f + x * (1.0f - open)), grad_gate + i);
      store(grad * x * open, grad_up + i);
    }
  });
  return {grad_gate_NF, grad_up_NF};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tutelage, library) {
  library.def("add_norm", &add_norm);
  library.def("add_norm_backward", &add_norm_backward);
  library.def("rotate", &rotate);
  library.def("gate", &gate);
  library.def("gate_backward", &gate_backward);
}
