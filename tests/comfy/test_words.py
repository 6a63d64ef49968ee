"""What a user reads: locales and help pages, against the schemas that ComfyUI itself reports."""

from __future__ import annotations

import json
import re
import struct
from functools import cache
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
DOCS = PACK / "web" / "docs"
LANGUAGES = ("en", "zh")


def locale(language, file):
    return json.loads((PACK / "locales" / language / f"{file}.json").read_text(encoding="utf-8"))


def words_of(info):
    """A node's V1 information as the frontend looks its words up."""
    inputs = {}
    for group in ("required", "optional"):
        for name, (_, options) in info["input"].get(group, {}).items():
            inputs[name] = {"name": options.get("display_name", name), "tooltip": options["tooltip"]}
            if options.get("control_after_generate"):
                # The widget that the frontend adds; the words are its own.
                inputs["control_after_generate"] = {"name": "control after generate"}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": {str(i): {"name": name, "tooltip": tip} for i, (name, tip) in enumerate(outputs)},
    }


def texts(tree, path=""):
    """Every text of a locale by its path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {place: text for key, value in tree.items() for place, text in texts(value, f"{path}/{key}").items()}


@pytest.fixture(scope="module")
def schemas(driver):
    return driver("schemas")


def test_english_is_the_schema_word_for_word(schemas):
    said = {node: words_of(info) for node, info in schemas.items()}
    assert all(texts(said).values()), "a text is empty"
    found = locale("en", "nodeDefs")
    assert sorted(found) == sorted(said)
    for node in said:
        assert found[node] == said[node]


@pytest.mark.parametrize("file", ["nodeDefs", "main"])
def test_chinese_is_complete(file):
    english, chinese = texts(locale("en", file)), texts(locale("zh", file))
    assert sorted(chinese) == sorted(english)
    assert all(chinese.values())
    assert not [p for p, text in chinese.items() if text == english[p] and len(text.split()) > 3]


def test_categories_are_named(schemas):
    parts = {part for info in schemas.values() for part in info["category"].split("/")}
    for language in LANGUAGES:
        assert set(locale(language, "main")["nodeCategories"]) == parts


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_syntax_of_the_frontends_translator(language):
    found = texts({file: locale(language, file) for file in ("nodeDefs", "main")})
    assert not {path: text for path, text in found.items() if re.search(r"[{}@|]", text)}


def help_page(node, language):
    return DOCS / (f"{node}.md" if language == "en" else f"{node}/{language}.md")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_its_help_page_with_a_picture(schemas, language):
    used = set()
    for node in schemas:
        text = help_page(node, language).read_text(encoding="utf-8")
        words = locale(language, "nodeDefs")[node]
        assert text.startswith(f"# {words['display_name']}\n"), node
        # The frontend looks relative paths up in docs/ itself, for pages in a folder too.
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
        assert pictures, node
        for picture in pictures:
            width, height, size = webp(DOCS / picture)
            assert width >= 600 and height >= 200 and size < 60_000, picture
            used.add(Path(picture).name)
        check_tables(words, text)
    assert used == {path.name for path in (DOCS / "img").iterdir()}


def test_there_are_no_pages_of_nodes_that_are_gone(schemas):
    assert {path.stem for path in DOCS.glob("*.md")} == set(schemas)
    assert {path.parent.name for path in DOCS.glob("*/*.md")} == set(schemas)


def check_tables(words, text):
    """The rows of the tables name inputs and outputs as the node shows them."""
    have = [{slot["name"] for slot in words[kind].values()} for kind in ("inputs", "outputs")]
    shared = {"guidance", "…", "引导等"}
    for section in re.split(r"^## .*\n", text, flags=re.M)[1:]:
        rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| ")][1:]
        named = {name.strip() for row in rows for name in re.split("[,、]", row)} - shared
        assert named and any(named <= names for names in have), (words["display_name"], named)


@cache
def webp(path):
    """Width, height and bytes of a WebP file."""
    data = path.read_bytes()
    assert data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 ", path
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF, len(data)
