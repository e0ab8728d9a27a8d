// One forward of the Llama family for sampling, all layers in one parallel region: the last token of every sequence that
// is being written, or the tokens of prompts.
//
// Matrix products are PyTorch's small-matrix kernels (oneDNN's brgemm: AMX or AVX-512) on weights packed once per update
// into blocks of BLOCK outputs. Between them are plain loops that the compiler vectorises. The residual stream, norms,
// scores and logits are fp32; weights, keys, values and whatever enters a product are T.
//
// Suffixes as in Python: N tokens, B those whose logits are asked for, D width, H query heads, J key heads, R = H / J, E width of a head, W pages.

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
  Step(const Model& model, const Tensor& tokens_N, const Tensor& positions_N, const Tensor& pages_NW,
       const Tensor& asked_B, const Tensor& cache, const Tensor& logits)
      : m_(model), N_(tokens_N.size(0)), padded_N_(rounded(N_, ROWS)), D_(model.embedding.size(1)),
        E_(model.cos.size(1)), R_(model.heads / model.key_heads), W_(pages_NW.size(1)), B_(asked_B.size(0)),
        tokens_(tokens_N.const_data_ptr<int64_t>()), positions_(positions_N.const_data_ptr<int64_t>()),
        pages_(pages_NW.const_data_ptr<int64_t>()), asked_(asked_B.const_data_ptr<int64_t>()), keys_(cache.data_ptr<T>()),
        values_(keys_ + cache.stride(1)), layer_(cache.stride(0)), page_(cache.stride(2)), logits_(logits) {
    const int64_t projected = (m_.heads + 2 * m_.key_heads) * E_;
    hidden_ = at::zeros({padded_N_, D_}, at::kFloat);
    added_ = at::zeros({padded_N_, rounded(D_, BLOCK)}, at::kFloat);
    projected_ = at::zeros({padded_N_, rounded(projected, BLOCK)}, at::kFloat);
    normed_ = at::zeros({padded_N_, D_}, cache.options());
    last_ = at::zeros({rounded(B_, ROWS), D_}, cache.options());
    attended_ = at::zeros({padded_N_, m_.heads * E_}, cache.options());
    acted_ = at::zeros({padded_N_, rounded(m_.inner, BLOCK)}, cache.options());
  }

  Tensor run() {
#pragma omp parallel num_threads(at::get_num_threads())
    {
      const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
      const int64_t longest = N_ ? *std::max_element(positions_, positions_ + N_) + 1 : 0;
      std::vector<float> scratch(std::max(2 * padded_N_ * BLOCK, R_ * (E_ + rounded(longest, PAGE))));
      embed(thread, threads);
      for (size_t layer = 0; layer < m_.windows.size(); ++layer) {
        add_and_norm(tensor(layer, INPUT_NORM), layer > 0, thread, threads);
        multiply(normed_, D_, tensor(layer, QKV), tensor(layer, QKV_BIAS), projected_, thread, threads);
        each_head(thread, threads, [&](int64_t n, int64_t j) { remember(layer, n, j, scratch.data()); });
        each_head(thread, threads, [&](int64_t n, int64_t j) { attend(layer, n, j, scratch.data()); });
        multiply(attended_, m_.heads * E_, tensor(layer, OUT), tensor(layer, OUT_BIAS), added_, thread, threads);
        add_and_norm(tensor(layer, POST_NORM), true, thread, threads);
        gate_and_up(tensor(layer, GATE), tensor(layer, UP), scratch.data(), thread, threads);
        multiply(acted_, m_.inner, tensor(layer, DOWN), Tensor(), added_, thread, threads);
      }
      add_and_norm(m_.final_norm, !m_.windows.empty(), thread, threads);
      for (int64_t b = thread; b < B_; b += threads)
        std::copy_n(normed_.const_data_ptr<T>() + asked_[b] * D_, D_, last_.data_ptr<T>() + b * D_);
      barrier_.wait(threads);
      multiply(last_, D_, m_.head, Tensor(), logits_, thread, threads);
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
    for (int64_t n = thread; n < N_; n += threads)
      for (int64_t d = 0; d < D_; d += LANES) store(lanes(embedding + tokens_[n] * D_ + d), hidden + n * D_ + d);
  }

  // hidden += added, and its norm into normed_. A row belongs to the same thread in embed() and here.
  void add_and_norm(const Tensor& weight_D, bool add, int thread, int threads) {
    const T* weight = weight_D.const_data_ptr<T>();
    for (int64_t n = thread; n < N_; n += threads) {
      float* hidden = hidden_.data_ptr<float>() + n * D_;
      if (add) {
        const float* added = added_.const_data_ptr<float>() + n * added_.size(1);
        for (int64_t d = 0; d < D_; d += LANES) store(lanes(hidden + d) + lanes(added + d), hidden + d);
      }
      T* out = normed_.data_ptr<T>() + n * D_;
      const float factor = 1.0f / std::sqrt(mean_square(hidden, D_) + float(m_.epsilon));
      for (int64_t d = 0; d < D_; d += LANES) store(lanes(hidden + d) * factor * lanes(weight + d), out + d);
    }
    barrier_.wait(threads);
  }

  // One block of outputs for all rows: x [rows, depth] @ packed [depth, BLOCK].
  void product(const Tensor& x, int64_t depth, const T* packed, float* out, int64_t stride) {
    at::native::cpublas::brgemm(
        x.size(0), BLOCK, depth, x.size(1), BLOCK, stride, false, x.const_data_ptr<T>(), packed, out, PAIRS);
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
      for (float* row = block; row < block + N_ * stride; row += stride)
        for (int64_t o = 0; o < BLOCK; o += LANES) store(lanes(row + o) + lanes(add + o), row + o);
    }
    barrier_.wait(threads);
  }

  // acted = silu(gate) * up, block by block.
  void gate_and_up(const Tensor& gate_weight, const Tensor& up_weight, float* scratch, int thread, int threads) {
    const int64_t blocks = gate_weight.size(0), stride = acted_.size(1);
    float *gate = scratch, *up = scratch + padded_N_ * BLOCK;
    for (int64_t i = blocks * thread / threads; i < blocks * (thread + 1) / threads; ++i) {
      product(normed_, D_, gate_weight.const_data_ptr<T>() + i * D_ * BLOCK, gate, BLOCK);
      product(normed_, D_, up_weight.const_data_ptr<T>() + i * D_ * BLOCK, up, BLOCK);
      T* out = acted_.data_ptr<T>() + i * BLOCK;
      for (int64_t n = 0; n < N_; ++n) {
        for (int64_t o = 0; o < BLOCK; o += LANES)
          store(gated(lanes(gate + n * BLOCK + o), lanes(up + n * BLOCK + o)), out + n * stride + o);
      }
    }
    barrier_.wait(threads);
  }

  // Every key head of every token, interleaved: neighbours are of one sequence, or of like lengths.
  template <typename Body>
  void each_head(int thread, int threads, const Body& body) {
    for (int64_t item = thread; item < N_ * m_.key_heads; item += threads)
      body(item / m_.key_heads, item % m_.key_heads);
    barrier_.wait(threads);
  }

  T* keys_of(size_t layer, int64_t page, int64_t j) const { return keys_ + layer * layer_ + page * page_ + j * E_ * PAGE; }
  T* values_of(size_t layer, int64_t page, int64_t j) const {
    return values_ + layer * layer_ + page * page_ + j * PAGE * E_;
  }

  // Writes the token's key and value to their page.
  void remember(size_t layer, int64_t n, int64_t j, float* key) {
    const int64_t position = positions_[n], page = pages_[n * W_ + position / PAGE], place = position % PAGE;
    const float* row = projected_.const_data_ptr<float>() + n * projected_.size(1);
    const float* value = row + (m_.heads + m_.key_heads + j) * E_;
    T *keys = keys_of(layer, page, j) + place, *values = values_of(layer, page, j) + place * E_;
    rotate(row + (m_.heads + j) * E_, tensor(layer, K_NORM), position, 1.0f, key);
    for (int64_t e = 0; e < E_; ++e) keys[e * PAGE] = T(key[e]);
    for (int64_t e = 0; e < E_; e += LANES) store(lanes(value + e), values + e);
  }

  // Attends with the R queries of the token that share a key head.
  void attend(size_t layer, int64_t n, int64_t j, float* query) {
    const int64_t position = positions_[n], length = position + 1, window = m_.windows[layer];
    const int64_t first = window ? std::max<int64_t>(0, length - window) : 0, stride = rounded(length, PAGE);
    const int64_t* pages = pages_ + n * W_;
    prefetch(keys_of(layer, pages[first / PAGE], j), E_ * PAGE);
    const float* row = projected_.const_data_ptr<float>() + n * projected_.size(1);
    float* scores = query + R_ * E_;
    for (int64_t r = 0; r < R_; ++r)
      rotate(row + (j * R_ + r) * E_, tensor(layer, Q_NORM), position, float(m_.scale), query + r * E_);
    for (int64_t w = first / PAGE; w * PAGE < length; ++w) {
      // Pages lie anywhere: without being told, the processor begins to fetch one when it is needed.
      prefetch(values_of(layer, pages[w], j), E_ * PAGE);
      if ((w + 1) * PAGE < length) prefetch(keys_of(layer, pages[w + 1], j), E_ * PAGE);
      by_heads(R_, [&](auto heads, int64_t r) {
        page_scores<heads>(
            keys_of(layer, pages[w], j), query + r * E_, E_, scores + r * stride + w * PAGE, stride);
      });
    }
    for (int64_t r = 0; r < R_; ++r) softmax(scores + r * stride, first, length, stride);
    std::fill(query, query + R_ * E_, 0.0f);  // the queries did their work; the outputs take their place
    for (int64_t w = first / PAGE; w * PAGE < length; ++w)
      by_heads(R_, [&](auto heads, int64_t r) {
        page_values<heads>(values_of(layer, pages[w], j), scores + r * stride + w * PAGE, stride,
                           std::min(PAGE, length - w * PAGE), E_, query + r * E_);
      });
    T* out = attended_.data_ptr<T>() + (n * m_.heads + j * R_) * E_;
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
  const int64_t N_, padded_N_, D_, E_, R_, W_, B_;
  const int64_t *tokens_, *positions_, *pages_, *asked_;
  T *keys_, *values_;
  const int64_t layer_, page_;
  Tensor logits_, hidden_, added_, projected_, normed_, last_, attended_, acted_;
  Barrier barrier_;
};

