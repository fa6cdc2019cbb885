# SPDX-License-Identifier: GPL-2.0

"""python3 -m swap.hog MIB ROUNDS: fills so much memory, and in each round compares every page with
what was put into it and puts something else there. Exit status 1: a page is not what it was."""

import mmap
import struct
import sys

_PAGE = 4096
# Odd, so that its multiples visit every page of a power of two, far from the last one.
_STRIDE = 40503


def _content(index, generation):
    return struct.pack("<QQ", index, generation) * (_PAGE // 16)


def main():
    pages = int(sys.argv[1]) << 8
    rounds = int(sys.argv[2])
    assert pages & (pages - 1) == 0, "a power of two, please"
    memory = mmap.mmap(-1, pages * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for index in range(pages):
        memory[index * _PAGE:(index + 1) * _PAGE] = _content(index, 0)
    print("# filled", flush=True)
    for generation in range(1, rounds + 1):
        # In order, and across: what is next to each other in swap and what is not.
        stride = _STRIDE if generation % 2 == 0 else 1
        for step in range(pages):
            index = step * stride % pages
            part = slice(index * _PAGE, (index + 1) * _PAGE)
            if memory[part] != _content(index, generation - 1):
                print(f"page {index} in round {generation} holds {memory[part][:16].hex()}")
                return 1
            memory[part] = _content(index, generation)
        print(f"# round {generation} of {rounds}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
