// Complete optimizer steps in one pass over memory, for float32 parameters on a CPU.
//
// Each function does what the rule of its name does in Python (accumulate, direction, weight decay), in that order, but
// for a rounding where the compiler joins a product and a sum. Nothing of torch is included, so that the file compiles
// in a second and the result serves every version of torch.
//
// All steps take the same arguments:
//   sizes    [count]           elements of each parameter
//   tensors  [count][2 + kept] where a parameter, its gradient and its states begin; kept is the number of states
//   numbers  lr, lr * weight_decay, -1 to maximize or 1, then the rule's own
//   threads  most threads to use

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// Elements that a thread takes at once: few enough to share one large parameter, many enough to forget the overhead.
constexpr int64_t CHUNK = 1 << 15;

struct Chunk {
    float* const* tensors;
    int64_t start, stop;
};

std::vector<Chunk> split(const int64_t* sizes, float* const* tensors, int64_t count, int64_t tensors_each) {
    std::vector<Chunk> chunks;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t start = 0; start < sizes[i]; start += CHUNK)
            chunks.push_back({tensors + i * tensors_each, start, std::min(start + CHUNK, sizes[i])});
    return chunks;
}

template <typename Work>
void parallel_for(const std::vector<Chunk>& chunks, int threads, Work work) {
    const int64_t number = chunks.size();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < number; ++i) work(chunks[i], i);
}

struct Step {
    float lr, decay, sign;

    // Without decay the value is left alone: infinity minus zero times infinity is NaN.
    float moved(float value, float direction) const {
        return (decay != 0 ? value - decay * value : value) - lr * direction;
    }
};

// Both let NaN pass, as torch's clamp does.
inline float at_most(float value, float limit) { return value > limit ? limit : value; }
inline float at_least(float value, float limit) { return value < limit ? limit : value; }

// As torch computes it: exact at both ends.
inline float lerp(float from, float to, float weight) {
    return weight < 0.5f ? from + weight * (to - from) : to - (to - from) * (1 - weight);
}

template <typename Clip>
void clipped_sgd(const Chunk& chunk, Step step, float momentum, Clip clip) {
    float* __restrict value = chunk.tensors[0];
    const float* __restrict gradient = chunk.tensors[1];
    if (momentum == 0) {
        for (int64_t i = chunk.start; i < chunk.stop; ++i)
            value[i] = step.moved(value[i], clip(step.sign * gradient[i]));
        return;
    }
    float* __restrict buffer = chunk.tensors[2];
    for (int64_t i = chunk.start; i < chunk.stop; ++i) {
        buffer[i] = momentum * buffer[i] + clip(step.sign * gradient[i]);
        value[i] = step.moved(value[i], buffer[i]);
    }
}

struct ACClip {
    float gradient_weight, power_weight, root_beta2, eps;  // 1 - beta1, 1 - beta2, sqrt(beta2)
};

template <int alpha, bool second_moment>
void acclip_chunk(const Chunk& chunk, Step step, ACClip rule) {
    float* __restrict value = chunk.tensors[0];
    const float* __restrict gradient = chunk.tensors[1];
    float* __restrict average = chunk.tensors[2];
    float* __restrict power = chunk.tensors[3];
    float* __restrict square = second_moment && alpha == 1 ? chunk.tensors[4] : nullptr;
    for (int64_t i = chunk.start; i < chunk.stop; ++i) {
        const float g = step.sign * gradient[i];
        average[i] = lerp(average[i], g, rule.gradient_weight);
        power[i] = lerp(power[i], alpha == 1 ? std::fabs(g) : g * g, rule.power_weight);
        const float threshold = alpha == 1 ? power[i] : std::sqrt(power[i]);
        float direction = at_most(threshold / (std::fabs(average[i]) + rule.eps), 1) * average[i];
        if constexpr (second_moment) {
            float root = threshold;
            if constexpr (alpha == 1) {
                square[i] = lerp(square[i], g * g, rule.power_weight);
                root = std::sqrt(square[i]);
            }
            direction /= root * rule.root_beta2 + rule.eps;
        }
        value[i] = step.moved(value[i], direction);
    }
}

// Memory is read faster in four places at once than in one.
double chunk_sum_of_squares(const float* __restrict x, int64_t size) {
    const int64_t quarter = size / 4;
    float a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int64_t i = 0; i < quarter; ++i) {
        a += x[i] * x[i];
        b += x[i + quarter] * x[i + quarter];
        c += x[i + 2 * quarter] * x[i + 2 * quarter];
        d += x[i + 3 * quarter] * x[i + 3 * quarter];
    }
    double rest = 0;
    for (int64_t i = 4 * quarter; i < size; ++i) rest += x[i] * x[i];
    return double(a) + double(b) + double(c) + double(d) + rest;
}

}  // namespace

extern "C" {

// Own numbers: momentum, clip. Kept: the momentum buffer, unless momentum is 0.
void cclip(const int64_t* sizes, float* const* tensors, int64_t count, const float* numbers, int threads) {
    const Step step{numbers[0], numbers[1], numbers[2]};
    const float momentum = numbers[3], clip = numbers[4];
    parallel_for(split(sizes, tensors, count, momentum == 0 ? 2 : 3), threads, [=](const Chunk& chunk, int64_t) {
        clipped_sgd(chunk, step, momentum, [=](float g) { return at_most(at_least(g, -clip), clip); });
    });
}

// Own numbers: momentum, factor. Kept: the momentum buffer, unless momentum is 0.
void gclip(const int64_t* sizes, float* const* tensors, int64_t count, const float* numbers, int threads) {
    const Step step{numbers[0], numbers[1], numbers[2]};
    const float momentum = numbers[3], factor = numbers[4];
    parallel_for(split(sizes, tensors, count, momentum == 0 ? 2 : 3), threads, [=](const Chunk& chunk, int64_t) {
        clipped_sgd(chunk, step, momentum, [=](float g) { return g * factor; });
    });
}

// Own numbers: those of ACClip, alpha (1 or 2), second_moment (0 or 1). Kept: averages of g, |g|^alpha and, where both
// are needed, g^2.
void acclip(const int64_t* sizes, float* const* tensors, int64_t count, const float* numbers, int threads) {
    const Step step{numbers[0], numbers[1], numbers[2]};
    const ACClip rule{numbers[3], numbers[4], numbers[5], numbers[6]};
    const bool square = numbers[7] == 2, second_moment = numbers[8] != 0;
    const auto update = second_moment ? (square ? acclip_chunk<2, true> : acclip_chunk<1, true>)
                                      : (square ? acclip_chunk<2, false> : acclip_chunk<1, false>);
    parallel_for(split(sizes, tensors, count, second_moment && !square ? 5 : 4), threads,
          [=](const Chunk& chunk, int64_t) { update(chunk, step, rule); });
}

// Of all elements of one list of tensors; the result does not depend on the number of threads.
double sum_of_squares(const int64_t* sizes, float* const* tensors, int64_t count, int threads) {
    const std::vector<Chunk> chunks = split(sizes, tensors, count, 1);
    std::vector<double> sums(chunks.size());
    parallel_for(chunks, threads, [&](const Chunk& chunk, int64_t i) {
        sums[i] = chunk_sum_of_squares(chunk.tensors[0] + chunk.start, chunk.stop - chunk.start);
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}
}
