// The browser of samples. What a model wrote only ever becomes text, never markup.
"use strict";
(() => {
  const data = document.getElementById("data");
  if (!data) return;
  const stages = JSON.parse(data.textContent);
  const find = (id) => document.getElementById(id);
  const stage = find("stage"), step = find("step"), filter = find("filter");
  const least = find("least"), most = find("most"), search = find("search"), more = find("more");
  const PAGE = 24, ALL = "all"; // groups shown at first; the step that is all of them
  let limit = PAGE;

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const number = (value) => String(Math.round(value * 1000) / 1000).replace("-", "−");
  const fill = (select, words) =>
    select.replaceChildren(...words.map(([value, word]) => {
      const option = element("option", word);
      option.value = value;
      return option;
    }));

  const within = (sample) => {
    const low = least.value === "" ? -Infinity : Number(least.value);
    const high = most.value === "" ? Infinity : Number(most.value);
    if (low === -Infinity && high === Infinity) return true;
    return typeof sample.reward === "number" && sample.reward >= low && sample.reward <= high;
  };
  const says = (about, sample) => {
    const wanted = search.value.toLowerCase();
    return !wanted || [about.prompt, about.answer, sample.text, sample.failure]
      .some((text) => typeof text === "string" && text.toLowerCase().includes(wanted));
  };
  const kind = (samples) => {
    if (filter.value === "all") return samples;
    if (filter.value === "failed") return samples.filter((sample) => sample.failure);
    if (filter.value === "cut") return samples.filter((sample) => sample.finish === "length");
    const scored = samples.filter((sample) => typeof sample.reward === "number");
    const sign = filter.value === "high" ? 1 : -1;
    scored.sort((a, b) => sign * (b.reward - a.reward));
    return scored.slice(0, 1);
  };
  const chosen = (about) => kind(about.samples).filter((sample) => within(sample) && says(about, sample));

  const mean = (samples) => {
    const rewards = samples.map((sample) => sample.reward).filter((reward) => typeof reward === "number");
    return rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
  };

  const answer = (sample, average) => {
    const made = element("div", undefined, sample.failure ? "answer failed" : "answer");
    made.append(element("pre", sample.text || "(nothing)"));
    const verdict = element("p", undefined, "verdict");
    if (sample.failure) verdict.append(element("span", `not scored: ${sample.failure}`, "bad"));
    else if (typeof sample.reward === "number") {
      const reward = element("span", "reward ");
      const tone = sample.reward > average + 1e-9 ? "good" : sample.reward < average - 1e-9 ? "bad" : "";
      reward.append(element("b", number(sample.reward), tone));
      verdict.append(reward);
    }
    const parts = Object.entries(sample.rewards || {});
    if (parts.length > 1)
      for (const [name, value] of parts) verdict.append(element("span", `${name} ${number(value)}`, "chip"));
    verdict.append(element("span", `${sample.tokens} token${sample.tokens === 1 ? "" : "s"}`, "muted"));
    if (sample.finish === "length") verdict.append(element("span", "cut off", "bad"));
    made.append(verdict);
    return made;
  };

  const group = (at, about, samples) => {
    const made = element("article", undefined, "group");
    const question = element("div", undefined, "question");
    question.append(element("pre", about.prompt));
    if (about.answer !== null) {
      const right = element("p", "right: ", "muted");
      right.append(element("b", about.answer));
      question.append(right);
    }
    if (step.value === ALL) question.append(element("p", `step ${at}`, "muted"));
    const answers = element("div", undefined, "answers");
    const average = mean(about.samples);
    answers.append(...samples.map((sample) => answer(sample, average)));
    made.append(question, answers);
    return made;
  };

  const show = () => {
    const steps = stages[stage.value].steps;
    const current = step.value === ALL ? steps : [steps[step.value]];
    const shown = current.flatMap((one) => one.groups.map((about) => [one.step, about, chosen(about)]))
      .filter(([, , samples]) => samples.length);
    const kept = shown.reduce((sum, [, , samples]) => sum + samples.length, 0);
    const total = current.reduce((sum, one) => sum + one.total, 0);
    const of = step.value === ALL ? `the ${total} samples of ${steps.length} steps` : `the step's ${total} samples`;
    find("count").textContent = `${kept} of ${of}`;
    find("groups").replaceChildren(...shown.slice(0, limit).map((some) => group(...some)));
    more.hidden = shown.length <= limit;
    find("previous").disabled = step.value === ALL || Number(step.value) === 0;
    find("next").disabled = step.value === ALL || Number(step.value) === steps.length - 1;
  };
  const anew = () => {
    limit = PAGE;
    show();
  };
  const move = (by) => {
    const last = stages[stage.value].steps.length - 1;
    step.value = Math.min(last, Math.max(0, Number(step.value) + by));
    anew();
  };
  const enter = () => {
    const entered = stages[stage.value];
    const words = entered.steps.map((one, place) => [place, entered.kind === "evaluate" ? "evaluation" : one.step]);
    if (words.length > 1) words.push([ALL, "all of them"]);
    fill(step, words);
    step.value = entered.steps.length - 1;
    anew();
  };

  fill(stage, stages.map((one, place) => [place, one.name]));
  const training = stages.findIndex((one) => one.steps.length > 1);
  stage.selectedIndex = Math.max(0, training);
  stage.addEventListener("change", enter);
  for (const control of [step, filter, least, most]) control.addEventListener("change", anew);
  search.addEventListener("input", anew);
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("previous").addEventListener("click", () => move(-1));
  find("next").addEventListener("click", () => move(1));
  more.addEventListener("click", () => {
    limit += PAGE;
    show();
  });
  enter();
})();
