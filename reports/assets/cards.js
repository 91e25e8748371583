"use strict";
// One item of the sample browser as elements: image, annotations, and what every row made of it.
// Every text comes from models or data sets, so it enters the page through textContent only.

(() => {
  const KINDS = { refusal: "Refused", unparsed: "Not read", failed: "Failed" };
  const LONG = 420;
  const WORD = /\p{L}+(?:'\p{L}+)*/gu;
  const STRONG = 2;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function isolated(text) { return element("bdi", "", text); }

  function chip(emotion, slots) {
    const made = element("span", emotion.length > 24 ? "chip wide" : "chip");
    const dot = element("span", `dot emo-${slots[emotion] ?? 0}`);
    dot.setAttribute("aria-hidden", "true");
    made.append(dot, isolated(emotion));
    return made;
  }

  function svg(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // With `valences` (a Map of words), words that carry feeling are marked; without, the text stands as it is.
  function written(target, text, valences) {
    target.dir = "auto";
    let end = 0;
    for (const match of valences ? text.matchAll(WORD) : []) {
      const valence = valences.get(match[0].toLowerCase());
      if (valence === undefined) continue;
      const word = element("span", valence < 0 ? "unpleasant" : "pleasant", match[0]);
      if (Math.abs(valence) >= STRONG) word.classList.add("strong");
      word.title = `valence ${valence}`;
      target.append(text.slice(end, match.index), word);
      end = match.index + match[0].length;
    }
    target.append(text.slice(end));
    return target;
  }

  function longText(text, valences) {
    const paragraph = written(element("p"), text, valences);
    if (text.length < LONG) return [paragraph];
    paragraph.classList.add("long");
    const button = element("button", "", `Show all ${text.length.toLocaleString("en")} characters`);
    button.type = "button";
    button.addEventListener("click", () => { paragraph.classList.add("open"); button.remove(); });
    return [paragraph, button];
  }

  function folded(title, ...content) {
    const made = element("details");
    made.append(element("summary", "", title), ...content);
    return made;
  }

  function probabilities(pairs, slots) {
    const grid = element("div", "probs");
    for (const [emotion, share] of pairs) {
      const bar = svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
      bar.append(svg("rect", { class: "track", width: 100, height: 8 }));
      bar.append(svg("rect", { class: `fill-${slots[emotion] ?? 0}`, width: Math.min(100, 100 * share), height: 8 }));
      grid.append(chip(emotion, slots), bar, element("span", "", (100 * share).toFixed(1)));
    }
    return grid;
  }

  function ratings(pairs) {
    return element("p", "meta", pairs.map(([dimension, value]) => `${dimension} ${value.toFixed(2)}`).join(", "));
  }

  // What a classifier that sees the explanation alone takes it to speak of.
  function reading([emotion, isOwn], slots) {
    const line = element("p", "read", emotion === null ? "no explanation" : "text reads as ");
    if (emotion !== null) line.append(chip(emotion, slots), isOwn ? " = label" : " ≠ label");
    return line;
  }

  // What a judge or people said of the explanation.
  function opinion(by, text) {
    const line = element("p", "read opinion");
    line.append(isolated(by), `: ${text}`);
    return line;
  }

  function said(outcome, sample, slots, valences) {
    const line = element("div");
    line.append(chip(outcome.emotion, slots));
    if (sample.dominant !== null) {
      const right = outcome.emotion === sample.dominant;
      line.append(element("span", "verdict", right ? "✓ as most people" : "✗ unlike most people"));
    }
    return [line, ...(outcome.text ? longText(outcome.text, valences) : []), ...remarks(outcome, slots)];
  }

  // What stands beneath an answer's text.
  function remarks(outcome, slots) {
    const parts = [];
    if (outcome.truncated) parts.push(element("p", "read", "cut off by the token limit"));
    if (outcome.read) parts.push(reading(outcome.read, slots));
    for (const [by, text] of outcome.opinions ?? []) parts.push(opinion(by, text));
    if (outcome.ratings.length) parts.push(ratings(outcome.ratings));
    if (outcome.probs.length) parts.push(folded("Probabilities, percent", probabilities(outcome.probs, slots)));
    return parts;
  }

  function unsaid(outcome) {
    const kind = outcome.reason ? `${KINDS[outcome.kind]}: ${outcome.reason}` : KINDS[outcome.kind];
    return [element("p", "kind", kind), ...(outcome.text ? longText(outcome.text) : [])];
  }

  function foldedText(title, text) {
    const raw = element("pre", "", text);
    raw.dir = "auto";
    raw.tabIndex = 0;
    return folded(title, raw);
  }

  function wholeText(outcome) {
    const thoughts = outcome.reasoning ? [foldedText("What the model thought, not scored", outcome.reasoning)] : [];
    if (!outcome.raw || outcome.raw === outcome.text) return thoughts;
    if (outcome.kind !== "answer") return [...longText(outcome.raw), ...thoughts];
    return [foldedText("Model text before parsing", outcome.raw), ...thoughts];
  }

  function answer(outcome, row, sample, slots, valences) {
    const card = element("div", `answer ${row.kind}`);
    const heading = element("h5");
    heading.append(isolated(row.name));
    card.append(heading);
    if (outcome === null) {
      card.append(element("p", "verdict", "not asked"));
      return card;
    }
    const isAnswer = outcome.kind === "answer";
    card.classList.toggle("right", isAnswer && sample.dominant !== null && outcome.emotion === sample.dominant);
    card.append(...(isAnswer ? said(outcome, sample, slots, valences) : unsaid(outcome)), ...wholeText(outcome));
    return card;
  }

  function veiled(image, title) {
    const button = element("button", "veil");
    button.type = "button";
    button.title = "Show or hide the image";
    button.setAttribute("aria-label", `Show or hide the image: ${title}`);
    button.addEventListener("click", () => image.classList.toggle("clear"));
    button.append(image);
    return button;
  }

  function imageBox(sample) {
    const box = element("div", "image");
    if (!sample.image) {
      box.append(element("div", "no-image", `No image. ${sample.reason}`));
      return box;
    }
    const image = element("img");
    image.src = sample.image;
    image.alt = sample.title;
    [image.width, image.height] = sample.size;
    image.loading = "lazy";
    if (document.body.classList.contains("blur")) {
      box.append(veiled(image, sample.title));
      return box;
    }
    box.append(image);
    return box;
  }

  function annotations(sample, slots, valences) {
    const list = element("ul", "annotations");
    for (const [emotion, text] of sample.annotations) {
      const line = element("li");
      line.append(chip(emotion, slots), written(element("bdi"), text, valences));
      list.append(line);
    }
    return list;
  }

  function people(sample) {
    const counts = sample.histogram.map(([emotion, number]) => `${emotion} ${number}`).join(", ");
    return sample.dominant === null ? `No majority among ${counts}` : `Annotators: ${counts}`;
  }

  function article(sample, { slots, rows, task }, valences) {
    const made = element("article", "sample");
    made.tabIndex = -1;
    made.dataset.id = sample.id;
    const side = imageBox(sample);
    const facts = Object.entries(sample.meta).map(([key, value]) => `${key}: ${value}`);
    for (const fact of facts) side.append(element("p", "meta", fact));
    const link = element("a", "", `#${sample.id}`);
    link.href = `#sample=${encodeURIComponent(task)}/${encodeURIComponent(sample.id)}`;
    link.setAttribute("aria-label", `Link to this image, ${sample.id}`);
    const anchor = element("p", "meta");
    anchor.append(link);
    side.append(anchor);
    const main = element("div");
    const heading = element("h4");
    heading.append(isolated(sample.title));
    const answers = element("div", "answers");
    for (const [i, row] of rows.entries()) answers.append(answer(sample.outcomes[i], row, sample, slots, valences));
    main.append(heading, element("p", "status", people(sample)));
    if (sample.ratings.length) main.append(ratings(sample.ratings));
    if (sample.context) main.append(folded("Text shown with the image", ...longText(sample.context)));
    main.append(annotations(sample, slots, valences), answers);
    made.append(side, main);
    return made;
  }

  window.harnessCards = { article, element };
})();
