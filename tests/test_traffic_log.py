"""Does a log say what its publisher says it does, and is everything else refused with a word on the line?

The rows of each format are those that its publisher shows (Mooncake's README, the first rows of Azure's trace) or has
the columns that its README lists (BurstGPT).
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge import traffic_log
from weighbridge.errors import FormatError, SourceError, WeighbridgeError
from weighbridge.predict.traffic import Traffic
from weighbridge.traffic_log import read

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:17:03.9799600,4808,10\r
2023-11-16 18:17:04.0319600,3180,8\r
2023-11-16 18:17:04.0781490,110,27\
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
118,GPT-4,417,276,693,Conversation log
"""
MOONCAKE = """\
{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 2353, 2354]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 48, 2366]}
"""
OPENAI = """\
{"created": 1700000000, "model": "a", "error": {"code": 503}}
{"created": 1700000001, "usage": {"prompt_tokens": 20, "completion_tokens": 3,
 "prompt_tokens_details": {"cached_tokens": 16}}}
{"created": 1700000004, "usage": {"prompt_tokens": 32, "completion_tokens": 5,
 "prompt_tokens_details": {"cached_tokens": 32}}}
""".replace(",\n", ",")
PLAIN = "arrival_s,prompt_tokens,output_tokens\n0.5,10,2\n1.75,20,4\n"


def of(folder: Path, text: str | bytes, name: str = "log.csv") -> Traffic:
    place = folder / name
    place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(place)


@pytest.mark.parametrize(
    ("text", "arrival_s", "prompts", "answers", "unit"),
    [
        (AZURE, [0, 0.052, 0.098189], [4808, 3180, 110], [10, 8, 27], "'TIMESTAMP', taken as dates"),
        (AZURE_2024, [0, 0.007405], [2162, 2399], [5, 6], "'TIMESTAMP', taken as dates"),
        (BURSTGPT, [0, 40, 113], [472, 1087, 417], [18, 230, 276], "'Timestamp', taken as seconds"),
        (MOONCAKE, [0, 3.053], [6955, 6472], [52, 26], "'timestamp', taken as milliseconds"),
        (OPENAI, [0, 3], [20, 32], [3, 5], "'created', taken as seconds"),
        (PLAIN, [0, 1.25], [10, 20], [2, 4], "'arrival_s', taken as seconds"),
        (PLAIN.replace("arrival_s", "timestamp_ms"), [0, 0.00125], [10, 20], [2, 4], "taken as milliseconds"),
        (PLAIN.replace(",", ";"), [0, 1.25], [10, 20], [2, 4], "taken as seconds"),
        (PLAIN.replace(",", "\t"), [0, 1.25], [10, 20], [2, 4], "taken as seconds"),
        ("\ufeff" + PLAIN, [0, 1.25], [10, 20], [2, 4], "taken as seconds"),
        ("\n\n" + PLAIN + "\n\n", [0, 1.25], [10, 20], [2, 4], "taken as seconds"),
        (PLAIN.replace("10,2", "10.0,2.0"), [0, 1.25], [10, 20], [2, 4], "taken as seconds"),
        ("id," + PLAIN.replace("\n0", '\n"a\nb",0').replace("\n1", '\n"c,d",1'), [0, 1.25], [10, 20], [2, 4], "'arri"),
        ('{"time": "2026-11-22T10:00:00Z", "input_tokens": 9, "output_tokens": 1}\n'
         '{"time": "2026-11-22T11:00:01+01:00", "input_tokens": 8, "output_tokens": 2}',
         [0, 1], [9, 8], [1, 2], "'time', taken as dates"),
    ],
)  # fmt: skip
def test_each_format(
    tmp_path: Path, text: str, arrival_s: list[float], prompts: list[int], answers: list[int], unit: str
) -> None:
    found = of(tmp_path, text)
    assert found.arrival_s == pytest.approx(arrival_s, abs=1e-6)
    assert found.prompt_tokens.tolist() == prompts and found.output_tokens.tolist() == answers
    assert found.prompt_tokens.dtype == found.output_tokens.dtype == np.int64
    assert found.notes[0].startswith("log.csv: times are ") and unit in found.notes[0]


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    assert of(tmp_path, BURSTGPT).notes[1] == "rows without a prompt or an answer that are left out: 1"
    assert of(tmp_path, OPENAI).notes[1] == "rows without a prompt or an answer that are left out: 1"
    assert of(tmp_path, PLAIN + "3,,7\n4,0,7\n").notes[1].endswith("left out: 2")
    assert len(of(tmp_path, AZURE).notes) == 1


