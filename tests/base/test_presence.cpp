#include "base/presence.h"

#include "base/temp_folder.h"
#include "catch.h"

using namespace blockgtq;

TEST_CASE("what cannot be looked at is there") {
  const TempFolder dir;
  put_file(dir / "file", "");
  fs::create_symlink("nowhere", dir / "broken");
  fs::create_symlink("circle", dir / "circle");
  CHECK(is_there(dir / "file"));
  CHECK(is_there(dir.path()));
  CHECK(!is_there(dir / "none"));
  CHECK(!is_there(dir / "broken"));
  CHECK(!is_there(dir / "file" / "inside"));
  CHECK(is_there(dir / "circle"));
  CHECK(is_there(dir / std::string(300, 'x')));
}
