// The strip of a run that goes on, told by the server it came from. What a model wrote only ever becomes text.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const element = (tag, text) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value) => String(Number(value.toPrecision(4))).replace("-", "−");

  const spark = (values) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg"), line = document.createElementNS(space, "polyline");
    const low = Math.min(...values), range = Math.max(...values) - low || 1;
    svg.setAttribute("viewBox", "0 0 90 18");
    svg.setAttribute("aria-hidden", "true");
    line.setAttribute("points", values.map((value, place) =>
      `${(88 * place) / Math.max(1, values.length - 1) + 1},${17 - (16 * (value - low)) / range}`).join(" "));
    svg.append(line);
    return svg;
  };

  const show = (run) => {
    const { stage } = run;
    find("live-stage").textContent = stage ? `${stage.name} (${stage.type}), stage ${stage.place} of ${stage.of}` : "finished";
    const steps = stage && stage.steps ? ` of ${stage.steps}` : "";
    const silent = run.silent > 120 ? `, silent for ${Math.round(run.silent / 60)} min` : "";
    find("live-step").textContent = stage ? `step ${run.step}${steps}${silent}` : "";
    find("live-progress").hidden = !steps;
    if (steps) find("live-progress").value = run.step / stage.steps;
    find("live-numbers").replaceChildren(...Object.entries(run.curves).map(([name, values]) => {
      const made = element("div");
      made.append(element("dt", name.replaceAll("_", " ")), element("dd", number(values[values.length - 1])), spark(values));
      return made;
    }));
    find("live-warning").textContent = run.warning;
    const sample = run.sample;
    find("live-sample").textContent = sample
      ? `${sample.prompt}\n→ ${sample.text}\n  reward ${typeof sample.reward === "number" ? number(sample.reward) : "–"}` : "";
  };

  // Sections without anything to fill in are exchanged when a stage is finished; the others wait for a reload.
  const redraw = async () => {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    let before = null;
    for (const section of fresh.querySelectorAll("main > section")) {
      const name = section.getAttribute("aria-labelledby");
      const old = document.querySelector(`main > section[aria-labelledby="${CSS.escape(name)}"]`);
      if (["samples", "inspector"].includes(name)) {
        before = old || before;
        continue;
      }
      const made = document.adoptNode(section);
      if (old) old.replaceWith(made);
      else if (before) before.after(made);
      else document.querySelector("main").prepend(made);
      before = made;
    }
    document.querySelector(".headline").textContent = fresh.querySelector(".headline").textContent;
  };

  const source = new EventSource("/events");
  source.addEventListener("run", (event) => show(JSON.parse(event.data)));
  source.addEventListener("stage", redraw);
  source.addEventListener("end", () => {
    source.close();
    redraw();
  });
  source.addEventListener("error", () => { find("live-step").textContent = "connection lost, trying again"; });
})();
