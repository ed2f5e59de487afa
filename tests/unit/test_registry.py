"""Plugins load one at a time, and variants have one spelling."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.contract import registry as registry_module
from vbench.contract.registry import Registry, with_options
from vbench.errors import UsageError

BUILT_IN = set(Registry.load().backends)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text("from vbench.contract.hookspecs import hookimpl\n" + text)
    return path


def problem(registry: Registry) -> str:
    """The one problem that there is."""
    (error,) = registry.problems
    return str(error)


BACKEND = """
from vbench.plugins.tcg import BACKEND
import dataclasses
@hookimpl
def vbench_backends():
    return [dataclasses.replace(BACKEND, name={name!r})]
"""


# ------------------------------------------------------------------ what there is


def test_built_in_plugins_come_by_entry_point(registry: Registry) -> None:
    assert set(registry.backends) >= {"tcg", "tcg-virtio"}
    assert registry.problems == []
    names = {path.name for path in registry.workload_files()}
    assert {"bench_cpu.py", "bench_disk.py", "bench_syscall.py"} <= names


def test_a_file_adds_a_backend_and_workloads(tmp_path: Path) -> None:
    more = f"""
from pathlib import Path
@hookimpl
def vbench_workloads():
    return [Path({str(tmp_path)!r}) / "bench_x.py"]
"""
    (tmp_path / "bench_x.py").touch()
    made = Registry.load([plugin(tmp_path, BACKEND.format(name="mine") + more)])
    assert made.problems == []
    assert made.variant("mine,vcpus=2").text == "mine,vcpus=2"
    assert tmp_path / "bench_x.py" in made.workload_files()


def test_a_file_shadows_no_module(tmp_path: Path) -> None:
    import json  # noqa: PLC0415

    Registry.load([plugin(tmp_path, "", "json.py")])
    import json as again  # noqa: PLC0415

    assert again is json


# ------------------------------------------------------------------ what is broken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'"),
        ("def broken(:\n", "SyntaxError"),
        ("raise RuntimeError('on import')\n", "RuntimeError: on import"),
        ("raise SystemExit(3)\n", "cannot be loaded: SystemExit: 3"),
        ("import os\nos._exit(3)\n", "cannot be loaded: SystemExit: os._exit(3)"),
        ("@hookimpl\ndef vbench_backends():\n    raise SystemExit(3)\n", "raised SystemExit: 3"),
        (
            "@hookimpl\ndef vbench_backend():\n    return []\n",
            "unknown hook vbench_backend\n  -> did you mean vbench_backends?",
        ),
        (
            "def vbench_wrkloads():\n    return []\n",
            "unknown hook vbench_wrkloads\n  -> did you mean vbench_workloads?",
        ),
        ("@hookimpl\ndef vbench_counters(guest, host):\n    return {}\n", "host"),
        ("def vbench_backends():\n    return []\n", "vbench_backends without @hookimpl"),
        ("@hookimpl\ndef vbench_backends():\n    1 / 0\n", "ZeroDivisionError"),
        ("@hookimpl\ndef vbench_backends():\n    yield 1 / 0\n", "ZeroDivisionError"),
        ("@hookimpl\ndef vbench_backends():\n    return 5\n", "vbench_backends"),
        ("@hookimpl\ndef vbench_backends():\n    return [object()]\n", "vbench_backends"),
        ("@hookimpl\ndef vbench_workloads():\n    yield 1 / 0\n", "ZeroDivisionError"),
        ("@hookimpl\ndef vbench_workloads():\n    return 5\n", "vbench_workloads"),
        (
            "@hookimpl\ndef vbench_workloads():\n    return ['/absent/bench_x.py']\n",
            "there is no workload file /absent/bench_x.py",
        ),
    ],
)
def test_a_broken_plugin_is_reported_and_the_rest_works(
    tmp_path: Path, text: str, said: str
) -> None:
    broken = plugin(tmp_path, text)
    good = plugin(tmp_path, BACKEND.format(name="good"), "good.py")
    made = Registry.load([broken, good])
    files = made.workload_files()
    assert said in problem(made)
    assert "mine" in problem(made)
    assert set(made.backends) == BUILT_IN | {"good"}
    assert files


def test_none_means_nothing(tmp_path: Path) -> None:
    text = "".join(
        f"@hookimpl\ndef vbench_{what}():\n    pass\n" for what in ("backends", "workloads")
    )
    made = Registry.load([plugin(tmp_path, text)])
    assert made.workload_files()
    assert made.problems == []


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    made = Registry.load([tmp_path / "absent.py"])
    assert f"there is no plugin file {tmp_path / 'absent.py'}" in problem(made)
    assert set(made.backends) == BUILT_IN


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("x")
    made = Registry.load([tmp_path / "data.txt"])
    assert "data.txt" in problem(made)


def test_the_same_file_twice_is_one_plugin(tmp_path: Path) -> None:
    file = plugin(tmp_path, BACKEND.format(name="mine"))
    made = Registry.load([file, file])
    assert set(made.backends) == BUILT_IN | {"mine"}
    assert "mine.py" in problem(made)


def test_a_duplicate_backend_names_both(tmp_path: Path) -> None:
    file = plugin(tmp_path, BACKEND.format(name="tcg"))
    made = Registry.load([file])
    assert str(file) in problem(made)
    assert "calls its backend 'tcg', but the plugin tcg has a backend" in problem(made)
    assert made.backends["tcg"] is Registry.load().backends["tcg"]  # the file's is another object


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("name='a b,c'", "needs another name"),
        ("technique='full'", "the technique 'full', which is no Technique"),
        ("facts={'usage': 'text'}", "has facts that are no Fact"),
        ("counted=('tcg',)", "no CountedRun"),
        ("options=None", "options that are no dataclass instance"),
        ("options=Lists()", "has the option disks, which is no bool, int, float or str"),
        ("declare=lambda self, options: {}", "declares {}, which is no Declaration"),
    ],
)
def test_a_backend_that_is_none_is_named_where_it_registers(
    tmp_path: Path, change: str, wrong: str
) -> None:
    """It was an internal error where it was used, to be reported as a fault of vbench."""
    name, value = change.split("=", 1)
    text = f"""
