"""The fuzz command: damaged files through the real decoder, and its own reproducibility."""

import json
import random
import sys

import fuzz


def test_damaged_files_end_in_frames_and_sentences_only(tmp_path, monkeypatch):
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["fuzz", "--seed", "7", "--count", "40", "--json", str(report)])
    assert fuzz.main() == 0
    summary = json.loads(report.read_text())
    assert summary["count"] == sum(summary["outcomes"].values()) == 40
    assert summary["outcomes"]["frame, sane"] > 0


def test_a_case_can_be_made_again(tmp_path):
    _, original = fuzz.synthetic_files(tmp_path)[0]
    cases = [fuzz.damaged(original, random.Random(f"1/{number}")) for number in range(20)]
    again = [fuzz.damaged(original, random.Random(f"1/{number}")) for number in range(20)]
    assert cases == again
    assert len({*cases, original}) > 15


def test_directory_entries_are_found_in_either_byte_order(shared_data):
    order, entries = fuzz.tiff_entries((shared_data / "raw/blackmagic_outdoor.dng").read_bytes())
    assert order == "<"
    assert len(entries) > 30
    order, entries = fuzz.tiff_entries(b"MM\0*\0\0\0\x08\0\1" + bytes(30))
    assert (order, entries) == (">", [10])
