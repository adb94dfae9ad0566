"""``python -m tests.golden`` writes ``images.json`` anew: see README.md for when that is right."""

import json

from tests.golden.place import GOLDEN, make_place

if __name__ == "__main__":
    with make_place() as place:
        GOLDEN.write_text(json.dumps(place.images, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
