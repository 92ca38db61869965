"""Records as files, in words and in figures; all figures by hand."""

import json

import pytest
from records import record, row

from convgrad.bench import report, results
from convgrad.bench.results import FORMAT
from convgrad.bench.summary import ratios, summary
from convgrad.errors import DataError


def test_a_record_comes_back_from_its_file(tmp_path):
    path = tmp_path / "r.json"
    results.write(record(), path)
    assert results.read(path) == record()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    assert set(content) == {
        "format", "suite", "subject", "date", "machine", "versions", "settings", "limits",
        "left_out", "rows", "errors",
    }  # fmt: skip
    assert set(content["rows"][0]) == {
        "layer", "network", "layer_class", "direction", "dtype", "x", "w", "y", "flops", "bytes",
        "algorithm", "scratch", "seconds", "first", "error", "limit", "bound", "wrong", "alarm",
        "beside",
    }  # fmt: skip
    assert set(content["rows"][0]["beside"][0]) == {
        "library", "variant", "seconds", "ratio", "low", "high", "pairs", "first", "error",
        "left_out",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "no result of convgrad bench"),
        (json.dumps({"format": FORMAT}), "damaged"),
        (json.dumps({"format": FORMAT, "rows": [{"x": [1]}], "errors": []}), "damaged"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        results.read(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        results.read(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot write"):
        results.write(record(), tmp_path / "none" / "r.json")


def test_figures_of_a_row():
    made = row("a", "3×3", "forward", 2.0)
    assert made.rate == 1e6
    assert made.fraction == 0.5
    assert made.fastest("PyTorch").variant == "channels_last"
    assert made.fastest("JAX") is None


def test_summaries_by_hand():
    found = summary(ratios(record(), "PyTorch"))  # 2, 0.5, 8 and 1
    assert found.cases == 4
    assert found.mean == pytest.approx(8**0.25)
    assert found.worst.row.direction == "weight_grad"
    assert found.below == 0.25
    assert found.certain == 0.25
    assert found.fraction == 0.5


def test_tables_have_the_figures():
    by_direction, by_class, worst, errors = report.tables(record())
    assert by_direction.rows[0] == (
        "float32", "forward", "3", "2.52", "1.00", "0%", "0%", "50%",
    )  # fmt: skip
    assert list(by_class.rows) == [
        ("3×3", "4.00 / 2.00", "0.50 / 0.50"),
        ("1×1", "1.00 / 1.00", "–"),
    ]
    assert worst.rows[0][:5] == ("a", "float32", "weight_grad", "implicit_gemm", "0.50 (0.45–0.55)")
    assert errors.rows[0] == (
        "forward", "auto", "standard", "2", "1.0e-08", "2.0e-07", "9.0e-08", "4.0e-07",
        "3.00", "2.00",
    )  # fmt: skip


def test_the_page_has_every_table():
    page = report.markdown(record())
    assert page.startswith("networks, 2026-01-02T03:04:05+00:00: P, avx2 (x), 2 of 2 threads, S")
    assert page.count("\n| ---") == 4
    assert "| 3×3 | 4.00 / 2.00 | 0.50 / 0.50 |" in page
    assert "200 GFLOP/s float32; 30 GB/s copied" in page


def test_lines_of_cases():
    line = report.line(row("a", "3×3", "forward", 2.0))
    assert "1.000 ms" in line
    assert "50% of flops" in line
    assert "PyTorch 2.00 (1.80–2.20)" in line
    assert report.line(record().rows[-1]).endswith("wrong before timing")
    assert "first call 20 ms" in report.line(row("a", "3×3", "forward", 2.0, first=0.02))
    assert "too fast" in report.line(row("a", "3×3", "forward", 2.0, alarm="too fast"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.874, "0.87"), (1.0, "1.00"), (13.21, "13.2"), (131.6, "132")]
)
def test_numbers(value, text):
    assert report.number(value) == text
