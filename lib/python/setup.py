# What pyproject.toml cannot say: a wheel takes along the library that BLOCKGTQ_LIBRARY names while it is built.
#     BLOCKGTQ_LIBRARY=build/libblockgtq.so.1 pip wheel --no-deps -w dist lib/python
# It then runs where that library runs: on this release of the system, with its packages. Without BLOCKGTQ_LIBRARY the
# wheel holds Python alone, for any machine.
import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

library = os.environ.get("BLOCKGTQ_LIBRARY")


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        target = Path(self.build_lib) / "blockgtq" / "libblockgtq.so.1"
        target.unlink(missing_ok=True)  # of an earlier build in this folder
        if library and not self.editable_mode:
            shutil.copy(library, target)


class WheelOfThisMachine(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = not library

    def get_tag(self):
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if library else (python, abi, platform)


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": WheelOfThisMachine})
