// Pages that sequences share.
#include "catch.h"
#include "serve/page_pool.h"

using namespace blockgtq;

TEST_CASE("pages are taken and given back in an order that calls alone decide", "[pages]") {
  PagePool pool("packed", 5);
  CHECK(pool.total() == 5);
  CHECK(pool.free() == 5);
  const std::vector<int32_t> a = pool.take(2), b = pool.take(2);
  CHECK(a == std::vector<int32_t>{0, 1});
  CHECK(b == std::vector<int32_t>{2, 3});
  CHECK(pool.take(0).empty());
  pool.give_back(a);
  CHECK(pool.free() == 3);
  CHECK(pool.take(3) == std::vector<int32_t>{0, 1, 4});
  CHECK(pool.free() == 0);
  pool.give_back(b);
  CHECK(pool.free_pages() == std::vector<int32_t>{3, 2});
}

TEST_CASE("a pool without pages enough says so and keeps what it has", "[pages]") {
  PagePool pool("fp16", 4);
  const std::vector<int32_t> held = pool.take(3);
  try {
    pool.take(2);
    FAIL("two pages of one");
  } catch (const Error& e) {
    CHECK(e.code == Exit::device);
    CHECK(std::string(e.what()) == "fp16 pages: 2 needed, 1 of 4 free");
    CHECK_THAT(e.hint, ContainsSubstring("--gpu-memory"));
  }
  CHECK(pool.free() == 1);
  CHECK(pool.take(1) == std::vector<int32_t>{3});
  CHECK_THROWS_AS(PagePool("packed", 0).take(1), Error);
}

TEST_CASE("a page is given back by who has it, once", "[pages]") {
  PagePool pool("packed", 3);
  const std::vector<int32_t> held = pool.take(2), never = {2}, outside = {3}, negative = {-1};
  pool.give_back(held);
  CHECK_THROWS_AS(pool.give_back(held), std::logic_error);
  for (const auto& pages : {never, outside, negative})
    CHECK_THROWS_AS(pool.give_back(pages), std::logic_error);
  const std::vector<int32_t> twice = {pool.take(1)[0], 0};
  CHECK_THROWS_AS(pool.give_back(twice), std::logic_error);
}
