"""What is written comes back, and what is damaged is refused by name."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_results import TESTBED, item, pairs, result

from vbench.errors import StoreError
from vbench.model import Pair, Result, Statistic, Status
from vbench.results import loading, stats, store
from vbench.results.history import SCHEMA_VERSION
from vbench.results.journal import JOURNAL_NAME


def sample() -> Result:
    odd = Pair(
        None, 2e-6, 1, ("steal",), {"exits": 3.0}, {"p50": (None, 1e-6), "p99": (1e-6, 2e-6)}
    )
    return result(
        item("cpu-prime", [*pairs(1.8, counters={"host_cpu_s": 1e-6}), odd], flags=("slirp",)),
        item("cyclictest", pairs(2.0), statistic=Statistic.QUANTILES, category="interrupt"),
        item("broken", (), status=Status.FAILED, reason="exit status 1"),
        item("rdrand", (), status=Status.UNSUPPORTED, reason="no metric"),
        unavailable=(("kvm-virtio", "hardware-assisted", "/dev/kvm interprets", "use hardware"),),
        reduced_to=("cpu-*",),
        seed=7,
        sittings=("2026-01-02T00:00:00+00:00",),
        planned=12,
        done=9,
        stopped="it was interrupted",
    )


def write(path: Path, whole: Result) -> Path:
    path.write_bytes(store.dumps(store.document(whole)))
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", sample())
    back = loading.load(path)
    for before, after in zip(sample().items, back.items, strict=True):
        assert before == after
    assert back.launches == sample().launches
    assert back.unavailable == sample().unavailable
    assert back == sample()
    assert back.partial
    assert back.facts == sample().facts
    assert back.host == sample().host
    assert (back.image, back.started, back.argv) == (
        sample().image,
        sample().started,
        sample().argv,
    )


def nodes(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The path of each value below, itself included."""
    yield path
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nodes(each, *path, key)


def at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_a_value_of_a_wrong_type_anywhere_is_damage(tmp_path: Path) -> None:
    whole = json.loads(store.dumps(store.document(sample())))
    paths = [("benchmarks",), *nodes(whole["vbench"], "vbench")]
    for i, entry in enumerate(whole["benchmarks"]):
        info = ("benchmarks", i, "extra_info", "vbench")
        read = {*nodes(entry["extra_info"]["vbench"], *info)}
        # what the list of items has as well is read there
        heads = whole["vbench"]["items"][0].keys() - {"workload", "variant"}
        paths += [path for path in read if len(path) == 4 or path[4] not in heads]
    path = tmp_path / "a.json"
    for where in paths:
        wrong: dict[type, Any] = {str: 2, bool: "x", int: "x", float: "x", dict: [], list: {"a": 1}}
        before = at(whole, where)
        at(whole, where[:-1])[where[-1]] = wrong.get(type(before), {"a": True})
        path.write_text(json.dumps(whole))
        with pytest.raises(StoreError) as caught:
            loading.load(path)
        assert str(path) in caught.value.what
        assert caught.value.exit_status == 5
        at(whole, where[:-1])[where[-1]] = before
    assert loading.load(write(path, sample())) == sample()


@pytest.mark.parametrize(
    ("facts", "evidence"),
    [
        ([], "vbench.host.facts is [], not an object"),
        ({"cpus": 2}, "vbench.host.facts.cpus is 2, not text"),
    ],
)
def test_damage_is_named_by_its_key(tmp_path: Path, facts: Any, evidence: str) -> None:
    whole = json.loads(store.dumps(store.document(sample())))
    whole["vbench"]["host"]["facts"] = facts
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(StoreError) as caught:
        loading.load(tmp_path / "a.json")
    assert evidence in caught.value.evidence


@pytest.mark.parametrize(
    "number", ["NaN", "-Infinity", "1e999", "1" + 400 * "0", "0", "-1e-9", "1e-206", "5e194"]
)
def test_a_number_that_nothing_can_have_measured_is_damage(tmp_path: Path, number: str) -> None:
    """Python reads all of these from JSON."""
    text = store.dumps(store.document(sample())).decode()
    whole = json.loads(text)
    whole["benchmarks"][0]["extra_info"]["vbench"]["pairs"][0][1] = "HERE"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(whole).replace('"HERE"', number))
    with pytest.raises(StoreError, match="damaged") as caught:
        loading.load(path)
    assert ".pairs[0][1] is " in caught.value.evidence
    assert "pairs[0][1] is " in caught.value.evidence
    assert "not a duration from 1e-15 to 1e+06 s" in caught.value.evidence