import dataclasses
from vbench.plugins.tcg import BACKEND
@dataclasses.dataclass(frozen=True)
class Lists:
    disks: list = None
class Mine(type(BACKEND)):
    pass
fields = {{each.name: getattr(BACKEND, each.name) for each in dataclasses.fields(BACKEND)}}
mine = Mine(**{{**fields, "name": "mine"}})
value = {value}
if {name!r} in fields:
    object.__setattr__(mine, {name!r}, value)
else:
    Mine.declare = value
@hookimpl
def vbench_backends():
    return [mine]
"""
    made = Registry.load([plugin(tmp_path, text)])
    assert wrong in problem(made)
    assert set(made.backends) == BUILT_IN


def test_a_probe_that_gives_no_availability_is_the_plugins_fault() -> None:
    tcg = Registry.load().backends["tcg"]
    said = SimpleNamespace(name="mine", probe=lambda host, options: True)
    able = registry_module.probed(said, None, tcg.options)  # type: ignore[arg-type]
    assert able.reason == "the backend mine returned bool from probe, and not Availability"
    assert able.remedy == "mend the backend mine"


def test_an_entry_point_of_a_taken_name_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions may both call their entry point `tcg`."""
    real = registry_module.entry_points

    def both(group: str) -> list[object]:
        theirs = SimpleNamespace(name="tcg", value="z.other", load=SimpleNamespace)
        return [*real(group=group), theirs]

    monkeypatch.setattr(registry_module, "entry_points", both)
    made = Registry.load()
    assert set(made.backends) == BUILT_IN
    assert "z.other" in problem(made)


# ------------------------------------------------------------------ calling hooks


def test_a_hook_that_raises_loses_no_other_result(tmp_path: Path) -> None:
    one = plugin(tmp_path, "@hookimpl\ndef vbench_counters(guest):\n    return {'a': 1}\n", "a.py")
    two = plugin(tmp_path, "@hookimpl\ndef vbench_counters(guest):\n    1 / 0\n", "b.py")
    three = plugin(tmp_path, "@hookimpl\ndef vbench_counters():\n    return {'c': 3}\n", "c.py")
    made = Registry.load([three, two, one])
    guest = SimpleNamespace(machine=SimpleNamespace(query=lambda *_: None))
    results = [each for each in made.call("vbench_counters", guest=guest) if each[1]]
    assert results == [(str(one), {"a": 1}), (str(three), {"c": 3})]
    assert "vbench_counters raised ZeroDivisionError" in problem(made)
    made.call("vbench_counters", guest=guest)
    assert len(made.problems) == 1  # said once, not once a round


def test_interrupts_pass_through(tmp_path: Path) -> None:
    text = "@hookimpl\ndef vbench_counters(guest):\n    raise KeyboardInterrupt\n"
    made = Registry.load([plugin(tmp_path, text)])
    with pytest.raises(KeyboardInterrupt):
        made.call("vbench_counters", guest=None)


