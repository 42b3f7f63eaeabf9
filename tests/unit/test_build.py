"""A graph is run by ninja: once, resumably, alone in its folder. The actions here are the shell's: no compiler."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Set
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from build_torchvision.errors import BadInput, ProcessFailed
from build_torchvision.execute import runner, scripts
from build_torchvision.execute.ninja_file import ninja_file
from build_torchvision.execute.runner import JOB_MEMORY, default_jobs, exclusive, run_graph
from build_torchvision.execute.transform_ir import multiply, retarget
from build_torchvision.graph.actions import Action, ActionKind, Graph, shell

QUIET = Console(file=io.StringIO())


def action(output: str, script: str, *inputs: str, unit: str | None = None) -> Action:
    command = ("sh", "-c", script)
    return Action(
        output=output, kind=ActionKind.COMPILE, command=command, inputs=inputs, label=output, unit=unit, depfile=False
    )


def graph(*actions: Action, files: dict[str, str] | None = None) -> Callable[[Set[str]], Graph]:
    made = Graph(actions=actions, files=files or {}, extensions={"avx2": {"_C": actions[-1].output}})
    return lambda split: made


def test_a_graph_is_run_once_and_then_stands(tmp_path: Path) -> None:
    plan = graph(action("a/one", "cat in > a/one", "in"), action("two", "cat a/one > two", "a/one"), files={"in": "x"})
    first = run_graph(plan, tmp_path, jobs=2, console=QUIET)
    assert first.ran == 2
    assert first.extensions("avx2") == {"_C": tmp_path / "two"}
    assert (tmp_path / "two").read_text() == "x"
    assert run_graph(plan, tmp_path, jobs=2, console=QUIET).ran == 0


def test_a_changed_command_runs_again_and_what_follows_from_it(tmp_path: Path) -> None:
    run_graph(
        graph(action("one", "echo 1 > one"), action("two", "cat one > two", "one")), tmp_path, jobs=1, console=QUIET
    )
    changed = graph(action("one", "echo 3 > one"), action("two", "cat one > two", "one"))
    assert run_graph(changed, tmp_path, jobs=1, console=QUIET).ran == 2
    assert (tmp_path / "two").read_text() == "3\n"


def test_each_action_leaves_its_log(tmp_path: Path) -> None:
    run_graph(graph(action("one", "echo warned >&2; touch one")), tmp_path, jobs=1, console=QUIET)
    assert (tmp_path / "one.log").read_text() == "warned\n"


def test_a_failed_action_shows_its_own_lines_and_a_command_that_fails_the_same_way(tmp_path: Path) -> None:
    plan = graph(
        action("fine", "touch fine"), action("bad one", "echo 'x.cpp:3: error: it is \"$broken\"' >&2; exit 3")
    )
    with pytest.raises(ProcessFailed) as caught:
        run_graph(plan, tmp_path / "a folder", jobs=1, console=QUIET)
    assert 'x.cpp:3: error: it is "$broken"' in caught.value.problem
    command = caught.value.hint.removeprefix("Repeat it: ")
    again = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert again.returncode == 3
    assert again.stderr.strip() in caught.value.problem


def test_a_unit_that_fails_as_one_is_split_and_stays_split(tmp_path: Path) -> None:
    calls: list[Set[str]] = []

    def plan(split: Set[str]) -> Graph:
        calls.append(split)
        whole = action("whole", "echo redefined; exit 1", unit="_C/dispatch")
        parts = (action("part1", "touch part1"), action("part2", "touch part2"))
        return graph(*(parts if "_C/dispatch" in split else (whole,)))(split)

    screen = io.StringIO()
    assert run_graph(plan, tmp_path, jobs=1, console=Console(file=screen, width=200)).ran == 3  # the failure counts
    assert "_C/dispatch does not compile as one unit: its files" in screen.getvalue()
    assert run_graph(plan, tmp_path, jobs=1, console=QUIET).ran == 0
    assert calls == [frozenset(), {"_C/dispatch"}, {"_C/dispatch"}]


def test_a_unit_that_fails_split_too_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="stopped"):
        run_graph(graph(action("o", "exit 1", unit="_C/dispatch")), tmp_path, jobs=1, console=QUIET)
    assert json.loads((tmp_path / runner.SPLIT_FILE).read_text()) == ["_C/dispatch"]


def targets(*actions: Action, **built: str) -> Callable[[Set[str]], Graph]:
    """The plan of a graph whose targets each have one module, made by the action of that output."""
    made = Graph(actions=actions, files={}, extensions={name: {"_C": output} for name, output in built.items()})
    return lambda split: made


def test_a_target_that_cannot_be_built_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    plan = targets(
        action("shared.o", "touch shared.o"),
        action("sm75.o", "echo 'ptxas: no sm_75 here'; exit 1"),
        action("sm90.o", "touch sm90.o"),
        action("sm75.so", "touch sm75.so", "shared.o", "sm75.o"),
        action("sm90.so", "touch sm90.so", "shared.o", "sm90.o"),
        sm75="sm75.so",
        sm90="sm90.so",
    )
    outcome = run_graph(plan, tmp_path, jobs=1, console=QUIET)
    assert outcome.extensions("sm90") == {"_C": tmp_path / "sm90.so"}
    assert (tmp_path / "sm90.so").is_file()
    assert outcome.failed.keys() == {"sm75"}
    with pytest.raises(ProcessFailed, match=r"(?s)needed by sm75.*ptxas: no sm_75 here"):
        outcome.extensions("sm75")


def test_where_no_target_can_be_built_the_first_failure_is_the_error(tmp_path: Path) -> None:
    shared = action("shared.o", "echo no headers; exit 2")
    one, two = action("one.so", "touch one.so", "shared.o"), action("two.so", "touch two.so", "shared.o")
    with pytest.raises(ProcessFailed, match=r"(?s)compiling shared.o.*no headers"):
        run_graph(targets(shared, one, two, one="one.so", two="two.so"), tmp_path, jobs=1, console=QUIET)


def test_a_compiler_may_print_what_is_no_text(tmp_path: Path) -> None:
    plan = graph(action("o", "printf 'x\\377y: error'; exit 1"))
    with pytest.raises(ProcessFailed, match="x\ufffdy: error"):
        run_graph(plan, tmp_path, jobs=1, console=QUIET)


@pytest.mark.parametrize("line", ["FAILED: [code=1] nobody/knows.o", "FAILED: o another.o"])
def test_a_failure_of_something_unknown_shows_what_ninja_printed(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "ninja"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{line}'\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(runner.ninja, "BIN_DIR", str(program.parent))
    with pytest.raises(ProcessFailed, match=r"exit code 1") as caught:
        run_graph(graph(action("o", "true")), tmp_path / "build", jobs=1, console=QUIET)
    assert line in caught.value.problem


def test_a_graph_that_ninja_refuses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="missing and no known rule to make it"):
        run_graph(graph(action("o", "true", "absent")), tmp_path, jobs=1, console=QUIET)


@pytest.mark.parametrize("jobs", [0, -2])
def test_a_build_needs_a_job(jobs: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least one job"):
        run_graph(graph(action("o", "true")), tmp_path, jobs=jobs, console=QUIET)


@pytest.mark.parametrize(("cores", "gib", "jobs"), [(8, 64.0, 8), (8, 4.0, 2), (1, 64.0, 1), (4, 0.5, 1)])
def test_jobs_follow_cores_and_memory(cores: int, gib: float, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": gib * 2**30})
    monkeypatch.setattr(runner.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert default_jobs() == jobs
    assert jobs == 1 or jobs * JOB_MEMORY <= gib * 2**30


def test_two_builds_in_one_folder_take_turns(tmp_path: Path) -> None:
    inside, screens = [], [io.StringIO(), io.StringIO()]
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with exclusive(tmp_path, Console(file=screens[0])):
            entered.set()
            leave.wait(10)
            inside.append("first")

    def second() -> None:
        with exclusive(tmp_path, Console(file=screens[1], width=300)):
            inside.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    entered.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert inside == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert inside == ["first", "second"]
    assert [screen.getvalue() for screen in screens] == ["", f"waiting for another build in {tmp_path}\n"]


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=12), min_size=1, max_size=5))
def test_a_command_survives_the_shell(words: list[str]) -> None:
    assert shlex.split(shell(["echo", *words])) == ["echo", *words]


@pytest.mark.parametrize("word", ["$HOME", "a b", "a:b", "$$", "50%"])
def test_ninja_hands_on_any_word_as_it_is(word: str, tmp_path: Path) -> None:
    made = graph(
        Action(
            output=f"out {word}",
            kind=ActionKind.COMPILE,
            command=("printf", "%s", word),
            inputs=(),
            label=word,
            depfile=False,
        )
    )
    run_graph(made, tmp_path, jobs=1, console=QUIET)
    assert (tmp_path / f"out {word}.log").read_text() == word


def test_headers_are_tracked_where_the_compiler_lists_them() -> None:
    with_headers = Action(output="o", kind=ActionKind.COMPILE, command=("cc",), inputs=("i",), label="l")
    text = ninja_file(Graph(actions=(with_headers,), files={}, extensions={}))
    assert "build o: run_with_headers i\n" in text


IR = 'define void @f() #0 {}\nattributes #0 = { nounwind "target-cpu"="x86-64" "target-features"="+sse2" "x"="y" }\n'


def test_intermediate_code_forgets_its_target() -> None:
    assert retarget(IR) == 'define void @f() #0 {}\nattributes #0 = { nounwind "x"="y" }\n'


def place(a: int, b: int) -> tuple[int, int]:
    """What the rewritten IR computes for a / b and a % b, in the same arithmetic: IEEE doubles, truncation, 32 bits."""
    quotient = int(float(a) * ((1 + 2**-50) / float(b)))
    return quotient, a - quotient * b


EDGES = (0, 1, 2, 3, 7, 49, 2**16, 2**31 - 1, 2**31 - 2, -1, -2, -7, -(2**31), -(2**31) + 1)
int32 = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1))


@given(a=int32, b=int32.filter(bool), near=st.integers(-1, 1))
def test_an_integer_times_a_reciprocal_is_the_quotient(a: int, b: int, near: int) -> None:
    multiple = a // b * b + near
    for dividend in (a, multiple if abs(multiple) < 2**31 else a):
        expected = abs(dividend) // abs(b) * (1 if (dividend < 0) == (b < 0) else -1)
        assert place(dividend, b) == (expected, dividend - expected * b)


OPERATOR = """\
define i32 @_ZN6vision3ops5placeEv(i32 %0, i32 %1, ptr %2, ptr %3) {
  %5 = srem i32 %0, %1
  %6 = load float, ptr %2, align 4
  %7 = load float, ptr %3, align 4
  %8 = fdiv nsz float %6, %7
  br label %9

9:                                                ; preds = %4
  %10 = load float, ptr %3, align 4
  %11 = fdiv nsz float %6, %10
  %12 = load float, ptr %3, align 4
  %13 = fdiv float %8, %12
  %14 = sdiv i32 %5, 2
  ret i32 %14
}
"""


def test_what_an_operator_divides_by_again_and_again_is_multiplied_by() -> None:
    changed = multiply(OPERATOR)
    assert "srem" not in changed
    assert "%8 = fdiv nsz float %6, %7" in changed  # it stands alone in its block
    assert "%d11.reciprocal = fdiv nsz float 1.0, %10\n  %11 = fmul nsz float %6, %d11.reciprocal" in changed
    assert "%13 = fmul float %8, %d13.reciprocal" in changed
    assert "sdiv i32 %5, 2" in changed  # the compiler knows how to divide by a constant
    others = OPERATOR.replace("6vision3ops", "2at")
    assert multiply(others) == others


@pytest.mark.parametrize("text", ["", "attributes #0 = { nounwind }\n", '@t = constant c"target-cpu"\n'])
def test_intermediate_code_of_another_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="another format"):
        retarget(text)


@pytest.mark.parametrize("command", [scripts.TRANSFORM_IR, scripts.PATCH_FATBIN, scripts.PATCH_FATBIN_OBJECT])
def test_the_scripts_of_a_graph_start(command: tuple[str, ...]) -> None:
    done = subprocess.run([*command, "absent", "absent", "absent"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FileNotFoundError" in done.stderr
