"""JSON lines survive a kill in the middle of a line, and notice a changed digit."""

from __future__ import annotations

from ofav2_plugins.utils.json_lines import append_line, read_lines


def test_a_cut_or_changed_line_is_dropped_and_the_others_stay(tmp_path):
    path = tmp_path / "samples.jsonl"
    assert read_lines(path) == []
    for i in range(4):
        append_line(path, {"i": i, "top1": 61.25})
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace("61.25", "91.25")
    path.write_text("".join(lines[:3]) + lines[3][:20])  # killed while it wrote
    assert [record["i"] for record in read_lines(path)] == [0, 2]
    append_line(path, {"i": 9})
    assert [record["i"] for record in read_lines(path)] == [0, 2, 9]