# ------------------------------------------------------------------ variants


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcg", "tcg"),
        ("tcg,vcpus=1", "tcg"),
        ("tcg,vcpus=2", "tcg,vcpus=2"),
        ("tcg,vcpus=02", "tcg,vcpus=2"),
        ("tcg,cache=unsafe,vcpus=2", "tcg,vcpus=2,cache=unsafe"),
        ("tcg-virtio,memory=1024,cpu=qemu64", "tcg-virtio,memory=1024,cpu=qemu64"),
    ],
)
def test_canonical_text(registry: Registry, text: str, canonical: str) -> None:
    made = registry.variant(text)
    assert made.text == canonical
    assert registry.variant(made.text) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tgc", "did you mean 'tcg'?"),
        ("kvm9", "there are: "),
        ("", "there is no backend ''"),
        ("tcg,", "is not a new option=value"),
        ("tcg,vcpus", "is not a new option=value"),
        ("tcg,vcpus=1,vcpus=2", "is not a new option=value"),
        ("tcg,vcpu=2", "did you mean 'vcpus'?"),
        ("tcg,vcpus=two", "option vcpus takes a whole number, not 'two'"),
        ("tcg,vcpus=0", "vcpus is 1 to 255"),
        ("tcg,vcpus=-1", "vcpus is 1 to 255"),
        ("tcg,memory=1", "memory is 256 to"),
        ("tcg,kernel=", "option kernel of 'tcg' has no value"),
        ("libvirt,xml=", "write xml=VALUE, or leave it out"),
        ("tcg,cache=fast", "cache is one of none, writeback, unsafe"),
        ("tcg,aio=posix", "aio is one of"),
        ("tcg,aio=native,cache=unsafe", "aio=native needs cache=none"),
    ],
)
def test_wrong_variants(registry: Registry, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.variant(text)
    assert said in str(caught.value)
    assert caught.value.remedy


@dataclasses.dataclass(frozen=True)
class Options:
    paging: bool = True
    share: float = 0.5


def test_other_kinds_of_options(registry: Registry) -> None:
    made = Registry()
    made.backends["x"] = SimpleNamespace(name="x", options=Options())  # type: ignore[assignment]
    assert made.variant("x,paging=off,share=0.25").options == Options(False, 0.25)
    assert made.variant("x,share=0.25,paging=off").text == "x,paging=off,share=0.25"
    assert made.variant("x,paging=on").text == "x"
    with pytest.raises(UsageError, match="paging is on or off, not 'false'"):
        made.variant("x,paging=false")


@given(
    vcpus=st.integers(1, 255),
    memory=st.integers(256, 1 << 20),
    cpu=st.sampled_from(["max", "qemu64"]),
    cache=st.sampled_from(["none", "writeback", "unsafe"]),
    aio=st.sampled_from(["threads", "io_uring"]),
    seed=st.randoms(),
)
def test_order_and_defaults_do_not_matter(
    registry: Registry, vcpus: int, memory: int, cpu: str, cache: str, aio: str, seed: object
) -> None:
    words = [f"vcpus={vcpus}", f"memory={memory}", f"cpu={cpu}", f"cache={cache}", f"aio={aio}"]
    one = registry.variant(",".join(["tcg", *words]))
    seed.shuffle(words)  # type: ignore[attr-defined]
    assert registry.variant(",".join(["tcg", *words])) == one
    assert registry.variant(one.text) == one


@given(st.text())
def test_any_text_is_a_variant_or_a_usage_error(registry: Registry, text: str) -> None:
    for spelled in (text, f"tcg,{text}", f"tcg,cpu={text}"):
        try:
            made = registry.variant(spelled)
        except UsageError:
            continue
        assert registry.variant(made.text) == made


def test_further_options_need_not_be_new(registry: Registry) -> None:
    """`boot-firmware` asks for what a variant may have already."""
    plain, own = registry.variant("tcg,vcpus=2"), registry.variant("tcg,firmware=on")
    assert with_options(own, "firmware=on") == own
    assert with_options(plain, "firmware=on").text == "tcg,vcpus=2,firmware=on"
    assert with_options(own, "firmware=off").text == "tcg"
    assert with_options(registry.variant("tcg,cpu=max"), "cpu=").text == "tcg"
    with pytest.raises(UsageError, match="has no option 'firmwear'"):
        with_options(own, "firmwear=on")
