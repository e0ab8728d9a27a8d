// One decode step of the Llama family, all layers in one parallel region.
//
// Matrix products are PyTorch's small-matrix kernels (oneDNN's brgemm: AMX or AVX-512) on weights packed once per update
// into blocks of BLOCK outputs. Between them are plain loops that the compiler vectorises. The residual stream, norms,
// scores and logits are fp32; weights, keys, values and whatever enters a product are T.
//
// Suffixes as in Python: B sequences, D width, H query heads, J key heads, R = H / J, E width of a head, W pages.

#include "lanes.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/zeros.h>
#include <omp.h>
#include <sched.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

namespace {

using at::Tensor;
using c10::BFloat16;

constexpr int64_t BLOCK = 32;  // outputs of one packed block of a weight
constexpr int64_t PAGE = LANES;  // tokens of a page: a page of keys is [E, PAGE], so that 16 scores are one vector
constexpr int64_t ROWS = 8;  // products see multiples of so many rows: a kernel is generated for every shape

int64_t rounded(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Threads meet here six times a layer. They spin for some microseconds, then let others run.
class Barrier {
 public:
  void wait(int threads) {
    const int phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
      if (spins > 20000) sched_yield();
  }

 private:
  std::atomic<int> arrived_{0}, phase_{0};
};

// The tensors of one layer, in the order in which Python lists them. One that a family does not have is empty.
enum Slot { INPUT_NORM, QKV, QKV_BIAS, Q_NORM, K_NORM, OUT, OUT_BIAS, POST_NORM, GATE, UP, DOWN, SLOTS };

struct Model {
  std::vector<Tensor> layers;  // SLOTS tensors a layer
  std::vector<int64_t> windows;  // sliding window of each layer; 0: none
  Tensor embedding, final_norm, head, cos, sin;
  int64_t heads, key_heads, inner, vocabulary;
  double epsilon, scale;
};

template <typename T>
class Step {
 public:
  Step(const Model& model, const Tensor& tokens_B, const Tensor& positions_B, const Tensor& pages_BW,
       const Tensor& cache, const Tensor& logits)
      : m_(model), B_(tokens_B.size(0)), padded_B_(rounded(B_, ROWS)), D_(model.embedding.size(1)),
        E_(model.cos.size(1)), R_(model.heads / model.key_heads), W_(pages_BW.size(1)),
        tokens_(tokens_B.const_data_ptr<int64_t>()), positions_(positions_B.const_data_ptr<int64_t>()),
        pages_(pages_BW.const_data_ptr<int64_t>()), keys_(cache.data_ptr<T>()),
        values_(keys_ + cache.stride(1)), layer_(cache.stride(0)), page_(cache.stride(2)), logits_(logits) {
    const int64_t projected = (m_.heads + 2 * m_.key_heads) * E_;
    hidden_ = at::zeros({padded_B_, D_}, at::kFloat);
    added_ = at::zeros({padded_B_, rounded(D_, BLOCK)}, at::kFloat);
    projected_ = at::zeros({padded_B_, rounded(projected, BLOCK)}, at::kFloat);
    normed_ = at::zeros({padded_B_, D_}, cache.options());
    attended_ = at::zeros({padded_B_, m_.heads * E_}, cache.options());
    acted_ = at::zeros({padded_B_, rounded(m_.inner, BLOCK)}, cache.options());
  }

  Tensor run() {
#pragma omp parallel num_threads(at::get_num_threads())
    {
      const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
      const int64_t longest = B_ ? *std::max_element(positions_, positions_ + B_) + 1 : 0;
      std::vector<float> scratch(std::max(2 * padded_B_ * BLOCK, R_ * (E_ + rounded(longest, PAGE)) + E_));
      embed(thread, threads);
      for (size_t layer = 0; layer < m_.windows.size(); ++layer) {
        add_and_norm(tensor(layer, INPUT_NORM), layer > 0, thread, threads);
        multiply(normed_, D_, tensor(layer, QKV), tensor(layer, QKV_BIAS), projected_, thread, threads);
        // Interleaved: neighbours are of one group and of like lengths.
        for (int64_t item = thread; item < B_ * m_.key_heads; item += threads)
          attend(layer, item / m_.key_heads, item % m_.key_heads, scratch.data());
        barrier_.wait(threads);
        multiply(attended_, m_.heads * E_, tensor(layer, OUT), tensor(layer, OUT_BIAS), added_, thread, threads);
        add_and_norm(tensor(layer, POST_NORM), true, thread, threads);
        gate_and_up(tensor(layer, GATE), tensor(layer, UP), scratch.data(), thread, threads);
        multiply(acted_, m_.inner, tensor(layer, DOWN), Tensor(), added_, thread, threads);
      }
      add_and_norm(m_.final_norm, !m_.windows.empty(), thread, threads);
      multiply(normed_, D_, m_.head, Tensor(), logits_, thread, threads);
      at::native::cpublas::brgemm_release(PAIRS);  // AMX is a state of the thread
    }
    return logits_.narrow(0, 0, B_).narrow(1, 0, m_.vocabulary);
  }

 private:
  static constexpr bool PAIRS = std::is_same_v<T, BFloat16>;  // bf16 weights lie in pairs of inputs

  const Tensor& tensor(size_t layer, Slot slot) const { return m_.layers[layer * SLOTS + slot]; }

  void embed(int thread, int threads) {
    const T* embedding = m_.embedding.const_data_ptr<T>();
    float* hidden = hidden_.data_ptr<float>();
    for (int64_t b = thread; b < B_; b += threads)
      for (int64_t d = 0; d < D_; d += LANES) store(lanes(embedding + tokens_[b] * D_ + d), hidden + b * D_ + d);
  }

  // hidden += added, and its norm into normed_. A row belongs to the same thread in embed() and here.
  void add_and_norm(const Tensor& weight_D, bool add, int thread, int threads) {
    const T* weight = weight_D.const_data_ptr<T>();
    for (int64_t b = thread; b < B_; b += threads) {
      float* hidden = hidden_.data_ptr<float>() + b * D_;
      if (add) {
        const float* added = added_.const_data_ptr<float>() + b * added_.size(1);
        for (int64_t d = 0; d < D_; d += LANES) store(lanes(hidden + d) + lanes(added + d), hidden + d);
      }
      T* out = normed_.data_ptr<T>() + b * D_;
      const float factor = 1.0f / std::sqrt(mean_square(hidden, D_) + float(m_.epsilon));
      for (int64_t d = 0; d < D_; d += LANES) store(lanes(hidden + d) * factor * lanes(weight + d), out + d);
    }
    barrier_.wait(threads);
  }

  // One block of outputs for all rows: out_B_BLOCK = x_BK @ packed_K_BLOCK.
  void product(const Tensor& x, int64_t depth, const T* packed, float* out, int64_t stride) {
    at::native::cpublas::brgemm(
        padded_B_, BLOCK, depth, x.size(1), BLOCK, stride, false, x.const_data_ptr<T>(), packed, out, PAIRS);
  }

  // out = x @ weight + bias, its blocks shared among the threads.
  void multiply(const Tensor& x, int64_t depth, const Tensor& packed, const Tensor& bias, Tensor& out, int thread,
                int threads) {
    const int64_t blocks = packed.size(0), stride = out.size(1);
    for (int64_t i = blocks * thread / threads; i < blocks * (thread + 1) / threads; ++i) {
      float* block = out.data_ptr<float>() + i * BLOCK;
      product(x, depth, packed.const_data_ptr<T>() + i * depth * BLOCK, block, stride);
      if (!bias.defined() || !bias.numel()) continue;
      const float* add = bias.const_data_ptr<float>() + i * BLOCK;  // padded like the outputs
      for (int64_t b = 0; b < B_; ++b)
        for (int64_t o = 0; o < BLOCK; o += LANES) store(lanes(block + b * stride + o) + lanes(add + o), block + b * stride + o);
    }
    barrier_.wait(threads);
  }

  // acted = silu(gate) * up, block by block.
  void gate_and_up(const Tensor& gate_weight, const Tensor& up_weight, float* scratch, int thread, int threads) {
    const int64_t blocks = gate_weight.size(0), stride = acted_.size(1);
    float *gate = scratch, *up = scratch + padded_B_ * BLOCK;
    for (int64_t i = blocks * thread / threads; i < blocks * (thread + 1) / threads; ++i) {
      product(normed_, D_, gate_weight.const_data_ptr<T>() + i * D_ * BLOCK, gate, BLOCK);
      product(normed_, D_, up_weight.const_data_ptr<T>() + i * D_ * BLOCK, up, BLOCK);
      T* out = acted_.data_ptr<T>() + i * BLOCK;
      for (int64_t b = 0; b < B_; ++b) {
        for (int64_t o = 0; o < BLOCK; o += LANES) {
          const Lanes g = lanes(gate + b * BLOCK + o);
          store(g / (1.0f + exponential(-g)) * lanes(up + b * BLOCK + o), out + b * stride + o);
        }
      }
    }
    barrier_.wait(threads);
  }

  // One sequence, one key head: writes the new key and value to their page, and attends with the R queries of the head.
  void attend(size_t layer, int64_t b, int64_t j, float* scratch) {
    const int64_t position = positions_[b], length = position + 1, window = m_.windows[layer];
    const int64_t first = window ? std::max<int64_t>(0, length - window) : 0, stride = rounded(length, PAGE);
    const float* row = projected_.const_data_ptr<float>() + b * projected_.size(1);
    const int64_t* pages = pages_ + b * W_;
    const auto keys_of = [&](int64_t w) { return keys_ + layer * layer_ + pages[w] * page_ + j * E_ * PAGE; };
    const auto values_of = [&](int64_t w) { return values_ + layer * layer_ + pages[w] * page_ + j * PAGE * E_; };
    prefetch(keys_of(first / PAGE), E_ * PAGE);
    float *query = scratch, *key = query + R_ * E_, *scores = key + E_;
    for (int64_t r = 0; r < R_; ++r)
      rotate(row + (j * R_ + r) * E_, tensor(layer, Q_NORM), position, float(m_.scale), query + r * E_);
    rotate(row + (m_.heads + j) * E_, tensor(layer, K_NORM), position, 1.0f, key);
    const float* value = row + (m_.heads + m_.key_heads + j) * E_;
    T *new_key = keys_of(position / PAGE), *new_value = values_of(position / PAGE);
    for (int64_t e = 0; e < E_; ++e) {
      new_key[e * PAGE + position % PAGE] = T(key[e]);
      new_value[position % PAGE * E_ + e] = T(value[e]);
    }
    for (int64_t w = first / PAGE; w * PAGE < length; ++w) {
      // Pages lie anywhere: without being told, the processor begins to fetch one when it is needed.
      prefetch(values_of(w), E_ * PAGE);
      if ((w + 1) * PAGE < length) prefetch(keys_of(w + 1), E_ * PAGE);
      by_heads(R_, [&](auto heads, int64_t r) {
        page_scores<heads>(keys_of(w), query + r * E_, E_, scores + r * stride + w * PAGE, stride);
      });
    }
    for (int64_t r = 0; r < R_; ++r) softmax(scores + r * stride, first, length, stride);
    std::fill(query, query + R_ * E_, 0.0f);  // the queries did their work; the outputs take their place
    for (int64_t w = first / PAGE; w * PAGE < length; ++w)
      by_heads(R_, [&](auto heads, int64_t r) {
        page_values<heads>(values_of(w), scores + r * stride + w * PAGE, stride, std::min(PAGE, length - w * PAGE), E_,
                           query + r * E_);
      });
    T* out = attended_.data_ptr<T>() + (b * m_.heads + j * R_) * E_;
    for (int64_t e = 0; e < R_ * E_; e += LANES) store(lanes(query + e), out + e);
  }

  // A head's norm, where the family has one, then its rotation by the position.
  void rotate(const float* x, const Tensor& norm_E, int64_t position, float scale, float* out) const {
    const float *cos = m_.cos.const_data_ptr<float>() + position * E_, *sin = m_.sin.const_data_ptr<float>() + position * E_;
    const int64_t half = E_ / 2;
    float factor = scale;
    std::copy(x, x + E_, out);
    if (norm_E.numel()) {
      factor /= std::sqrt(mean_square(x, E_) + float(m_.epsilon));
      for (int64_t e = 0; e < E_; e += LANES) store(lanes(x + e) * lanes(norm_E.const_data_ptr<T>() + e), out + e);
    }
    for (int64_t e = 0; e < half; e += LANES) {
      const Lanes low = lanes(out + e) * factor, high = lanes(out + e + half) * factor;
      store(low * lanes(cos + e) - high * lanes(sin + e), out + e);
      store(high * lanes(cos + e + half) + low * lanes(sin + e + half), out + e + half);
    }
  }

  const Model& m_;
  const int64_t B_, padded_B_, D_, E_, R_, W_;
  const int64_t *tokens_, *positions_, *pages_;
  T *keys_, *values_;
  const int64_t layer_, page_;
  Tensor logits_, hidden_, added_, projected_, normed_, attended_, acted_;
  Barrier barrier_;
};

Tensor step(std::vector<Tensor> layers, std::vector<int64_t> windows, const Tensor& embedding,
            const Tensor& final_norm, const Tensor& head, const Tensor& cos, const Tensor& sin, int64_t heads,
            int64_t key_heads, int64_t inner, double epsilon, double scale, const Tensor& tokens_B,
            const Tensor& positions_B, const Tensor& pages_BW, const Tensor& cache, const Tensor& logits) {
  TORCH_CHECK(layers.size() == windows.size() * SLOTS && cache.dim() == 6 && cache.size(4) == PAGE);
  TORCH_CHECK(cos.size(1) == cache.size(5) && cos.size(1) % (2 * LANES) == 0 && embedding.size(1) % LANES == 0);
  TORCH_CHECK(logits.size(0) >= rounded(tokens_B.size(0), ROWS) && logits.size(1) >= rounded(embedding.size(0), BLOCK));
  TORCH_CHECK(cache.is_contiguous() && logits.is_contiguous() && tokens_B.is_contiguous() && positions_B.is_contiguous() && pages_BW.is_contiguous());
  const Model model{std::move(layers), std::move(windows), embedding, final_norm, head, cos, sin, heads, key_heads, inner,
                    embedding.size(0), epsilon, scale};
  if (cache.scalar_type() == at::kBFloat16)
    return Step<BFloat16>(model, tokens_B, positions_B, pages_BW, cache, logits).run();
  return Step<float>(model, tokens_B, positions_B, pages_BW, cache, logits).run();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tutelage, library) {
  library.def("step", &step);
}
