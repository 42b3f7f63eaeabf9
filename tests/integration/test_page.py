"""The index's front page in a real browser: with and without JavaScript, at every width, for every recorded machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
from _machines import FOLDER, NAMES, record
from _serve import serve
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from test_install import wheel

from build_torchvision.facts import gpus, toolkits
from build_torchvision.flags import cuda_codegen
from build_torchvision.publish.front import front_page
from build_torchvision.variants import enumerate_variants

pytestmark = pytest.mark.browser
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := which(name))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = [
    "cpu-avx2",
    "cpu-avx512",
    "cpu-avx512vnni",
    "cuda12_8-sm89-avx2",
    "cuda12_8-sm90-avx512bf16",
    "cuda12_4-sm86-avx2",
]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an index with a few wheels of every kind: two verified by a run, one for two Pythons."""
    rows = [wheel(name, "0.21.0" if "cpu" in name else "0.23.0") for name in HERE]
    rows[0] = replace(rows[0], run_checks=22)
    rows[4] = replace(rows[4], run_checks=40, gpu_checks=18)
    measured = {
        "against": "the stock wheel of 0.21.0",
        "machine": "AMD EPYC",
        "geomean": 1.4231,
        "low": 1.4,
        "high": 1.45,
    }
    rows[1] = replace(rows[1], benchmark=measured)
    rows[2] = replace(rows[2], file=rows[2].file.replace(".whl", "-avx512vnni.whl"))
    rows.append(replace(rows[1], variant=rows[1].variant.replace("313", "312"), python="312"))
    rows = [replace(row, codegen_kind=kind.kind if (kind := cuda_codegen(row.parsed)) else None) for row in rows]
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(front_page(rows, signed=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(site) as served:
        yield served.url


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: `apt-get install chromium` (./bootstrap pytest does it on Debian)")
    found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield found
    found.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a desktop. Whatever it asks of others, and whatever it complains of, fails the test."""
    context = browser.new_context(viewport=DESKTOP)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened, said, asked = context.new_page(), [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    yield opened
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", address))] == []
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {address}


def answer(page: Page) -> str:
    return page.locator("#answer h3").inner_text()


def paste(page: Page, text: str) -> None:
    page.locator("#paste").evaluate(
        "(area, text) => { area.value = text; area.dispatchEvent(new Event('input')) }", text
    )


# --- choosing ---------------------------------------------------------------------------------------------------------


def pasted(name: str) -> str:
    """What `nvidia-smi -L; lscpu` says on a recorded machine, from the same files that `detect` is tested with."""
    data = record(name)
    lines = [
        f"GPU {number}: {device['name']} (UUID: GPU-00000000-0000-0000-0000-00000000000{number})"
        for number, device in enumerate(data.get("nvml", {}).get("devices", []))
    ]
    return "\n".join([*lines, f"Architecture: {data['platform']}", data["files"]["/proc/cpuinfo"]])


@pytest.mark.parametrize("name", [name for name in NAMES if "best" in record(name)["expect"]])
def test_the_page_and_detect_give_a_recorded_machine_the_same_answer(name: str, page: Page) -> None:
    if name == "orin-jetpack5":
        pytest.skip("its driver names no GPU: detect reads the device tree, which nobody pastes")
    paste(page, pasted(name))
    assert answer(page) == record(name)["expect"]["best"]


def test_real_output_of_nvidia_smi_and_lscpu_is_read(page: Page) -> None:
    for name, variant in (("h100", "cuda12_8-sm90-avx512bf16"), ("zen4", "cpu-avx512bf16")):
        paste(page, (FOLDER / "pasted" / f"{name}.txt").read_text())
        assert answer(page) == f"torchvision-python313-{variant}"


def test_every_product_name_of_the_facts_is_recognised_whatever_surrounds_it(page: Page) -> None:
    cpu = (FOLDER / "pasted" / "zen4.txt").read_text()
    for gpu in gpus().values():
        for name in gpu.names:
            for text in (f"NVIDIA {name}", f"NVIDIA GeForce {name} Laptop GPU", f"Tesla {name}-SXM2-16GB"):
                paste(page, f"GPU 0: {text} (UUID: GPU-0)\n{cpu}")
                assert page.locator("#gpu").input_value() == gpu.sm, text


def test_an_unknown_gpu_is_named_and_nothing_is_made_up(page: Page) -> None:
    cpu = (FOLDER / "pasted" / "zen4.txt").read_text()
    paste(page, f"GPU 0: NVIDIA Q9000 (UUID: GPU-0)\n{cpu}")
    assert "NVIDIA Q9000 is not in the table of this page" in page.locator("#answer").inner_text()
    assert answer(page) == "torchvision-python313-cpu-avx512bf16"


def test_a_processor_below_every_isa_is_sent_to_the_stock_wheel(page: Page) -> None:
    paste(page, "Architecture: x86_64\nFlags: fpu sse sse2 ssse3 sse4_1 sse4_2 abm avx f16c fma movbe")
    text = page.locator("#answer").inner_text()
    assert "less than the least" in text
    assert "pip install torchvision" in text


def test_markup_in_what_is_pasted_stays_text(page: Page) -> None:
    cpu = (FOLDER / "pasted" / "zen4.txt").read_text()
    paste(page, f"GPU 0: <img src=x onerror=alert(1)> (UUID: GPU-0)\n{cpu}")
    assert page.locator("#answer img").count() == 0
    assert "<img src=x" in page.locator("#answer").inner_text()


def test_picking_shows_the_wheel_and_the_commands_for_this_very_address(page: Page, address: str) -> None:
    page.select_option("#gpu", "sm89")
    page.select_option("#isa", "avx2")
    assert answer(page) == "torchvision-python313-cuda12_8-sm89-avx2"
    lines = page.locator("#answer pre").all_inner_texts()
    version = "0.23.0+cuda12_8.sm89.avx2"
    assert lines == [
        f"pip install 'torchvision=={version}' --extra-index-url {address}simple",
        f"uv pip install 'torchvision=={version}' --index {address}cuda12_8-sm89-avx2/simple",
        f"build-torchvision install --from {address}",
    ]
    facts = page.locator("#answer .facts").inner_text()
    for text in ("native", "0.23.0", "2.8.0", "17 checks hold"):
        assert text in facts


def test_proof_run_and_benchmark_are_told(page: Page) -> None:
    page.select_option("#isa", "avx512")
    facts = page.locator("#answer .facts").inner_text()
    assert "1.42\u00d7 the stock wheel of 0.21.0 (1.40 to 1.45, one thread, AMD EPYC)" in facts
    assert "more in a run" not in facts
    page.select_option("#isa", "avx2")
    assert "17 checks hold, 22 more in a run" in page.locator("#answer .facts").inner_text()


def test_a_wheel_whose_name_pip_does_not_take_gets_no_pip_command(page: Page, address: str) -> None:
    page.select_option("#isa", "avx512vnni")
    assert page.locator("#answer pre").all_inner_texts() == [f"build-torchvision install --from {address}"]


def test_what_is_not_built_gets_the_build_command_and_the_nearest_that_runs(page: Page) -> None:
    page.select_option("#gpu", "sm90")
    page.select_option("#isa", "avx2")
    lines = page.locator("#answer pre").all_inner_texts()
    assert lines[0] == "build-torchvision build torchvision-python313-cuda12_8-sm90-avx2 --torchvision 0.25.0"
    assert "closest that is here and runs there is cpu-avx2" in page.locator("#answer").inner_text()


def test_thor_is_sent_to_the_toolkit_that_has_code_for_it(page: Page) -> None:
    page.select_option("#gpu", "sm110")
    page.select_option("#isa", "armv9")
    assert answer(page) == "torchvision-python313-cuda13_0-sm110-armv9"


def test_the_python_is_part_of_the_choice(page: Page) -> None:
    page.select_option("#isa", "avx512")
    page.select_option("#python", "312")
    assert answer(page) == "torchvision-python312-cpu-avx512"
    page.select_option("#isa", "avx2")
    assert "not for this Python, but for 3.13" in page.locator("#answer").inner_text()
    page.locator("[data-name='cpu-avx2']").click()  # what is here for another Python alone is shown for that one
    assert answer(page) == "torchvision-python313-cpu-avx2"


def test_copying_copies_the_command(page: Page) -> None:
    page.select_option("#isa", "avx512")
    page.locator("#answer button").first.click()
    expect(page.locator("#answer button").first).to_have_text("Copied")  # once the clipboard has it
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#answer pre").first.inner_text()


def test_a_link_opens_the_page_on_its_variant(page: Page, address: str) -> None:
    page.select_option("#isa", "avx512")
    link = page.url
    assert link.endswith("#for=cpu-avx512")
    page.goto("about:blank")
    page.goto(link)
    assert answer(page) == "torchvision-python313-cpu-avx512"
    page.goto(f"{address}#for=nonsense<b>")
    page.reload()
    assert page.locator("#answer").inner_text() == ""


def test_the_grid_is_worked_by_keyboard_alone(page: Page) -> None:
    page.locator(".grid .tile").first.focus()
    assert page.evaluate("document.activeElement.dataset.name") == "cuda12_8-sm80-avx2"
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.name") == "cuda12_8-sm89-avx2"
    page.keyboard.press("Enter")
    assert answer(page) == "torchvision-python313-cuda12_8-sm89-avx2"
    page.locator("[data-name='cpu-avx512']").focus()
    page.keyboard.press("Space")
    assert answer(page) == "torchvision-python313-cpu-avx512"
    assert page.locator("[aria-pressed=true]").get_attribute("data-name") == "cpu-avx512"


def test_the_skip_link_is_the_first_stop_and_leads_to_the_matrix(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.name") == "cuda12_8-sm80-avx2"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_without_javascript_the_matrix_is_a_plain_table(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=DESKTOP)
    page = context.new_page()
    page.goto(address)
    assert not page.locator("#find").is_visible()
    cells = page.locator("table.grid").first.locator("td .sr").all_text_contents()
    said = {text.partition(":")[0]: text for text in cells}
    assert set(said) == {variant.short for variant in enumerate_variants()}
    for variant in enumerate_variants():
        codegen = cuda_codegen(variant)
        kind = {"ptx": "PTX", None: "CPU only"}.get(codegen.kind if codegen else None, codegen.kind if codegen else "")
        state = "built and proved" if variant.short in HERE else "not built"
        assert said[variant.short].startswith(f"{variant.short}: {kind}, {state}")
    assert "verified by a run" in said["cpu-avx2"]
    assert "run on a GPU" not in said["cpu-avx2"]
    assert "verified by a run on a GPU" in said["cuda12_8-sm90-avx512bf16"]
    assert "40 more in a run, 18 of them on a GPU" in page.locator("table.wheels").inner_text()
    assert "verified" not in said["cpu-avx512"]
    assert "no such computer is sold" in said["cuda12_8-sm110-avx2"]
    assert page.locator("table.wheels tbody tr").count() == len(HERE) + 1
    page.locator(".grid a[href='#cpu-avx512']").click()
    assert page.url.endswith("#cpu-avx512")
    assert page.locator("tr:target th a").inner_text() == "cpu-avx512"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("javascript", [True, False], ids=["", "plain"])
def test_axe_finds_nothing(
    scheme: str, viewport: dict[str, int], javascript: bool, browser: Browser, address: str, site: Path, tmp_path: Path
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport=viewport)  # type: ignore[arg-type]
    page = context.new_page()
    if javascript:
        page.goto(f"{address}#for=cuda12_8-sm89-avx2")
        page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
    else:  # axe itself is a script: the page's own is taken out, which leaves what a reader without scripts has
        text = re.sub(r"<script>.*?</script>", "", (site / "index.html").read_text(), flags=re.DOTALL)
        (site / "plain.html").write_text(text, encoding="utf-8")
        page.goto(f"{address}plain.html")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 25
    context.close()


def test_axe_would_find_something(browser: Browser, address: str) -> None:
    """The check can fail: a page without its labels and with grey on grey does."""
    page = browser.new_page()
    page.goto(address)
    page.evaluate("document.querySelectorAll('label').forEach((label) => label.remove())")
    page.evaluate("document.querySelector('.lead').setAttribute('id', 'find')")
    found = Axe().run(page)
    assert {row["id"] for row in found.response["violations"]} >= {"select-name"}
    page.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_sideways(width: int, browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{address}#for=cuda12_8-sm90-avx512bf16")
    page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for cell in page.locator(".grid").first.locator("td .tile").all()[:12]:
        box = cell.bounding_box()
        assert box is not None
        assert box["width"] >= 24  # WCAG 2.2, 2.5.8: targets of at least 24 pixels
        assert box["height"] >= 24
    page.close()


def test_on_paper_every_track_is_open_and_the_finder_is_gone(browser: Browser, address: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 794, "height": 1123})  # A4 at 96 pixels an inch
    page.goto(address)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert page.evaluate("getComputedStyle(document.querySelector('.wheels tr')).display") == "table-row"
    assert not page.locator("#find").is_visible()
    assert page.locator("table.grid:visible").count() == len(toolkits())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(path=tmp_path / "page.pdf")[:4] == b"%PDF"
    page.close()


def test_the_pages_own_policy_stops_a_script_put_in_and_any_request(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    blocked = page.evaluate(
        """async () => {
          const seen = [];
          document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.planted = true";
          document.body.append(script);
          await fetch("index.html").catch(() => null);
          await new Promise((done) => setTimeout(done, 100));
          return [seen.sort(), window.planted ?? false];
        }"""
    )
    assert blocked == [["connect-src", "script-src-elem"], False]
    page.close()
