// Draws tokens by a two-level inverse of the cumulative distribution, as functional.logprobs.sample does, in two passes
// over the logits: the largest, then the mass of every block. Within the block that is hit, the masses are made again.

#include "lanes.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

namespace {

using at::Tensor;

constexpr int64_t BLOCK = 128;  // tokens

struct Drawn {
  int64_t token;
  float logprob;
};

class Row {
 public:
  Row(const float* logits, int64_t vocabulary, float temperature)
      : logits_(logits), blocks_((vocabulary + BLOCK - 1) / BLOCK), tail_(BLOCK, -INFINITY), coldness_(1.0f / temperature) {
    const int64_t whole = vocabulary / BLOCK * BLOCK;
    std::copy(logits + whole, logits + vocabulary, tail_.begin());
    whole_ = whole / BLOCK;
    Lanes tops = Lanes{} - INFINITY;
    for (int64_t k = 0; k < blocks_; ++k)
      for (int64_t i = 0; i < BLOCK; i += LANES) tops = lanes(block(k) + i) > tops ? lanes(block(k) + i) : tops;
    top_ = largest(tops);
  }

  // The most probable token, with its log-probability at temperature 1.
  Drawn best() const {
    const std::vector<float> masses = block_masses();
    for (int64_t k = 0; k < blocks_; ++k)
      for (int64_t i = 0; i < BLOCK; ++i)
        if (block(k)[i] == top_) return {k * BLOCK + i, float(-std::log(total(masses)))};
    return {0, NAN};  // nothing compares with NaN
  }

  // The token at which the cumulative mass exceeds `uniform` of the total. One without mass is never drawn.
  Drawn at(float uniform) const {
    const std::vector<float> masses = block_masses();
    const double sum = total(masses);
    double left = double(uniform) * sum;
    const int64_t k = invert(masses.data(), blocks_, left);
    float inside[BLOCK];
    for (int64_t i = 0; i < BLOCK; i += LANES) store(mass(block(k) + i), inside + i);
    const int64_t i = invert(inside, BLOCK, left);
    return {k * BLOCK + i, float((block(k)[i] - top_) * coldness_ - std::log(sum))};
  }

 private:
  const float* block(int64_t k) const { return k < whole_ ? logits_ + k * BLOCK : tail_.data(); }

  Lanes mass(const float* logits) const { return exponential((lanes(logits) - top_) * coldness_); }

  std::vector<float> block_masses() const {
    std::vector<float> masses(blocks_);
    for (int64_t k = 0; k < blocks_; ++k) {
      Lanes sums = {};
      for (int64_t i = 0; i < BLOCK; i += LANES) sums += mass(block(k) + i);
      masses[k] = sum(sums);
    }
    return masses;
  }

  static double total(const std::vector<float>& masses) {
    double all = 0.0;
    for (const float mass : masses) all += mass;
    return all;
  }

  // The first entry whose cumulative mass exceeds `left`, which becomes what is left for it. Rounding can leave some
  // beyond the end: the last entry with mass takes it.
  static int64_t invert(const float* masses, int64_t count, double& left) {
    int64_t last = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!(masses[i] > 0.0f)) continue;
      last = i;
      if (left < masses[i]) return i;
      left -= masses[i];
    }
    left += masses[last];
    return last;
  }

  const float* logits_;
  const int64_t blocks_;
  int64_t whole_;
  std::vector<float> tail_;
  const float coldness_;
  float top_;
};

// logits_BV fp32, rows apart by any stride. A temperature of 0 takes the most probable token.
std::tuple<Tensor, Tensor> sample(const Tensor& logits_BV, const Tensor& uniform_B, double temperature) {
  TORCH_CHECK(logits_BV.scalar_type() == at::kFloat && logits_BV.stride(1) == 1 && uniform_B.is_contiguous());
  const int64_t rows = logits_BV.size(0);
  Tensor tokens_B = at::empty({rows}, at::kLong), logprobs_B = at::empty({rows}, at::kFloat);
  const float *logits = logits_BV.const_data_ptr<float>(), *uniform = uniform_B.const_data_ptr<float>();
  int64_t* tokens = tokens_B.data_ptr<int64_t>();
  float* logprobs = logprobs_B.data_ptr<float>();
#pragma omp parallel for num_threads(at::get_num_threads()) if (rows > 1)
  for (int64_t b = 0; b < rows; ++b) {
    const Row row(logits + b * logits_BV.stride(0), logits_BV.size(1), temperature > 0.0 ? float(temperature) : 1.0f);
    const Drawn drawn = temperature > 0.0 ? row.at(uniform[b]) : row.best();
    tokens[b] = drawn.token;
    logprobs[b] = drawn.logprob;
  }
  return {tokens_B, logprobs_B};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tutelage, library) { library.def("sample", &sample); }
