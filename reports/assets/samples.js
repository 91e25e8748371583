"use strict";
// The sample browser. Index and pages are sibling scripts: a page opened from disk may not fetch, but it may load those.
// The index comes after the first paint, pages when they are shown or searched, so that size does not delay the tables.

(() => {
  const { article, element } = window.harnessCards;
  const SHOWN = 10;
  const KEPT_PAGES = 12;
  const READ_AHEAD = 3;
  const browsers = new Map();
  const arrivals = new Map();
  let valences = null;

  // A script of the report's data folder; resolves with what it hands to its `window.harness…` function.
  function load(name, key) {
    return new Promise((resolve, reject) => {
      const loader = element("script");
      arrivals.set(key, resolve);
      loader.src = `data/${encodeURIComponent(name)}`;
      loader.addEventListener("load", () => loader.remove());
      loader.addEventListener("error", () => reject(new Error(`the file ${name} is missing`)));
      document.head.append(loader);
    });
  }

  function searchable(sample) {
    return [sample.id, sample.title, sample.context, ...Object.values(sample.meta), ...sample.annotations.flat(),
      ...sample.outcomes.flatMap((outcome) => (outcome ? [outcome.emotion ?? "", outcome.text, outcome.raw] : [])),
    ].join("\n").toLowerCase();
  }

  class Browser {
    constructor(section, index) {
      this.section = section;
      this.index = index;
      this.pages = new Map();
      this.found = [];
      this.offset = 0;
      this.turn = 0;
      this.part = (name) => section.querySelector(`[data-${name}]`);
      this.filters = new window.harnessFilters(section, index, () => this.changed());
      this.listen();
    }

    listen() {
      this.part("reset").addEventListener("click", () => { this.filters.reset(); this.changed(); });
      this.part("previous").addEventListener("click", () => this.turnPage(-1));
      this.part("next").addEventListener("click", () => this.turnPage(1));
      this.part("list").addEventListener("keydown", (event) => this.pressed(event));
      this.part("goto").addEventListener("change", () => {
        const number = Math.min(this.found.length, Math.max(1, Number(this.part("goto").value) || 1));
        this.part("goto").value = "";
        this.moveTo(number - 1);
      });
      this.part("valence").addEventListener("change", async () => {
        if (this.part("valence").checked) valences ??= new Map(Object.entries(await load("valence.js", "valence")));
        this.show();
      });
    }

    changed() {
      this.offset = 0;
      return this.show().then(() => this.remember());
    }

    // The choice stands in the address, so that a link leads back to it.
    remember() {
      const parameters = this.filters.parameters();
      if (this.offset) parameters.set("from", this.offset + 1);
      const chosen = parameters.size > 0;
      const hash = chosen ? `#samples=${encodeURIComponent(this.index.task)}&${parameters}` : `#${this.section.id}`;
      if (chosen || location.hash.startsWith("#sample")) history.replaceState(null, "", hash);
    }

    recall(parameters) {
      this.filters.choose(parameters);
      this.offset = Math.max(0, Math.floor((Number(parameters.get("from")) - 1) / SHOWN) * SHOWN) || 0;
      return this.show();
    }

    pressed(event) {
      if (event.target.closest("pre, details, button") || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowRight: SHOWN, ArrowLeft: -SHOWN, j: 1, k: -1 }[event.key];
      if (step === undefined) return;
      if (Math.abs(step) > 1) { this.turnPage(Math.sign(step)); return; }
      const shown = [...this.part("list").children];
      const at = shown.indexOf(event.target.closest("article"));
      this.moveTo(this.offset + (at < 0 ? 0 : at + step));
    }

    async turnPage(direction) {
      const offset = this.offset + direction * SHOWN;
      if (offset < 0 || offset >= this.found.length) return;
      this.offset = offset;
      await this.show();
      this.remember();
      this.section.scrollIntoView();
      this.part("list").focus({ preventScroll: true });
    }

    async moveTo(place) {
      if (place < 0 || place >= this.found.length) return;
      const offset = Math.floor(place / SHOWN) * SHOWN;
      if (offset !== this.offset) {
        this.offset = offset;
        await this.show();
        this.remember();
      }
      const shown = this.part("list").children[place % SHOWN];
      shown?.focus({ preventScroll: true });
      shown?.scrollIntoView({ block: "start" });
    }

    page(number) {
      const known = this.pages.get(number) ?? load(`${this.index.task}-${number}.js`, `${this.index.task} ${number}`);
      this.pages.delete(number);
      this.pages.set(number, known);
      if (this.pages.size > KEPT_PAGES) this.pages.delete(this.pages.keys().next().value);
      return known;
    }

    async sample(position) {
      const { pageSize } = this.index;
      return (await this.page(Math.floor(position / pageSize)))[position % pageSize];
    }

    // Reads page after page and keeps only a few; null when a later call has overtaken this one.
    async searched(positions, query, turn) {
      const { pageSize } = this.index;
      const byPage = Map.groupBy(positions, (position) => Math.floor(position / pageSize));
      const numbers = [...byPage.keys()];
      const found = [];
      for (const [i, number] of numbers.entries()) {
        if (turn !== this.turn) return null;
        this.part("status").textContent = `Searching … ${(i * pageSize).toLocaleString("en")} images read`;
        // A page that cannot be read is reported when its turn comes.
        for (const later of numbers.slice(i + 1, i + 1 + READ_AHEAD)) this.page(later).catch(() => {});
        const samples = await this.page(number);
        found.push(...byPage.get(number).filter((position) => searchable(samples[position % pageSize]).includes(query)));
      }
      return found;
    }

    // A later call overtakes an earlier one that still waits for pages.
    async show() {
      const turn = ++this.turn;
      const { query } = this.filters;
      try {
        const matching = this.filters.matching();
        const found = query ? await this.searched(matching, query, turn) : matching;
        if (turn !== this.turn) return;
        this.found = found;
        if (this.offset >= found.length) this.offset = 0;
        const positions = found.slice(this.offset, this.offset + SHOWN);
        const samples = await Promise.all(positions.map((position) => this.sample(position)));
        if (turn === this.turn) this.draw(samples);
      } catch (error) {
        this.part("status").textContent = `The samples cannot be shown: ${error.message}.`;
      }
    }

    draw(samples) {
      const total = this.index.ids.length;
      const number = this.found.length;
      const painted = this.part("valence").checked ? valences : null;
      this.part("status").textContent = number === total
        ? `${total.toLocaleString("en")} ${total === 1 ? "image" : "images"}`
        : `${number.toLocaleString("en")} of ${total.toLocaleString("en")} images match`;
      this.section.dataset.count = number;
      this.part("list").replaceChildren(...samples.map((sample) => article(sample, this.index, painted)));
      this.part("pager").hidden = number <= SHOWN;
      this.part("previous").disabled = this.offset === 0;
      this.part("next").disabled = this.offset + SHOWN >= number;
      this.part("where").textContent = `${this.offset + 1}–${Math.min(this.offset + SHOWN, number)} of ${number}`;
    }

    async open(id) {
      const position = this.index.ids.indexOf(id);
      if (position < 0) return false;
      this.filters.reset();
      this.offset = Math.floor(position / SHOWN) * SHOWN;
      await this.show();
      const shown = this.part("list").children[position % SHOWN];
      if (shown) {
        shown.classList.add("chosen");
        shown.scrollIntoView({ block: "start" });
        shown.focus({ preventScroll: true });
      }
      return true;
    }
  }

  window.harnessIndex = (index) => arrivals.get(index.task)(index);
  window.harnessData = ({ task, page, samples }) => arrivals.get(`${task} ${page}`)(samples);
  window.harnessValence = (words) => arrivals.get("valence")(words);

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  // #samples=TASK&FILTER=VALUE…: a choice; #sample=TASK/ID, or #sample=ID for the first task that has it: an image.
  async function follow() {
    if (location.hash.startsWith("#samples=")) {
      const parameters = new URLSearchParams(location.hash.slice(1));
      const asked = browsers.get(parameters.get("samples"));
      await asked?.recall(parameters);
      asked?.section.scrollIntoView();
    }
    if (!location.hash.startsWith("#sample=")) return;
    const [first, ...rest] = location.hash.slice("#sample=".length).split("/").map(decoded);
    const asked = browsers.get(first);
    const id = asked ? rest.join("/") : [first, ...rest].join("/");
    for (const browser of asked ? [asked] : browsers.values()) {
      if (await browser.open(id)) return;
    }
  }

  async function begin(section) {
    const task = section.dataset.samples;
    try {
      const browser = new Browser(section, await load(`${task}-index.js`, task));
      browsers.set(task, browser);
      await browser.show();
    } catch (error) {
      section.querySelector("[data-status]").textContent = `The samples cannot be shown: ${error.message}.`;
    }
  }

  window.addEventListener("load", async () => {
    await Promise.all([...document.querySelectorAll("[data-samples]")].map(begin));
    window.addEventListener("hashchange", follow);
    await follow();
  });
})();
