"use strict";
// One rater's page: consent, a practice item, the items, a download. Everything is kept in this browser.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const key = `rate-${data.study}-${data.rater}`;
  const questions = Object.entries(data.criteria);

  const fresh = () => ({ person: Math.random().toString(16).slice(2, 10), agreed: false, practised: false, at: 0, answers: {} });
  let kept = fresh();
  try { kept = { ...kept, ...JSON.parse(localStorage.getItem(key) || "{}") }; } catch { /* storage is switched off */ }
  const keep = () => { try { localStorage.setItem(key, JSON.stringify(kept)); } catch { /* the download still works */ } };

  let shownAt = 0;
  let hiddenMs = 0;
  let hiddenSince = null;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenSince = performance.now();
    else if (hiddenSince !== null) { hiddenMs += performance.now() - hiddenSince; hiddenSince = null; }
  });

  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const practising = () => !kept.practised;
  const current = () => data.items[practising() ? 0 : kept.at];
  const given = () => (practising() ? {} : kept.answers[current().item]?.scores || {});

  function show() {
    const answered = Object.keys(kept.answers).length;
    $("progress").max = data.items.length;
    $("progress").value = answered;
    const done = kept.practised && kept.at >= data.items.length;
    $("consent").hidden = kept.agreed;
    $("task").hidden = !kept.agreed || done;
    $("end").hidden = !kept.agreed || !done;
    $("where").textContent = !kept.agreed ? `${data.items.length} items` : done ? `All ${data.items.length} items answered`
      : practising() ? "Practice" : `Item ${kept.at + 1} of ${data.items.length}`;
    if (done) { offer(); $("end-title").focus(); } else if (kept.agreed) showItem();
  }

  function showItem() {
    const item = current();
    $("practice").hidden = !practising();
    $("question").textContent = data.kind === "pairs" ? questions[0][1] : "How good is this explanation?";
    const image = $("image");
    image.hidden = item.image === null;
    $("no-image").hidden = item.image !== null;
    if (item.image !== null) image.src = data.images[item.image];
    image.classList.toggle("blurred", data.blur);
    $("reveal").hidden = !data.blur || item.image === null;
    $("sides").replaceChildren(...item.sides.map((side, i) => element("div", { className: "side" },
      element("h3", { textContent: item.sides.length > 1 ? ["Left", "Right"][i] : "Explanation" }),
      element("p", { className: "label", textContent: `Emotion: ${side.label}` }),
      element("p", { textContent: side.text }))));
    $("answers").replaceChildren(...(data.kind === "pairs" ? pairButtons() : scales()));
    $("back").disabled = practising() || kept.at === 0;
    $("next").hidden = data.kind === "pairs";
    $("next").disabled = Object.keys(given()).length < questions.length;
    $("keys").textContent = data.kind === "pairs"
      ? "Keyboard: ← or 1 left, → or 2 right, 0 or ↓ equally good, Backspace back."
      : "Keyboard: 1 to 5 answers the first open question, Enter goes on, Backspace goes back.";
    $("question").focus();
    shownAt = performance.now();
    hiddenMs = 0;
  }

  function pairButtons() {
    const chosen = practising() ? undefined : kept.answers[current().item]?.choice;
    const choices = [["left", "Left is better"], ["tie", "Equally good"], ["right", "Right is better"]];
    return choices.map(([choice, textContent]) => {
      const button = element("button", { type: "button", textContent });
      button.setAttribute("aria-pressed", String(chosen === choice));
      button.addEventListener("click", () => record({ choice }));
      return button;
    });
  }

  let draft = {};
  function scales() {
    draft = { ...given() };
    return questions.map(([criterion, question]) => {
      const buttons = [1, 2, 3, 4, 5].map((score) => {
        const button = element("button", { type: "button", textContent: String(score) });
        button.setAttribute("aria-pressed", String(draft[criterion] === score));
        button.setAttribute("aria-label", `${score} of 5`);
        button.addEventListener("click", () => rate(criterion, score));
        return button;
      });
      const scale = element("div", { className: "scale" }, ...buttons);
      scale.dataset.criterion = criterion;
      return element("fieldset", {}, element("legend", { textContent: question }), scale);
    });
  }
  function rate(criterion, score) {
    draft[criterion] = score;
    for (const scale of document.querySelectorAll(".scale")) {
      if (scale.dataset.criterion !== criterion) continue;
      [...scale.children].forEach((b, i) => { b.setAttribute("aria-pressed", String(i + 1 === score)); });
    }
    $("next").disabled = Object.keys(draft).length < questions.length;
  }

  function record(answer) {
    if (hiddenSince !== null) { hiddenMs += performance.now() - hiddenSince; hiddenSince = performance.now(); }
    const seconds = Math.round(performance.now() - shownAt - hiddenMs) / 1000;
    if (practising()) kept.practised = true;
    else {
      kept.answers[current().item] = { ...answer, seconds, at: new Date().toISOString() };
      kept.at += 1;
    }
    keep();
    show();
  }
  const goBack = () => { if (!practising() && kept.at > 0) { kept.at -= 1; keep(); show(); } };

  function offer() {
    const lines = data.items.filter((item) => item.item in kept.answers).map((item) => JSON.stringify(
      { study: data.study, rater: `${data.rater}-${kept.person}`, item: item.item, ...kept.answers[item.item] }));
    const link = $("download");
    if (link.href) URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" }));
    link.download = `ratings-${data.study}-${data.rater}-${kept.person}.jsonl`;
  }

  $("agree").addEventListener("change", () => { $("start").disabled = !$("agree").checked; });
  $("start").addEventListener("click", () => { kept.agreed = true; keep(); show(); });
  $("back").addEventListener("click", goBack);
  $("again").addEventListener("click", goBack);
  $("next").addEventListener("click", () => record({ scores: draft }));
  $("reveal").addEventListener("click", () => { $("image").classList.remove("blurred"); $("reveal").hidden = true; });
  document.addEventListener("keydown", (event) => {
    if ($("task").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === "Backspace") { event.preventDefault(); goBack(); return; }
    if (data.kind === "pairs") {
      const choice = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", ArrowDown: "tie", 0: "tie" }[event.key];
      if (choice) { event.preventDefault(); record({ choice }); }
    } else if (/^[1-5]$/.test(event.key)) {
      const open = questions.find(([criterion]) => !(criterion in draft));
      if (open) rate(open[0], Number(event.key));
    } else if (event.key === "Enter" && !$("next").disabled && event.target.tagName !== "BUTTON") record({ scores: draft });
  });
  show();
})();