def test_rows_are_sorted_and_that_is_noted(tmp_path: Path) -> None:
    found = of(tmp_path, "time_s,prompt_tokens,output_tokens,cached_tokens\n9,1,4,0\n3,2,5,1\n7,3,6,2\n3,4,7,3\n")
    assert found.arrival_s.tolist() == [0, 0, 4, 6]
    assert found.prompt_tokens.tolist() == [2, 4, 3, 1] and found.output_tokens.tolist() == [5, 7, 6, 4]
    assert np.asarray(found.shared_tokens).tolist() == [1, 3, 2, 0]
    assert found.notes[1] == "rows earlier than the one above them: 2; all are sorted by time"
    assert found.notes[2] == "requests that come at the same time as another: 1 of 4"


def test_tokens_in_the_cache_leave_one_to_work_on(tmp_path: Path) -> None:
    found = of(tmp_path, OPENAI)
    assert np.asarray(found.shared_tokens).tolist() == [16, 31]
    assert "those in the cache 'cached_tokens'" in found.notes[0]
    assert of(tmp_path, PLAIN).shared_tokens == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"), (b" \n\n", "is empty"), (PLAIN.encode("utf-16"), "is UTF-16"),
        (b"\x1f\x8b\x08\x00", "is compressed"), (b"GGUF\x03\x00\x00\x00", "is binary"),
        (PLAIN.encode() + b"\xe9,1,1\n", "the byte 0xe9"), ("[" + MOONCAKE.strip() + "]", "one JSON array"),
        ("prompt_tokens,output_tokens\n1,2\n", "the columns prompt_tokens, output_tokens; expected columns of times"),
        ("time,ContextTokens\n1,2\n", "the columns time, ContextTokens"),
        ('{"timestamp": 1, "input_length": 5}\n', "the columns timestamp, input_length"),
        (PLAIN + "2,-1,5\n", "line 4 has '-1' tokens"), (PLAIN + "2,1,-5\n", "line 4 has '-5' tokens"),
        (PLAIN + "2,1.5,5\n", "line 4 has '1.5' tokens"), (PLAIN + "2,nan,5\n", "line 4 has 'nan' tokens"),
        (PLAIN + "2,1e30,5\n", "line 4 has '1e30' tokens"), (PLAIN + "2,10000001,5\n", "0 to 10,000,000"),
        (PLAIN + "2,1_000,5\n", "line 4 has '1_000' tokens"), (PLAIN + "2,many,5\n", "line 4 has 'many' tokens"),
        (PLAIN + "2,5\n", "line 4 has 2 columns of 3"), (PLAIN + "nan,5,5\n", "line 4 has the time 'nan'"),
        (PLAIN + "inf,5,5\n", "line 4 has the time 'inf'"), (PLAIN + "noon,5,5\n", "line 4 has the time 'noon'"),
        (PLAIN + "2026-11-22,5,5\n", "line 4 has the time '2026-11-22'"),
        (PLAIN.replace("0.5,", "noon,"), "line 2 has the time 'noon'; expected seconds, or a date"),
        (AZURE + "\n2023-11-16 18:17:04+01:00,1,1\n", "line 5 has the time"),
        (AZURE + "\n7,1,1\n", "line 5 has the time '7'; expected seconds, or a date"),
        (PLAIN.splitlines()[0], "has no request"), (PLAIN + '"' + "x" * 200_000, "is no CSV"),
        (PLAIN.replace("1.75,", "0.5,"), "2 requests, all at the same time"),
        ("timestamp,prompt_tokens,output_tokens\n1700000000123,1,1\n1700000000456,1,1\n", "timestamp_ms if they are"),
        (MOONCAKE + '{"timestamp": 1', "line 3 is no JSON"), (MOONCAKE + "7\n", "line 3 is no object"),
        (MOONCAKE + "[" * 100_000, "line 3 is no JSON"), (MOONCAKE + '{"a": ' + "9" * 5000 + "}", "line 3 is no JSON"),
        (MOONCAKE + '{"timestamp": null, "input_length": 5, "output_length": 5}', "line 3 has the time 'None'"),
        (MOONCAKE + '{"timestamp": 1, "input_length": true, "output_length": 5}', "line 3 has 'True' tokens"),
        (MOONCAKE + '{"timestamp": 1, "input_length": [5], "output_length": 5}', "line 3 has '[5]' tokens"),
        (MOONCAKE + '{"timestamp": 1, "input_length": NaN, "output_length": 5}', "line 3 has 'nan' tokens"),
        (OPENAI.replace('_tokens": 32, "c', '_tokens": 31, "c'), "line 3 has 32 cached of 31 tokens"),
        (b"a," * (5 << 20), "longer than 8,388,608 characters"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(FormatError, match=re.escape(words)) as caught:
        of(tmp_path, text)
    assert len(str(caught.value)) < 800 and str(caught.value).startswith("log.csv ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(SourceError, match="cannot be read"):
            read(place)


def test_the_number_of_requests_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_log, "MOST_REQUESTS", 3)
    assert len(of(tmp_path, AZURE)) == 3
    with pytest.raises(FormatError, match="over 3 requests"):
        of(tmp_path, AZURE + "\n2023-11-16 18:17:05,1,1")


ROW = st.tuples(st.integers(0, 10**6), st.integers(1, 10**7), st.integers(1, 10**7))


@given(st.lists(ROW, min_size=2, max_size=30), st.sampled_from(["s", "ms", "date", "json"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path: Path, rows: list[tuple[int, int, int]], form: str) -> None:
    if form == "json":
        text = "\n".join(json.dumps({"output_length": o, "timestamp": t, "input_length": p}) for t, p, o in rows)
    elif form == "date":
        begin = datetime(2024, 2, 28)
        text = "date,prompt_tokens,completion_tokens\n" + "\n".join(
            f"{begin + timedelta(milliseconds=t)},{p},{o}" for t, p, o in rows
        )
    else:
        text = f"Output Tokens,arrival_{form},Input-Tokens\n" + "\n".join(
            f"{o},{t if form == 'ms' else t / 1000},{p}" for t, p, o in rows
        )
    if len({t for t, _, _ in rows}) == 1:
        with pytest.raises(FormatError, match="all at the same time"):
            of(tmp_path, text)
        return
    found = of(tmp_path, text)
    rows.sort(key=lambda row: row[0])
    assert found.arrival_s == pytest.approx([(t - rows[0][0]) / 1000 for t, _, _ in rows], abs=1e-6)
    assert found.prompt_tokens.tolist() == [p for _, p, _ in rows]
    assert found.output_tokens.tolist() == [o for _, _, o in rows]


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_logs_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([AZURE, BURSTGPT, MOONCAKE, OPENAI, PLAIN])).encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 40)))
    text = whole[:begin] + data.draw(st.binary(max_size=30) | st.text(max_size=30).map(str.encode)) + whole[end:]
    try:
        found = of(tmp_path, text)
    except WeighbridgeError as error:
        assert "log.csv" in str(error)
        return
    assert len(found) >= 2 and found.arrival_s[0] == 0 and (np.diff(found.arrival_s) >= 0).all()
    assert np.isfinite(found.arrival_s).all() and found.rate < float("inf")
    assert found.output_tokens.min() >= 1 and (found.prompt_tokens > np.asarray(found.shared_tokens)).all()


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError):
        of(tmp_path, data)
