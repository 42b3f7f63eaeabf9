"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const base = new URL(".", location.href).href;

  // --- what a machine says -------------------------------------------------------------------------------------------

  const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const names = data.gpus
    .flatMap((gpu) => gpu.names.map((name) => ({ sm: gpu.sm, name })))
    .sort((a, b) => b.name.length - a.name.length)
    .map((row) => ({ ...row, word: new RegExp("(?<![A-Za-z0-9])" + escape(row.name) + "(?![A-Za-z0-9])", "i") }));

  // The GPUs of `nvidia-smi -L`, in its order: [{name, sm}], sm undefined for a product that no row of facts names.
  const readGpus = (text) =>
    [...text.matchAll(/^\s*GPU \d+:\s*(.+?)\s*\(UUID/gm)].map(([, name]) => ({
      name,
      sm: names.find((row) => row.word.test(name))?.sm,
    }));

  // The best ISA of `lscpu` or /proc/cpuinfo: {platform, isa}, by what all kinds of core there have; null for neither.
  const readCpu = (text) => {
    const known = new Set(data.isas.flatMap((isa) => isa.features));
    const lines = text
      .split("\n")
      .map((line) => new Set(line.replace(/^[^:]*:/, "").trim().split(/\s+/)))
      .filter((words) => [...words].filter((word) => known.has(word)).length > 4);
    const flags = new Set([...(lines[0] ?? [])].filter((flag) => lines.every((words) => words.has(flag))));
    const arm = flags.has("asimd") || /aarch64/.test(text);
    if (!arm && !/x86_64/.test(text) && !flags.has("sse2")) return null;
    const platform = arm ? "aarch64" : "x86_64";
    const fitting = data.isas.filter(
      (isa) => isa.platform === platform && isa.features.every((feature) => flags.has(feature)),
    );
    return { platform, isa: fitting.at(-1)?.name };
  };

  // --- choosing -------------------------------------------------------------------------------------------------------

  const KINDS = ["native", "compatible", "ptx", "cpu"];
  const isaOf = (name) => data.isas.find((isa) => isa.name === name);
  const chain = (name) => (name ? [name, ...chain(isaOf(name).contains)] : []);
  const ANY = "any"; // a wheel for every Python
  const pythons = [...new Set(data.wheels.map((wheel) => wheel.python))].filter((python) => python !== ANY).sort();
  const trackOf = (name) => data.tracks.find((row) => row.track === name);
  const kindOf = (track, sm) => (sm ? trackOf(track)?.kinds[sm] : "cpu");
  const rank = (kind) => KINDS.indexOf(kind);
  const nameOf = (track, sm, isa) => [track, sm, isa].filter(Boolean).join("-");
  const partsOf = (name) => {
    const parts = name.split("-");
    return { track: parts[0], sm: parts.length === 3 ? parts[1] : "", isa: parts.at(-1) };
  };
  const wheelsOf = (name, python) =>
    data.wheels
      .filter((wheel) => wheel.name === name && [python, ANY].includes(wheel.python))
      .sort(
        (a, b) =>
          a.with_variant_label - b.with_variant_label ||
          b.release.localeCompare(a.release, undefined, { numeric: true }) ||
          a.version.length - b.version.length, // the one with its own torch and no PTX added
      );

  const pythonsOf = (name) => pythons.filter((python) => wheelsOf(name, python).length);

  // The name for a machine: one that is here, else the toolkit that serves the GPU best. Among equals `detect`'s order:
  // one that a published torch goes with, a default one, the newest.
  const bestName = (sm, isa, python) => {
    if (!sm) return nameOf("cpu", "", isa);
    const served = (row) => row.served.includes(sm);
    const usual = (row) => data.default_tracks.includes(row.track);
    const ways = data.tracks
      .filter((row) => row.kinds[sm])
      .sort(
        (a, b) =>
          wheelsOf(nameOf(b.track, sm, isa), python).length - wheelsOf(nameOf(a.track, sm, isa), python).length ||
          rank(a.kinds[sm]) - rank(b.kinds[sm]) ||
          served(b) - served(a) ||
          usual(b) - usual(a) ||
          b.cuda.localeCompare(a.cuda, undefined, { numeric: true }),
      );
    return nameOf(ways[0].track, sm, isa);
  };

  // The best wheel here that runs on the machine: device code for its GPU first, then the higher ISA.
  const nearest = (sm, isa, python) => {
    const isas = chain(isa);
    const fits = data.wheels.filter((wheel) => {
      const part = partsOf(wheel.name);
      return [python, ANY].includes(wheel.python) && isas.includes(part.isa) && (part.sm === sm || !part.sm);
    });
    const worth = (wheel) => {
      const part = partsOf(wheel.name);
      return [rank(part.sm ? kindOf(part.track, part.sm) : "cpu"), isas.indexOf(part.isa)];
    };
    return fits.sort((a, b) => worth(a)[0] - worth(b)[0] || worth(a)[1] - worth(b)[1])[0];
  };

  // --- saying it ------------------------------------------------------------------------------------------------------

  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const shown = (kind) => ({ ptx: "PTX", cpu: "none" })[kind] ?? kind;
  const dotted = (python) => `${python[0]}.${python.slice(1)}`;
  const fact = (term, text) => make("div", {}, make("dt", { textContent: term }), make("dd", { textContent: text }));

  const command = (title, text) => {
    const button = make("button", { type: "button", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        getSelection().selectAllChildren(button.previousSibling);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1600);
    });
    const line = make("div", { className: "line" }, make("pre", { textContent: text }), button);
    return make("div", { className: "command" }, make("span", { textContent: title }), line);
  };

  const bench = ({ bench: found }) =>
    found &&
    `${found.geomean.toFixed(2)}× ${found.against} (${found.low.toFixed(2)} to ${found.high.toFixed(2)}, one thread, ${found.machine})`;

  const install = (wheel) => {
    const tool = command("Let the tool look at the machine itself", `build-torchvision install --from ${base}`);
    if (wheel.with_variant_label) {
      const text = "Its file name ends in a label, for installers that choose by hardware; pip does not take it yet.";
      return [make("p", { textContent: text }), tool];
    }
    return [
      command("With pip", `pip install 'torchvision==${wheel.version}' --extra-index-url ${base}simple`),
      command("With uv", `uv pip install 'torchvision==${wheel.version}' --index ${base}${wheel.name}/simple`),
      tool,
    ];
  };

  const sheet = (name, python, remarks) => {
    const { track, sm, isa } = partsOf(name);
    const kind = kindOf(track, sm);
    const wheel = wheelsOf(name, python)[0];
    const nodes = [make("h3", { textContent: `torchvision-python${python}-${name}` })];
    const facts = make("dl", { className: "facts" }, fact("Device code", shown(kind)));
    if (wheel) {
      facts.append(
        fact("TorchVision", wheel.release),
        fact("PyTorch", wheel.torch),
        fact("Size", `${(wheel.size / 1e6).toFixed(1)} MB`),
        fact("Proof", `${wheel.checks} checks hold` + (wheel.run ? `, ${wheel.run} more in a run` : "") + (wheel.gpu ? `, ${wheel.gpu} of them on a GPU` : "")),
      );
      if (bench(wheel)) facts.append(fact("Speed", bench(wheel)));
    } else {
      const others = pythonsOf(name).map(dotted).join(", ");
      facts.append(fact("Here", others ? `not for this Python, but for ${others}` : "not built"));
    }
    nodes.push(facts);
    const said = [...remarks, ...(data.notes[name] ?? []).map((index) => data.sentences[index])];
    if (said.length) nodes.push(make("ul", {}, ...said.map((text) => make("li", { textContent: text }))));
    if (wheel) return [...nodes, ...install(wheel)];
    const release = track === "cpu" ? data.wheels[0]?.release : trackOf(track).releases[isaOf(isa).platform];
    const flag = release ? ` --torchvision ${release}` : " --torch SITE_PACKAGES";
    nodes.push(command("Build it on such a machine", `build-torchvision build torchvision-python${python}-${name}${flag}`));
    const other = nearest(sm, isa, python);
    if (other) {
      nodes.push(make("p", { textContent: `Until then, the closest that is here and runs there is ${other.name}:` }));
      nodes.push(...install(other).slice(0, 2));
    }
    return nodes;
  };

  const answer = (name, python, remarks = []) => {
    $("answer").replaceChildren(...sheet(name, python, remarks));
    for (const tile of document.querySelectorAll(".tile[data-name]")) {
      if (tile.dataset.name === name) tile.setAttribute("aria-pressed", "true");
      else tile.removeAttribute("aria-pressed");
    }
    history.replaceState(null, "", `#for=${name}`);
  };

  const refuse = (text) => {
    $("answer").replaceChildren(make("p", { textContent: text }), command("Install the stock wheel", "pip install torchvision"));
  };

  // --- the page -------------------------------------------------------------------------------------------------------

  const option = (value, text) => make("option", { value, textContent: text });
  $("gpu").append(
    option("", "No NVIDIA GPU"),
    ...[...data.gpus].reverse().map((gpu) => option(gpu.sm, `${gpu.sm}: ${gpu.products.join(", ")} (${gpu.architecture})`)),
  );
  $("isa").append(...data.isas.map((isa) => option(isa.name, `${isa.name}: ${isa.cpus}`)));
  // Where every wheel is for every Python there is nothing to choose: the names are those of the default one.
  $("python-field").hidden = !pythons.length;
  $("python").append(...(pythons.length ? pythons : [data.python]).map((python) => option(python, dotted(python))));
  $("python").value = pythons.includes(data.python) || !pythons.length ? data.python : pythons.at(-1);

  const choose = (remarks) =>
    answer(bestName($("gpu").value, $("isa").value, $("python").value), $("python").value, remarks);
  const show = (name) => {
    const { sm, isa } = partsOf(name);
    const here = pythonsOf(name);
    if (here.length && !here.includes($("python").value)) $("python").value = here.at(-1);
    [$("gpu").value, $("isa").value] = [sm, isa];
    answer(name, $("python").value);
  };
  for (const id of ["gpu", "isa", "python"]) $(id).addEventListener("change", () => choose());

  $("paste").addEventListener("input", () => {
    const text = $("paste").value;
    const gpus = readGpus(text);
    const cpu = readCpu(text);
    if (!gpus.length && !cpu) return;
    const remarks = [];
    const known = [...data.gpus].reverse().flatMap((row) => gpus.filter((gpu) => gpu.sm === row.sm))[0];
    for (const gpu of gpus.filter((row) => !row.sm)) {
      remarks.push(`${gpu.name} is not in the table of this page: choose a GPU with its compute capability above.`);
    }
    const kinds = [...new Set(gpus.map((gpu) => gpu.sm).filter(Boolean))];
    if (kinds.length > 1) {
      const rest = kinds.filter((sm) => sm !== known.sm).join(", ");
      remarks.push(`Several kinds of GPU: this is for the most capable, ${known.name}; ${rest} may need a wheel of its own.`);
    }
    if (!cpu) remarks.push("No processor was in what you pasted: add the output of lscpu.");
    if (!gpus.length) remarks.push("No GPU was in what you pasted: this is for a machine without one.");
    if (cpu && !cpu.isa) {
      refuse("This processor has less than the least of these variants asks for (AVX2, or Armv8.2 with half precision).");
      return;
    }
    $("gpu").value = known?.sm ?? "";
    if (cpu) $("isa").value = cpu.isa;
    choose(remarks);
  });

  // Each cell answers: those without a wheel become buttons, and arrow keys go from cell to cell.
  for (const span of document.querySelectorAll("span.tile[data-name]")) {
    const button = make("button", { type: "button", className: span.className });
    button.dataset.name = span.dataset.name;
    button.append(...span.childNodes);
    span.replaceWith(button);
  }
  for (const tile of document.querySelectorAll("a.tile[data-name]")) tile.setAttribute("role", "button");
  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile[data-name]");
    if (!tile) return;
    event.preventDefault();
    show(tile.dataset.name);
    $("find").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });
  document.addEventListener("keydown", (event) => {
    const tile = event.target.closest?.(".tile[data-name]");
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (tile && event.key === " " && tile.tagName === "A") {
      event.preventDefault();
      tile.click();
    }
    if (!tile || !step) return;
    const cell = tile.closest("td");
    const row = cell.parentElement;
    const target = step[0] ? row.parentElement.rows[row.sectionRowIndex + step[0]] : row;
    const next = target?.cells[cell.cellIndex + step[1]]?.querySelector(".tile");
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details.track")) part.open = true;
  });

  $("find").hidden = false;
  const asked = /^#for=(.+)$/.exec(decodeURIComponent(location.hash))?.[1];
  if (data.notes[asked]) show(asked);
})();
