// The inspector of tokens. What a model wrote only ever becomes text, never markup.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  if (!find("inspect-data")) return;
  const table = JSON.parse(find("inspect-data").textContent);
  const { quantities, fates, steps } = table;
  const step = find("inspect-step"), sample = find("inspect-sample"), quantity = find("inspect-quantity");
  const tokens = find("inspect-tokens");
  let chosen = 0;

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const number = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))).replace("-", "−") : "–");
  const fill = (select, words) =>
    select.replaceChildren(...words.map(([value, word]) => {
      const option = element("option", word);
      option.value = value;
      return option;
    }));
  const keep = (select, value) => {
    select.value = value;
    if (select.selectedIndex < 0) select.selectedIndex = 0;
  };
  const current = () => steps[step.value].samples[sample.value];
  const column = () =>
    quantity.value === "fate" ? current().fates : current().columns[quantity.value] || [];

  // Of both signs: green above 0, red below. Else the accent, the stronger the more telling.
  const strength = (value, scale, most) => {
    if (typeof value !== "number") return 0;
    const size = scale === "ratio" ? Math.abs(Math.log(Math.max(value, 1e-6))) : Math.abs(value);
    return most > 0 ? Math.min(1, size / most) : 0;
  };
  const paint = (span, value, scale, most) => {
    const share = Math.round(70 * strength(value, scale, most));
    const rises = scale === "ratio" ? value > 1 : value > 0;
    const colour = scale === "low" || scale === "high" ? "--accent" : rises ? "--good" : "--bad";
    span.style.background = share ? `color-mix(in srgb, var(${colour}) ${share}%, transparent)` : "";
  };

  const fate = (place) => fates[current().fates[place]];
  const describe = () => {
    const about = current(), rows = [];
    const text = about.pieces[chosen];
    if (text === undefined) return find("inspect-token").replaceChildren();
    rows.push(["Token", `${JSON.stringify(text)} (${chosen + 1} of ${about.pieces.length})`]);
    for (const name of Object.keys(quantities))
      if (about.columns[name]) rows.push([quantities[name].title, number(about.columns[name][chosen])]);
    if (fate(chosen)) rows.push(["Update", fate(chosen)[1]]);
    list("inspect-token", rows);
  };
  const list = (id, rows) =>
    find(id).replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));

  const rewards = () => {
    const about = current(), rows = [];
    rows.push(["Reward", about.failure ? `not scored: ${about.failure}` : number(about.reward)]);
    for (const [name, value] of Object.entries(about.rewards || {})) rows.push([name, number(value)]);
    if (about.answer !== null) rows.push(["Right answer", about.answer]);
    if (about.expert) rows.push(["Written by", "the environment, as a demonstration"]);
    if (about.skipped) rows.push(["Update", "skipped: every advantage is 0, so it adds nothing"]);
    if (about.finish === "length") rows.push(["End", "cut off at the limit"]);
    if (about.left_out) rows.push(["Tokens left out", String(about.left_out)]);
    list("inspect-rewards", rows);
  };

  const choose = (place, focused) => {
    const spans = tokens.children;
    if (!spans.length) return;
    spans[chosen]?.setAttribute("aria-selected", "false");
    chosen = Math.min(spans.length - 1, Math.max(0, place));
    spans[chosen].setAttribute("aria-selected", "true");
    tokens.setAttribute("aria-activedescendant", spans[chosen].id);
    if (focused) spans[chosen].scrollIntoView({ block: "nearest" });
    describe();
  };

  const colour = () => {
    const about = quantities[quantity.value], values = column();
    const sizes = values.filter((value) => typeof value === "number")
      .map((value) => (about.scale === "ratio" ? Math.abs(Math.log(Math.max(value, 1e-6))) : Math.abs(value)));
    const most = Math.max(0, ...sizes);
    find("inspect-meaning").textContent = about.sentence;
    const known = values.filter((value) => typeof value === "number");
    find("inspect-scale").hidden = about.scale === "fate" || !known.length;
    find("inspect-scale").className = `scale ${about.scale}`;
    const signed = about.scale === "signed";
    find("inspect-low").textContent = about.scale === "low" ? "0" : number(signed ? -most : about.scale === "ratio" ? Math.exp(-most) : 0);
    find("inspect-high").textContent = number(about.scale === "low" ? -most : about.scale === "ratio" ? Math.exp(most) : most);
    [...tokens.children].forEach((span, place) => {
      const name = fate(place)?.[0] || "unknown";
      span.className = `token ${name.replaceAll(" ", "-")}`;
      if (about.scale === "fate") paint(span, name === "learned" ? current().columns.push?.[place] : 0, "signed", Math.max(0, ...(current().columns.push || []).map(Math.abs)));
      else paint(span, values[place], about.scale, most);
    });
  };

  const showSample = () => {
    const about = current();
    find("inspect-prompt").textContent = about.prompt;
    const offered = Object.keys(quantities).filter((name) => (name === "fate" ? about.fates.length : about.columns[name]));
    const before = quantity.value;
    fill(quantity, offered.map((name) => [name, quantities[name].title]));
    keep(quantity, before);
    tokens.replaceChildren(...about.pieces.map((text, place) => {
      const span = element("span", text.replaceAll("\n", "↵\n") || "∅", "token");
      span.id = `token-${place}`;
      span.setAttribute("role", "option");
      span.setAttribute("aria-selected", "false");
      return span;
    }));
    chosen = 0;
    colour();
    rewards();
    choose(0);
  };
  const showStep = () => {
    const samples = steps[step.value].samples;
    fill(sample, samples.map((about, place) =>
      [place, `${about.prompt_id} · answer ${about.index + 1} · ${about.failure ? "failed" : number(about.reward)}`]));
    if (samples.length) showSample();
  };

  step.addEventListener("change", showStep);
  sample.addEventListener("change", showSample);
  quantity.addEventListener("change", () => { colour(); describe(); });
  tokens.addEventListener("click", (event) => {
    const place = [...tokens.children].indexOf(event.target);
    if (place >= 0) choose(place);
  });
  tokens.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    const ends = { Home: 0, End: tokens.children.length - 1 };
    if (event.key in moves) choose(chosen + moves[event.key], true);
    else if (event.key in ends) choose(ends[event.key], true);
    else return;
    event.preventDefault();
  });

  fill(step, steps.map((one, place) => [place, `${one.stage}, step ${one.step}`]));
  step.selectedIndex = steps.length - 1;
  showStep();
})();