Tensor step(std::vector<Tensor> layers, std::vector<int64_t> windows, const Tensor& embedding,
            const Tensor& final_norm, const Tensor& head, const Tensor& cos, const Tensor& sin, int64_t heads,
            int64_t key_heads, int64_t inner, double epsilon, double scale, const Tensor& tokens_N,
            const Tensor& positions_N, const Tensor& pages_NW, const Tensor& asked_B, const Tensor& cache,
            const Tensor& logits) {
  TORCH_CHECK(layers.size() == windows.size() * SLOTS && cache.dim() == 6 && cache.size(4) == PAGE);
  TORCH_CHECK(cos.size(1) == cache.size(5) && cos.size(1) % (2 * LANES) == 0 && embedding.size(1) % LANES == 0);
  TORCH_CHECK(logits.size(0) >= rounded(asked_B.size(0), ROWS) && logits.size(1) >= rounded(embedding.size(0), BLOCK));
  for (const Tensor& tensor : {tokens_N, positions_N, pages_NW, asked_B, cache, logits})
    TORCH_CHECK(tensor.is_contiguous());
  const Model model{std::move(layers), std::move(windows), embedding, final_norm, head, cos, sin, heads, key_heads, inner,
                    embedding.size(0), epsilon, scale};
  if (cache.scalar_type() == at::kBFloat16)
    return Step<BFloat16>(model, tokens_N, positions_N, pages_NW, asked_B, cache, logits).run();
  return Step<float>(model, tokens_N, positions_N, pages_NW, asked_B, cache, logits).run();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tutelage, library) {
  library.def("step", &step);
}
