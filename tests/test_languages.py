"""The Chinese pages say what the English ones say: same structure, code, formulas and figures."""

import ast
import re
from pathlib import Path

import pytest

from convgrad.contracts import TABLE

ROOT = Path(__file__).resolve().parent.parent
CHINESE = ".zh-CN.md"
CJK = re.compile(r"[\u4e00-\u9fff]")


def chinese_of(page: Path) -> Path:
    return page.with_name(page.stem + CHINESE)


ENGLISH = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *(p for p in sorted((ROOT / "docs" / "contracts").glob("*.md")) if CHINESE not in p.name),
]
BOTH = [page for english in ENGLISH for page in (english, chinese_of(english)) if page.exists()]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, code) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    """The page without fenced blocks, indented lines and what stands in backticks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`", text)


def prose(text: str) -> str:
    """What is left without formulas too, and with the texts of links only."""
    text = re.sub(r"\$\$.*?\$\$", "", without_code(text), flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]*\$", "$", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", without_code(text), re.MULTILINE)]


def shell_lines(text: str) -> list[str]:
    """Indented lines outside fences, without their comments."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line.split(" #")[0].strip() for line in re.findall(r"^    (.*)$", text, re.MULTILINE)]


def formulas(text: str) -> list[str]:
    """The displayed formulas without their spaces; words in \\text{} may be translated."""
    found = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    return [re.sub(r"\\text\{[^}]*\}", r"\\text{}", "".join(f.split())) for f in found]


def strings_and_code(code: str) -> tuple[list[str], str]:
    """The strings of a program in order, and the program with all of them emptied."""
    tree = ast.parse(code)
    strings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node.value)
            node.value = ""
    return strings, ast.dump(tree)


def table_rows(text: str) -> list[int]:
    """The number of cells in each line of each table."""
    rows = re.findall(r"^\|.*\|$", without_code(text).replace(r"\|", ""), re.MULTILINE)
    return [row.count("|") - 1 for row in rows]


def list_items(text: str) -> int:
    return len(re.findall(r"^ *(?:[-*]|\d+\.) ", without_code(text), re.MULTILINE))


def decimals(text: str) -> set[str]:
    """Figures with a decimal point outside fenced blocks and displayed formulas."""
    text = re.sub(r"^```.*?^```$|\$\$.*?\$\$", "", text, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\d+\.\d+(?:e[-+]?\d+)?", text))


def targets(page: Path) -> list[str]:
    """Relative links and pictures of a page, without their anchors."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.split("#")[0] for target in found if "://" not in target and target[0] != "#"]


twins = pytest.mark.parametrize("english", ENGLISH, ids=name)


def test_every_contract_has_its_pages():
    pages = {p.name for p in (ROOT / "docs" / "contracts").glob("*.md")}
    assert pages == {name + ending for name in TABLE for ending in (".md", CHINESE)}


@pytest.mark.parametrize("page", BOTH, ids=name)
def test_formulas_survive_a_renderer_that_reads_markdown_first(page):
    """GitHub eats a backslash before punctuation and takes `'_` for emphasis."""
    text = without_code(text_of(page))
    outside = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    within = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    within += re.findall(r"\$([^$\n]+)\$", outside)
    risky = re.compile(r"\\[^a-zA-Z\s]|\\operatorname|[^\sA-Za-z0-9]_")
    assert not [formula for formula in within if risky.search(formula)]
    opened = re.findall(r"([^\n]?)\$[^$\n]+\$", outside)
    assert set(opened) <= {"", " ", "|"}, "a space must stand before the $ that opens a formula"


@twins
def test_the_page_has_a_chinese_twin(english):
    assert CJK.search(text_of(chinese_of(english)))


@twins
def test_same_headings(english):
    assert headings(text_of(chinese_of(english))) == headings(text_of(english))


@twins
def test_same_tables_and_lists(english):
    ours, theirs = text_of(english), text_of(chinese_of(english))
    assert table_rows(theirs) == table_rows(ours)
    assert list_items(theirs) == list_items(ours)


@twins
def test_same_formulas(english):
    assert formulas(text_of(chinese_of(english))) == formulas(text_of(english))


@twins
def test_same_code(english):
    """Strings may differ where the Chinese one has Chinese in it; comments may differ."""
    ours, theirs = fenced(text_of(english)), fenced(text_of(chinese_of(english)))
    assert [language for language, _ in theirs] == [language for language, _ in ours]
    for (language, code), (_, chinese) in zip(ours, theirs):
        if language != "python":
            assert chinese == code
            continue
        (strings, program), (chinese_strings, chinese_program) = map(
            strings_and_code, (code, chinese)
        )
        assert chinese_program == program
        pairs = zip(strings, chinese_strings)
        assert not [(s, c) for s, c in pairs if s != c and not CJK.search(c)]


@twins
def test_same_commands(english):
    assert shell_lines(text_of(chinese_of(english))) == shell_lines(text_of(english))


@twins
def test_same_decimal_numbers(english):
    """A figure that was corrected on one page only would be found here."""
    assert decimals(text_of(chinese_of(english))) == decimals(text_of(english))


@pytest.mark.parametrize("page", BOTH, ids=name)
def test_links_lead_somewhere(page):
    dead = [t for t in targets(page) if not (page.parent / t).exists()]
    assert not dead


@twins
def test_chinese_pages_link_to_chinese_pages(english):
    """Where a page has a twin; the link to its own English twin is the exception."""
    page = chinese_of(english)
    linked = {(page.parent / t).resolve() for t in targets(page)} - {english}
    assert not [name(p) for p in linked if p in ENGLISH]


@twins
def test_the_chinese_is_set_in_full_width_punctuation(english):
    text = prose(text_of(chinese_of(english)))
    assert not re.findall(r".{0,12}[\u4e00-\u9fff][,;:?!](?:[\s\u4e00-\u9fff]|$)", text)
    assert not re.findall(r".{0,12}[\u4e00-\u9fff]\.$", text, re.MULTILINE)


@twins
def test_no_sentence_was_left_in_english(english):
    """A line of prose with some words of English and nothing Chinese."""
    lines = prose(text_of(chinese_of(english))).splitlines()
    left = [line for line in lines if not CJK.search(line) and words_of_sentences(line)]
    assert not left


def words_of_sentences(line: str) -> bool:
    """Whether a line has two of the words that only sentences have."""
    small = re.findall(r"\b(the|an|of|is|are|and|with|that|which|in|to|by|for|not|it)\b", line)
    return len(small) >= 2


def test_these_checks_see_what_they_are_for():
    assert headings("# a\n\n## b\n\n```python\n# no heading\n```\n") == [1, 2]
    assert formulas("$$ a_\\text{of} $$\n$$\nb\n$$") == ["a_\\text{}", "b"]
    assert strings_and_code("a = 1  # x") == strings_and_code("a = 1  # 中文")
    assert strings_and_code("f('x')")[1] == strings_and_code("f('中')")[1]
    assert strings_and_code("f(1)")[1] != strings_and_code("f(2)")[1]
    assert shell_lines("    make run     # 训练\n") == ["make run"]
    assert decimals("3.5 `4.5`\n    5.5\n$$ 6.5 $$") == {"3.5", "4.5", "5.5"}
    assert list_items("- a\n1. b\n  * c\nd - e") == 3
    assert table_rows("| a | b |\n| --- | --- |\n") == [2, 2]
    assert words_of_sentences("This is the end.")