@pytest.mark.parametrize(
    ("key", "value"),
    [("variant", "kvm-virtio"), ("host", "local:x"), ("time_base", "instructions")],
)
def test_an_item_of_something_else_than_its_file_is_damage(
    tmp_path: Path, key: str, value: str
) -> None:
    whole = json.loads(store.dumps(store.document(sample())))
    whole["vbench"]["items"][2][key] = value
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(StoreError, match="damaged") as caught:
        loading.load(tmp_path / "a.json")
    assert "is of another variant or host than its file" in caught.value.evidence


@pytest.mark.parametrize("name", ["a.json", JOURNAL_NAME])
def test_json_of_endless_depth_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 100_000 + "\n")
    with pytest.raises(StoreError, match="recursion") as caught:
        loading.load_all([tmp_path / name])
    assert caught.value.exit_status == 5


def test_extra_info_has_the_documented_keys() -> None:
    one = sample().items[0]
    info = store.extra_info(one, stats.overhead(one.pairs))
    documented = (
        "backend variant technique workload category host_kind time_base work native_work "
        "work_unit pairs overhead counters flags launch status"
    )
    assert set(documented.split(" ")) <= set(info)
    assert info["status"] == "ok"
    assert set(info["overhead"]) == {"ratio", "low", "high", "n", "boots"}
    assert info["pairs"][-1] == [None, 2e-6]
    assert info["counters"]["exits"] == [None] * 15 + [3.0]
    assert info["quantiles"]["p50"][-1] == [None, 1e-6]
    assert info["pair_flags"][-1] == ["steal"]
    assert store.extra_info(one, None)["overhead"] is None


def test_top_level_lists_items_that_have_no_samples() -> None:
    ours = store.top_level(sample())
    assert ours["schema_version"] == SCHEMA_VERSION
    assert [i["status"] for i in ours["items"]] == ["ok", "ok", "failed", "unsupported"]
    assert ours["items"][2]["reason"] == "exit status 1"
    assert len(store.document(sample())["benchmarks"]) == 2


def test_stats_data_are_the_guests(tmp_path: Path) -> None:
    entry = store.document(sample())["benchmarks"][0]
    assert entry["name"] == entry["fullname"] == "cpu-prime[tcg]"
    assert entry["stats"]["data"] == [p.guest_s for p in sample().items[0].pairs]
    assert entry["stats"]["rounds"] == 16


