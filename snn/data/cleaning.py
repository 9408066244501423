"""What is done to texts before they are tokenised."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from snn.data.schema import DatasetConfig

# A name right behind the bracket: «a < b, c > d» holds no tag.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)


def cleaned(texts: Iterable[str], config: DatasetConfig) -> list[str]:
    """Texts without what the config takes out of them.

    Example:
        >>> config = DatasetConfig(strip_html=True, strip_spaces=True, lower=True)
        >>> cleaned(["Good.<br /><br />Not bad &amp; 1 < 2 "], config)
        ['good. not bad & 1 < 2']
    """
    found = list(texts)
    if config.strip_html:
        found = [html.unescape(_TAG.sub(" ", text)) for text in found]
    if config.strip_spaces:
        found = [" ".join(text.split()) for text in found]
    if config.lower:
        found = [text.lower() for text in found]
    return found
