"""BlockGtqCache in transformers models: the text of `blockgtq generate`, and what is refused."""

import json
import tempfile

from common import ROOT, STEP_LOGITS, Case, main, map_of, model, need, run, temporary

need("torch", "transformers")

import torch
import transformers

import blockgtq
from blockgtq import BlockGtqCache, ops

if int(transformers.__version__.split(".")[0]) < 5:
    print(f"skipped: transformers {transformers.__version__}, 5 is needed")
    raise SystemExit(77)

GREEDY = json.loads((ROOT / "tests/golden/greedy.json").read_text())
_models = {}


def load(name, attention="blockgtq"):
    if (name, attention) not in _models:
        _models[name, attention] = transformers.AutoModelForCausalLM.from_pretrained(
            model(name), dtype=torch.float32, attn_implementation=attention).eval()
    return _models[name, attention]


def prompt(n=64):
    """Ids of the small models' own tokenizer."""
    return (GREEDY["tiny-llama3"]["prompt"] * 2)[:n]


def generated(name, ids, n, *options):
    """The ids that the binary writes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(" ".join(map(str, ids)))
        file.flush()
        said = run("generate", "-m", model(name), "--ids", file.name, "-n", n, "-q", "--device", "cpu", "--json", "-",
                   "--kv", *options)
    return json.loads(said)["ids"]


def greedy(name, ids, n, cache):
    """The ids that transformers writes over a cache."""
    ids = torch.tensor(ids if isinstance(ids[0], list) else [ids])
    out = load(name).generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
                              max_new_tokens=n, eos_token_id=None, pad_token_id=0)
    new = out[:, ids.shape[1]:].tolist()
    return new if len(new) > 1 else new[0]


@torch.no_grad()
def logits(name, ids, cache):
    """(T, vocab) behind each of the ids, which are a prompt or follow what the cache holds."""
    return load(name)(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0]


def steps(name, map_file, ids, n_prompt):
    """(1 + n, vocab): what our decoder predicts behind the prompt, and behind each of the n ids that follow it."""
    ids_file, file = temporary("ids.txt"), temporary("steps")
    with open(ids_file, "w") as out:
        out.write(" ".join(map(str, ids)))
    run("--model", model(name), "--map", map_file, "--ids", ids_file, "--prompt", n_prompt, "--out", file,
        program=STEP_LOGITS)
    with open(file, "rb") as written:
        vocab = json.loads(written.readline())["vocab"]
        return torch.frombuffer(bytearray(written.read()), dtype=torch.float32).view(-1, vocab)


class Text(Case):
    """The same text as `generate --kv`, and the same logits at every step."""

    def same_text(self, name, n=40, cache=(), options=(), bits="3", ids=None):
        """The texts are the same, but for what follows a step whose two likeliest tokens are all but equal: programs
        add in other orders, so that a code is now and then chosen otherwise, and such a tie broken."""
        map = map_of(name, bits)
        ids = ids or prompt()
        expected = generated(name, ids, n, map, *options)
        found = greedy(name, ids, n, BlockGtqCache(map, **dict(cache)))
        same = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), n)
        if same < n:
            again = BlockGtqCache(map, **dict(cache))
            last = logits(name, ids, again)[-1]
            for id in expected[:same]:
                last = logits(name, [id], again)[0]
            self.assertLess(abs(last[found[same]] - last[expected[same]]), 0.03 * last.std(), f"token {same}")

    def test_logits_of_steps(self):
        for name in ("tiny-llama3", "tiny-mistral", "tiny-qwen3-moe", "tiny-glm"):
            with self.subTest(name):
                map, ids = map_of(name), prompt(48)
                ids = ids + generated(name, ids, 48, map)[:-1]
                expected = steps(name, map, ids, 48)
                cache = BlockGtqCache(map)
                found = [logits(name, ids[:48], cache)[-1]]
                found += [logits(name, [id], cache)[0] for id in ids[48:]]
                found = torch.stack(found)
                off = (found - expected).abs().max(1).values
                self.assertLess(off[0], 1e-3)  # the prompt attends exactly
                # Two programs add in other orders. So of some 150,000 codes a few are chosen otherwise, where two are
                # equally near, and from then on logits differ; where none is, by 1e-5.
                self.assertLess(off.median(), 0.03 * expected.std(), off)
                self.assertGreater((found.argmax(1) == expected.argmax(1)).float().mean(), 0.95)

    def test_in_fp16(self):
        for name in ("tiny-llama3", "tiny-qwen2", "tiny-qwen2-hd64"):
            with self.subTest(name):
                shape = tuple(getattr(load(name).config, key) for key in
                              ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"))
                expected = generated(name, prompt(), 40, "fp16")
                self.assertEqual(greedy(name, prompt(), 40, BlockGtqCache(None, model=shape)), expected)

    def test_of_models(self):
        for name in ("tiny-llama3", "tiny-qwen2-gqa8", "tiny-mistral", "tiny-qwen3-moe", "tiny-glm"):
            with self.subTest(name):
                self.same_text(name)

    def test_with_other_budgets_methods_and_codes(self):
        self.same_text("tiny-llama3", bits="2,4", cache={"pair": "K4V2"}, options=("--pairs", "K4V2"))
        self.same_text("tiny-llama3", cache={"code": "trellis"}, options=("--code", "trellis"))
        self.same_text("tiny-llama3", cache={"key_method": "tq-mse-cb", "value_method": "tq-mse-centred"},
                  options=("--k-method", "tq-mse-cb", "--v-method", "tq-mse-centred"))

    def test_of_a_prompt_in_chunks(self):
        self.same_text("tiny-llama3", cache={"prefill_chunk": 20}, options=("--prefill-chunk", 20))

    def test_with_exact_positions(self):
        long = (prompt() * 4)[:200]
        exact = lambda sink, recent: dict(cache={"sink": sink, "recent": recent},
                                          options=("--sink", sink, "--recent", recent))
        self.same_text("tiny-llama3", ids=long, n=70, **exact(64, 64))
        self.same_text("tiny-llama3", ids=long, n=30, **exact(0, 100))
        self.same_text("tiny-llama3", ids=long, n=20, **exact(128, 0))
        both = exact(64, 64)
        self.same_text("tiny-llama3", ids=long, n=20, cache={**both["cache"], "prefill_chunk": 30},
                  options=(*both["options"], "--prefill-chunk", 30))
        self.same_text("tiny-llama3", ids=prompt(20), n=70, **both)


class Steps(Case):
    name = "tiny-qwen2"

    def cache(self, **options):
        return BlockGtqCache(map_of(self.name), **options)

    def test_logits_are_those_of_exact_attention_over_what_the_pages_hold(self):
        cache, ids = self.cache(), prompt(40)
        logits(self.name, ids[:30], cache)
        for id in ids[30:]:
            found = logits(self.name, [id], cache)[0]
        s = cache.sequences
        held = transformers.DynamicCache()
        for layer in cache.layers:  # all but the last token, which writes itself
            k, v = ops.read(s.format, layer.index, layer.pages, s.block_table, 0, len(ids) - 1)
            held.update(k.transpose(1, 2), v.transpose(1, 2), layer.index)
        with torch.no_grad():
            exact = load(self.name, "eager")(torch.tensor([ids[-1:]]), past_key_values=held).logits[0, 0]
        # The last token's own key and value are coded in `found` and exact here: one position of 40.
        self.assertLess((found - exact).abs().mean(), 0.15 * exact.std())
        self.assertEqual(cache.get_seq_length(), 40)

    def test_a_prompt_of_one_chunk_is_exact(self):
        ids = prompt()
        with torch.no_grad():
            exact = load(self.name, "eager")(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits(self.name, ids, self.cache()), exact, atol=2e-4, rtol=1e-4)

    def test_pages_grow_and_max_length_is_kept(self):
        grown, whole = self.cache(), self.cache(max_length=300)
        ids = (prompt() * 5)[:290]
        for cache in (grown, whole):
            logits(self.name, ids[:60], cache)
            for id in ids[60:80]:
                logits(self.name, [id], cache)
        a, b = (logits(self.name, ids[80:], cache) for cache in (grown, whole))
        self.assertTrue(torch.equal(a, b))
        self.assertEqual(whole.layers[0].pages.shape[0], 5)
        self.assertEqual(whole.get_max_length(), 300)
        of_a_page = sum(layer.page_bytes for layer in whole.format.layers)
        self.assertEqual(grown.bytes(), 5 * of_a_page)
        error = self.refused("301 tokens, max_length is 300", logits, self.name, ids[:11], whole)
        self.assertEqual(error.kind, "pages")

    def test_a_batch_of_equal_lengths(self):
        prompts = [prompt(40), prompt()[20:60]]
        single = [greedy(self.name, ids, 12, self.cache()) for ids in prompts]
        self.assertEqual(greedy(self.name, prompts, 12, self.cache()), single)
        exact = {"sink": 64, "recent": 64}
        longer = [(ids * 4)[:130] for ids in prompts]
        single = [greedy(self.name, ids, 20, self.cache(**exact)) for ids in longer]
        self.assertEqual(greedy(self.name, longer, 20, self.cache(**exact)), single)

    def test_reset_and_crop(self):
        cache, ids = self.cache(), prompt(50)
        first = logits(self.name, ids, cache)
        after = logits(self.name, [7], cache)
        for id in (8, 9, 10):
            logits(self.name, [id], cache)
        cache.crop(-4)
        self.assertEqual(cache.get_seq_length(), 50)
        self.assertTrue(torch.equal(logits(self.name, [7], cache), after))
        cache.crop(-51)
        self.assertEqual(cache.get_seq_length(), 0)
        self.assertTrue(torch.equal(logits(self.name, ids, cache), first))
        cache.reset()
        self.assertTrue(torch.equal(logits(self.name, ids, cache), first))
        self.assertTrue(cache.is_croppable)
        recent = self.cache(recent=64)
        logits(self.name, ids, recent)
        self.assertFalse(recent.is_croppable)
        self.refused("crop", recent.crop, -1)
        self.refused("crop(3)", cache.crop, 3)

    def test_sequences_are_reordered_repeated_and_chosen(self):
        cache = self.cache()
        both = torch.tensor([prompt(40), prompt()[20:60]])
        with torch.no_grad():
            load(self.name)(both, past_key_values=cache, use_cache=True)
            step = lambda *ids: load(self.name)(torch.tensor(ids)[:, None], past_key_values=cache).logits[:, 0]
            first = step(5, 6)
            cache.crop(-1)
            cache.reorder_cache(torch.tensor([1, 0]))
            self.assertTrue(torch.equal(step(6, 5), first.flip(0)))
            cache.crop(-1)
            cache.batch_repeat_interleave(2)
            close = lambda a, b: torch.testing.assert_close(a, b, atol=0.02, rtol=0)  # a batch adds in another order
            close(step(6, 6, 5, 5), first.flip(0).repeat_interleave(2, 0))
            cache.crop(-1)
            cache.batch_select_indices(torch.tensor([3]))
            close(step(5), first[:1])

    def test_beams(self):
        ids = torch.tensor([prompt(30)])
        write = lambda attention, cache: load(self.name, attention).generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, num_beams=3, do_sample=False,
            max_new_tokens=12, eos_token_id=None, pad_token_id=0).tolist()
        fp16 = BlockGtqCache(None, model=(6, 4, 2, 128))
        self.assertEqual(write("blockgtq", fp16), write("eager", transformers.DynamicCache()))


class Refused(Case):
    name = "tiny-qwen2"

    def step(self, cache, name=None, attention="blockgtq", **more):
        with torch.no_grad():
            return load(name or self.name, attention)(torch.tensor([prompt(8)] * 2), past_key_values=cache, **more)

    def test_other_attention_and_other_caches(self):
        cache = BlockGtqCache(map_of(self.name))
        for attention in ("sdpa", "eager"):
            self.refused('attn_implementation="blockgtq"', self.step, cache, attention=attention)
            cache.reset()
        self.refused("a BlockGtqCache", self.step, transformers.DynamicCache())
        self.refused("a BlockGtqCache", self.step, None)

    def test_padding_and_masks(self):
        cache = BlockGtqCache(map_of(self.name))
        padded = torch.ones(2, 8, dtype=torch.long)
        padded[1, 0] = 0
        self.refused("a padded batch", self.step, cache, attention_mask=padded)
        self.refused("an attention mask", self.step, cache, attention_mask=torch.zeros(2, 1, 8, 8))
        cache.reset()
        self.step(cache, attention_mask=torch.ones(2, 8, dtype=torch.long))

    def test_maps_of_other_models(self):
        for name in ("tiny-llama3", "tiny-qwen2-gqa8", "tiny-qwen3"):
            error = self.refused("", self.step, BlockGtqCache(map_of(name)))
            self.assertEqual(error.kind, "input", str(error))
            self.refused("", BlockGtqCache, map_of(name), config=load(self.name).config)
        BlockGtqCache(map_of(self.name), config=load(self.name).config)
        BlockGtqCache(map_of("tiny-llama3"), config=load("tiny-llama3").config)

    def test_arguments(self):
        map = map_of(self.name)
        self.refused("sink 4, recent 0: expected: a multiple of 64", BlockGtqCache, map, sink=4)
        self.refused("sink 0, recent -1", BlockGtqCache, map, recent=-1)
        self.refused("prefill_chunk 0", BlockGtqCache, map, prefill_chunk=0)
        self.refused("max_length 0", BlockGtqCache, map, max_length=0)
        self.refused("/nowhere.h5", BlockGtqCache, "/nowhere.h5")
        self.refused("pair", BlockGtqCache, blockgtq.PageFormat(map), pair="K3V3")

    def test_a_batch_that_changes_and_a_pass_that_failed(self):
        cache = BlockGtqCache(blockgtq.PageFormat(map_of(self.name)))
        self.step(cache)
        with torch.no_grad():
            call = lambda **more: load(self.name)(torch.tensor([[1]]), past_key_values=cache, **more)
            self.refused("a batch of 1, the cache holds 2", call)
            cache.reset()
            self.refused("an attention mask", call, attention_mask=torch.zeros(1, 1, 1, 1))
            self.refused("reset() empties the cache", call)
            cache.reset()
            call()

    def test_training(self):
        self.refused("torch.no_grad()", load(self.name), torch.tensor([prompt(8)]),
                     past_key_values=BlockGtqCache(map_of(self.name)))


if __name__ == "__main__":
    main()