def test_pytest_benchmark_compare_opens_it(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.json", sample()), write(tmp_path / "b.json", sample())]
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cpu-prime[tcg]") == 2


def test_nan_is_never_written(tmp_path: Path) -> None:
    with_nan = item("x", [Pair(math.nan, 1.0, 0, counters={"c": math.inf})])
    info = store.extra_info(with_nan, None)
    assert info["pairs"] == [[None, 1.0]]
    assert info["counters"] == {"c": [None]}
    with pytest.raises(StoreError, match=r"x\[tcg\]: a guest sample is nan"):
        store.extra_info(item("x", [Pair(1.0, math.nan, 0)]), None)
    with pytest.raises(StoreError, match="JSON"):
        store.dumps({"x": math.nan})


def _damage(path: Path, change: Any) -> None:
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("vbench"), "not a vbench result"),
        (lambda w: w["vbench"].update(schema_version=99), "schema version 99.*reads up to"),
        (lambda w: w["vbench"].update(schema_version="x"), 'schema_version is "x", not a whole'),
        (lambda w: w["vbench"].update(schema_version=0), "schema_version is 0, not one from 1"),
        (lambda w: w["vbench"]["items"][0].pop("category"), "damaged(.|\n)*category"),
        (lambda w: w["vbench"]["items"][0].update(technique="magic"), "damaged(.|\n)*magic"),
        (lambda w: w["benchmarks"].pop(), "damaged(.|\n)*no samples"),
        (lambda w: w["benchmarks"].append(w["benchmarks"][0]), "damaged(.|\n)*twice"),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"]["pair_boots"].pop(),
            "damaged(.|\n)*pair_boots has 15 values for 16 pairs",
        ),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"].update(pair_flags=[]),
            "damaged(.|\n)*pair_flags has 0 values for 16 pairs",
        ),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"].update(counters={"x": [1]}),
            r"damaged(.|\n)*counters\.x has 1 value for 16 pairs",
        ),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"]["pair_boots"].__setitem__(0, -7),
            r"damaged(.|\n)*pair_boots\[0\] is -7, not the number of a boot",
        ),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"].update(counters={"x": [1e300]}),
            r"damaged(.|\n)*counters\.x\[0\] is 1e\+300, not a number",
        ),
        (lambda w: w["vbench"]["items"][0].update(work=1e300), r"damaged(.|\n)*work is 1e\+300"),
        (lambda w: w.update(vbench=None), "`vbench` is null, not an object"),
        (lambda w: w["vbench"].pop("schema_version"), "schema_version is missing"),
        (lambda w: w["vbench"].update(schema_version="5"), 'schema_version is "5", not a whole'),
        (
            lambda w: w["benchmarks"][0]["extra_info"]["vbench"]["pairs"].__setitem__(0, [1, None]),
            r"damaged(.|\n)*pairs\[0\]\[1\] is null",
        ),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    path = write(tmp_path / "a.json", sample())
    _damage(path, change)
    with pytest.raises(StoreError) as caught:
        loading.load(path)
    assert caught.match(message)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_cut_file_and_missing_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", sample())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="is not JSON"):
        loading.load(path)
    with pytest.raises(StoreError, match=r"1 file of .* cannot be read") as caught:
        loading.load_all([tmp_path])  # not left out in silence
    assert "a.json is not JSON" in caught.value.evidence
    with pytest.raises(StoreError, match="cannot be read"):
        loading.load(tmp_path / "none.json")


def test_load_all_names_foreign_json_and_leaves_it_out(tmp_path: Path) -> None:
    write(tmp_path / "b.json", sample())
    write(tmp_path / "a.json", result(host=TESTBED))
    (tmp_path / "fio.json").write_text('{"jobname": "vbench"}')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "folder.json").mkdir()
    told: list[str] = []
    found = loading.load_all([tmp_path, tmp_path / "a.json"], told.append)
    assert told == [
        f"{tmp_path / name} is not a result of vbench; left out"
        for name in ("fio.json", "list.json")
    ]
    assert [r.host.kind for r in found] == ["testbed", "local"]


@pytest.mark.parametrize(
    "text", ["", '{"vbench": []}', '{"vbench": {}}', "{", '{"benchm', "no JSON", "\0\xff"]
)
def test_what_cannot_be_read_is_named_and_never_left_out(tmp_path: Path, text: str) -> None:
    """An empty file, or one cut in its first bytes, says nothing of whose it was."""
    write(tmp_path / "a.json", sample())
    for name in ("b.json", "c.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=r"2 files of .* cannot be read") as caught:
        loading.load_all([tmp_path])
    assert "b.json" in caught.value.evidence
    assert "c.json" in caught.value.evidence
    assert caught.value.remedy


def test_load_all_looks_one_level_down(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    write(tmp_path / "job" / "a.json", sample())
    assert len(loading.load_all([tmp_path])) == 1


def test_load_all_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fio.json").write_text("{}")
    with pytest.raises(StoreError, match="no vbench result"):
        loading.load_all([tmp_path])


FINITE = st.floats(1e-9, 1e6)


@given(
    st.lists(
        st.builds(
            Pair,
            st.none() | FINITE,
            FINITE,
            st.integers(0, 9),
            st.tuples(st.sampled_from(["steal", "clock"])) | st.just(()),
            st.dictionaries(st.sampled_from("ab"), FINITE),
            st.dictionaries(st.sampled_from(["p50", "p99"]), st.tuples(st.none() | FINITE, FINITE)),
        ),
        min_size=1,
    )
)
def test_any_pairs_come_back(tmp_path_factory: pytest.TempPathFactory, made: list[Pair]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.json"
    assert loading.load(write(path, result(item("x", made)))).items[0].pairs == tuple(made)
