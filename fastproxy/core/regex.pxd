# A regular expression as a deterministic automaton over byte classes: layout only (built by proxy/regex.py).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef struct regex_t:               # one block with its table
    uint32_t start
    uint32_t first_accepting       # states from this one on accept; state 0 is dead
    uint32_t n_classes
    uint32_t bytes                 # of the whole block
    uint8_t classes[256]           # byte -> class
    uint16_t *next                 # [state * n_classes + class] -> state; inside the block
