import fastproxy
from Cython.Build import cythonize
from setuptools import Extension, setup

setup(py_modules=[], ext_modules=cythonize(
    [Extension("fastproxy_example", ["fastproxy_example.pyx"], include_dirs=[fastproxy.get_include()])], language_level=3))
