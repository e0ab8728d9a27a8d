"""Keys and values in pages: a pool allocated once, pages owned by count, a table of pages for each sequence.

As in Kwon et al., 2309.06180: a page with several owners is read by all and written by none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

PAGE = 16  # keys in a page


def pages_for(keys: int) -> int:
    """How many pages hold so many keys."""
    return -(-keys // PAGE)


class PagePool:
    """`cache`: [layers, 2 (keys, values), pages, key heads, PAGE, D].

    How a page of keys lies within its [PAGE, D] is its decoder's affair.

    Page 0 is never handed out: tables are padded with it, and rows that stand for no sequence write to it.
    """

    def __init__(
        self, layers: int, key_heads: int, width: int, pages: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        # Zeros: an unseen key weighs 0, and 0 times what lay in that memory before could be NaN.
        self.cache = torch.zeros(layers, 2, pages, key_heads, PAGE, width, dtype=dtype, device=device)
        self.reset()

    def reset(self) -> None:
        """Takes every page back, from whoever holds it."""
        pages = self.cache.shape[2]
        self.owners = [0] * pages
        self.free = list(range(pages - 1, 0, -1))

    def take(self, count: int) -> list[int]:
        """So many free pages, with one owner each. The caller has seen that they are free."""
        taken = [self.free.pop() for _ in range(count)]
        for page in taken:
            self.owners[page] = 1
        return taken

    def share(self, pages: Sequence[int]) -> None:
        """One more owner for each page, which nobody writes to from now on."""
        for page in pages:
            self.owners[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """One owner less for each page; those without any are free."""
        for page in pages:
            self.owners[page] -= 1
            if not self.owners[page]:
                self.free.append(page)
