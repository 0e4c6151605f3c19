/* A prompt of 99 tokens and one more token through the packed cache, on the CPU, with random numbers:
 *
 *   cc -std=c11 example.c $(pkg-config --cflags --libs blockgtq) -o example
 *   ./example [MAP.h5]        a map of `blockgtq calibrate`; without one pages hold fp16
 */
#include <blockgtq.h>
#include <stdio.h>
#include <stdlib.h>

static void must(blockgtq_status status) {
  if (status == BLOCKGTQ_OK) return;
  fprintf(stderr, "%s\n", blockgtq_last_error());
  exit(1);
}

static float* random_numbers(int64_t n) {
  float* x = malloc((size_t)n * sizeof *x);
  for (int64_t i = 0; x && i < n; ++i) x[i] = 2.0f * (float)rand() / (float)RAND_MAX - 1;
  if (!x) exit(1);
  return x;
}

int main(int n_arguments, char** arguments) {
  blockgtq_options options = {.struct_size = sizeof options, .longest = 4096, .device = "cpu"};
  if (n_arguments > 1)
    options.map = arguments[1];
  else
    options.n_layers = 2, options.n_heads = 8, options.n_kv_heads = 2, options.head_dim = 64;
  blockgtq_cache* cache;
  must(blockgtq_open(&options, &cache));
  blockgtq_description is = {.struct_size = sizeof is};
  must(blockgtq_describe(cache, &is));
  printf("%s: %s / %s, %s, %.0f bytes per token\n", is.pair, is.key_method, is.value_method, is.code,
         is.bytes_per_token);

  /* Two pages, in any order; the caller's block table says which holds which positions. */
  const int32_t block_table[2] = {1, 0};
  int32_t starts = 0, lengths = 100;
  blockgtq_layer layer = {.struct_size = sizeof layer};
  must(blockgtq_describe_layer(cache, 0, &layer));
  blockgtq_pages pages = {.n_pages = 2, .block_table = block_table, .stride = 2, .longest = 128};
  pages.data = aligned_alloc(16, 2 * (size_t)layer.page_pitch);
  pages.starts = &starts;
  pages.lengths = &lengths;

  const int64_t width = (int64_t)is.n_kv_heads * is.head_dim, q_width = (int64_t)is.n_heads * is.head_dim;
  float *k = random_numbers(100 * width), *v = random_numbers(100 * width), *q = random_numbers(q_width);
  float* out = random_numbers(q_width);
  blockgtq_encode_args encode = {.struct_size = sizeof encode, .batch = 1, .tokens = 99, .pages = pages};
  encode.k = (blockgtq_tensor){.data = k, .dtype = BLOCKGTQ_F32};
  encode.v = (blockgtq_tensor){.data = v, .dtype = BLOCKGTQ_F32};
  must(blockgtq_encode(cache, &encode)); /* the prompt */
  starts = 99;
  encode.tokens = 1;
  encode.k.data = k + 99 * width;
  encode.v.data = v + 99 * width;
  must(blockgtq_encode(cache, &encode)); /* one token */
  blockgtq_decode_args decode = {.struct_size = sizeof decode, .batch = 1, .pages = pages};
  decode.q = (blockgtq_tensor){.data = q, .dtype = BLOCKGTQ_F32};
  decode.out = (blockgtq_tensor){.data = out, .dtype = BLOCKGTQ_F32};
  must(blockgtq_decode(cache, &decode));
  printf("attention of token 99, head 0: %.4f %.4f %.4f ...\n", out[0], out[1], out[2]);

  free(k), free(v), free(q), free(out), free(pages.data);
  blockgtq_close(cache);
  return 0;
}
