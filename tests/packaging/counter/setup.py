"""An extension of somebody else's, built against the installed wheel alone."""

import fastproxy
from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="counter", ext_modules=cythonize(
    [Extension("counter", ["counter.pyx"], include_dirs=[fastproxy.get_include()])], language_level=3))
