// The browser of samples. What a model wrote only ever becomes text, never markup.
"use strict";
(() => {
  const data = document.getElementById("data");
  if (!data) return;
  const stages = JSON.parse(data.textContent);
  const find = (id) => document.getElementById(id);
  const stage = find("stage"), step = find("step"), filter = find("filter");

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const number = (value) => String(Math.round(value * 1000) / 1000).replace("-", "−");
  const fill = (select, words) =>
    select.replaceChildren(...words.map((word, place) => {
      const option = element("option", word);
      option.value = place;
      return option;
    }));

  const chosen = (samples) => {
    if (filter.value === "all") return samples;
    if (filter.value === "failed") return samples.filter((sample) => sample.failure);
    const scored = samples.filter((sample) => sample.reward !== null);
    const sign = filter.value === "high" ? 1 : -1;
    scored.sort((a, b) => sign * (b.reward - a.reward));
    return scored.slice(0, 1);
  };

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

  const group = (about, samples) => {
    const made = element("article", undefined, "group");
    const question = element("div", undefined, "question");
    question.append(element("pre", about.prompt));
    if (about.answer !== null) {
      const right = element("p", "right: ", "muted");
      right.append(element("b", about.answer));
      question.append(right);
    }
    const answers = element("div", undefined, "answers");
    const average = mean(about.samples);
    answers.append(...samples.map((sample) => answer(sample, average)));
    made.append(question, answers);
    return made;
  };

  const show = () => {
    const steps = stages[stage.value].steps;
    const current = steps[step.value];
    const shown = current.groups.map((about) => [about, chosen(about.samples)]).filter((pair) => pair[1].length);
    const kept = shown.reduce((sum, pair) => sum + pair[1].length, 0);
    find("count").textContent = `${kept} of the step's ${current.total} samples`;
    find("groups").replaceChildren(...shown.map((pair) => group(...pair)));
    find("previous").disabled = Number(step.value) === 0;
    find("next").disabled = Number(step.value) === steps.length - 1;
  };
  const move = (by) => {
    step.selectedIndex = Math.min(step.length - 1, Math.max(0, step.selectedIndex + by));
    show();
  };
  const enter = () => {
    const entered = stages[stage.value];
    fill(step, entered.steps.map((one) => (entered.kind === "evaluate" ? "evaluation" : one.step)));
    step.selectedIndex = step.length - 1;
    show();
  };

  fill(stage, stages.map((one) => one.name));
  const training = stages.findIndex((one) => one.steps.length > 1);
  stage.selectedIndex = Math.max(0, training);
  stage.addEventListener("change", enter);
  step.addEventListener("change", show);
  filter.addEventListener("change", show);
  find("previous").addEventListener("click", () => move(-1));
  find("next").addEventListener("click", () => move(1));
  enter();
})();
