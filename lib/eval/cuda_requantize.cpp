#include "eval/cuda_requantize.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/place.h"
#include "kernels/codes/round_trip.h"
#include "quant/product.h"

namespace blockgtq {
namespace {

/// A layer's heads as the kernels need them.
struct OnDevice {
  const cuda::LinearTables* tables = nullptr;  // null: some head has no tables
  size_t first = 0;                            // index of the first head's table
  bool trellis = false;
};

/// Rewrites the flag for the mean as one more centre of x - mean, the mean's negative, behind the others or
/// zero.
LinearCode with_centres(LinearCode code) {
  if (!code.mean_flag) return code;
  code.mean_flag = false;
  const auto dim = size_t(code.dim);
  if (code.centres.empty()) code.centres.resize(dim);
  for (size_t j = 0; j < dim; ++j) code.centres.push_back(code.mean.empty() ? 0 : -code.mean[j]);
  return code;
}

cuda::LinearSpec linear_spec(const LinearCode& of) {
  const LinearCode code = with_centres(of);
  cuda::LinearSpec spec{code, std::vector<float>(size_t(code.n_centres() * code.n_coords()))};
  multiply_transposed(code.centres.data(), size_t(code.n_centres()), code.dim, code.forward.data(),
                      code.n_coords(), spec.z_centres.data());
  return spec;
}

bool has_trellis(const LinearCode& code) {
  return std::any_of(code.groups.begin(), code.groups.end(), [](const auto& g) { return g.trellis; }) ||
         (code.fallback && has_trellis(*code.fallback));
}

}  // namespace

struct CudaRequantizer::State {
  void upload_tables(std::span<const CodedTokens> coded, const cuda::Stream& stream);
  int64_t on_device(int layer, std::span<const CodedTokens> coded, const cuda::Stream& stream);
  int64_t on_host(int layer, std::vector<CodedTokens> coded, const cuda::Stream& stream);

  std::map<const HeadQuantizers*, OnDevice> known;
  std::deque<cuda::LinearTables> tables;
  cuda::Buffer jobs, counts{sizeof(cuda::RoundTripCounts)};
};

/// Uploads the tables of heads that were not seen before.
void CudaRequantizer::State::upload_tables(std::span<const CodedTokens> coded, const cuda::Stream& stream) {
  struct Head {
    const Quantizer* quantizer;
    std::optional<cuda::LinearSpec> spec;
  };
  std::vector<Head> heads;
  std::vector<const HeadQuantizers*> fresh;
  for (const CodedTokens& tokens : coded) {
    if (!known.try_emplace(tokens.heads).second) continue;
    fresh.push_back(tokens.heads);
    for (const auto& quantizer : *tokens.heads) heads.push_back({quantizer.get(), {}});
  }
  parallel_for(heads.size(), [&](size_t i) {
    if (heads[i].quantizer->dim() > cuda::kMaxLinearDim) return;
    if (const auto code = heads[i].quantizer->linear_code()) heads[i].spec = linear_spec(*code);
  });
  std::vector<cuda::LinearSpec> specs;
  std::vector<OnDevice*> linear;  // those of `specs`
  size_t next = 0;
  for (const HeadQuantizers* of : fresh) {
    const std::span all = std::span(heads).subspan(next, of->size());
    next += of->size();
    if (!std::all_of(all.begin(), all.end(), [](const Head& h) { return h.spec.has_value(); })) continue;
    OnDevice& there = *linear.emplace_back(&known[of]);
    there.first = specs.size();
    for (Head& head : all) {
      there.trellis |= has_trellis(head.spec->code);
      specs.push_back(std::move(*head.spec));
    }
  }
  if (specs.empty()) return;
  tables.emplace_back(specs, stream);
  for (OnDevice* of : linear) of->tables = &tables.back();
}

int64_t CudaRequantizer::State::on_device(int layer, std::span<const CodedTokens> coded,
                                          const cuda::Stream& stream) {
  std::vector<cuda::RoundTripJob> list;
  std::vector<int> head_of;  // (jobs)
  cuda::RoundTrips trips;
  for (const CodedTokens& tokens : coded) {
    const OnDevice& there = known.at(tokens.heads);
    trips.dim = tokens.heads->at(0)->dim();
    trips.longest = std::max(trips.longest, tokens.n);
    trips.trellis |= there.trellis;
    for (size_t h = 0; h < tokens.heads->size(); ++h) {
      list.push_back({there.tables->table(there.first + h), tokens.x + int64_t(h) * trips.dim, tokens.width(),
                      tokens.n});
      head_of.push_back(int(h));
    }
  }
  const size_t bytes = list.size() * sizeof(cuda::RoundTripJob);
  if (jobs.bytes() < bytes) jobs = cuda::Buffer(bytes);
  cuda::upload(jobs.as(), list.data(), bytes, stream);
  cuda::fill_zero(counts.as(), counts.bytes(), stream);
  trips.jobs = jobs.as<cuda::RoundTripJob>();
  trips.n_jobs = int(list.size());
  trips.counts = counts.as<cuda::RoundTripCounts>();
  cuda::round_trip(trips, stream);
  cuda::RoundTripCounts found;
  cuda::download_now(&found, counts.as(), sizeof(found), stream.handle());
  if (found.bad)
    at_layer(layer, [&] { at_head(head_of.at(list.size() - found.bad), [] { require_codable(false); }); });
  return int64_t(found.clipped);
}

int64_t CudaRequantizer::State::on_host(int layer, std::vector<CodedTokens> coded,
                                        const cuda::Stream& stream) {
  std::vector<std::vector<float>> copies;
  std::vector<float*> from;
  for (CodedTokens& tokens : coded) {
    std::vector<float>& copy = copies.emplace_back(size_t(tokens.n * tokens.width()));
    cuda::download_now(copy.data(), tokens.x, copy.size() * sizeof(float), stream.handle());
    from.push_back(std::exchange(tokens.x, copy.data()));
  }
  const int64_t clipped = blockgtq::requantize(layer, coded);
  for (size_t i = 0; i < coded.size(); ++i)
    cuda::upload(from[i], copies[i].data(), copies[i].size() * sizeof(float), stream);
  stream.synchronize();  // before the copies go
  return clipped;
}

CudaRequantizer::CudaRequantizer() : state_(std::make_unique<State>()) {}
CudaRequantizer::~CudaRequantizer() = default;

int64_t CudaRequantizer::requantize(const CachedLayer& layer, void* handle) {
  State& s = *state_;
  const cuda::Stream stream(handle);
  const std::vector<CodedTokens> coded = coded_tokens(layer);
  s.upload_tables(coded, stream);
  std::map<int, std::vector<CodedTokens>> there;  // by head dimension
  std::vector<CodedTokens> here;
  for (const CodedTokens& tokens : coded)
    (s.known.at(tokens.heads).tables ? there[tokens.heads->at(0)->dim()] : here).push_back(tokens);
  int64_t clipped = 0;
  for (const auto& [dim, tokens] : there) clipped += s.on_device(layer.layer, tokens, stream);
  if (!here.empty()) clipped += s.on_host(layer.layer, std::move(here), stream);
  return clipped;
}

}  // namespace blockgtq
