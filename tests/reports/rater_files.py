"""Make the files of raters without a browser."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srgan_plugin.reports.mos_study import unseal


def data_of(page: Path) -> dict[str, Any]:
    """Return the data of the page's script."""
    found = re.search(r'id="study">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


def rater_file(
    page: Path,
    rater: str,
    score: Callable[[str, str], int],
    seed: int = 0,
    changes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the file of a rater who gives `score(method, image)`, and one more the second time."""
    data = data_of(page)
    cells = unseal(data["key"])["items"]
    order = [*cells, *data["repeats"]]
    random.Random(seed).shuffle(order)
    ratings, seen = [], set()
    for code in order:
        value = score(*cells[code])
        again = code in seen
        ratings.append({"rating": min(value + again, 5), "seconds": 1.5, "magnification": 1})
        seen.add(code)
    fields = {name: data[name] for name in ("format", "version", "key")} | {"study": data["id"]}
    return {**fields, "rater": rater, "order": order, "ratings": ratings, **(changes or {})}
