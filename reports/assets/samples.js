"use strict";
// The sample browser: an index per task drives the filters, pages of samples are loaded as sibling scripts when needed.

(() => {
  const { article, element } = window.harnessCards;
  const SHOWN = 10;
  const CODES = { "-1": "refused", "-2": "unparsed", "-3": "failed", "-4": "absent", "-5": "other" };
  const browsers = new Map();

  function option(select, value, text) {
    const made = element("option", "", text);
    made.value = value;
    select.append(made);
  }

  class Browser {
    constructor(section, index) {
      this.section = section;
      this.index = index;
      this.pages = new Map();
      this.waiting = new Map();
      this.texts = new Map();
      this.offset = 0;
      this.turn = 0;
      this.part = (name) => section.querySelector(`[data-${name}]`);
      this.filter = (name) => section.querySelector(`[data-filter="${name}"]`);
      this.fillControls();
      this.listen();
    }

    fillControls() {
      const { labels, rows, slices } = this.index;
      labels.forEach((label, i) => option(this.filter("emotion"), i, label));
      option(this.filter("emotion"), -1, "no majority emotion");
      option(this.filter("row"), "", "any row");
      rows.forEach((row, i) => option(this.filter("row"), i, row.name));
      const answers = this.filter("answer");
      for (const [value, text] of [["right", "as most people"], ["wrong", "unlike most people"], ["none", "no answer at all"],
        ["refused", "refused"], ["unparsed", "no label found"], ["failed", "failed"]]) option(answers, value, text);
      labels.forEach((label, i) => option(answers, `label ${i}`, `the label ${label}`));
      this.slices = slices.map(({ key, values }) => {
        const label = element("label", "", `${key} `);
        const select = element("select");
        option(select, "", "any");
        values.forEach((value, i) => option(select, i, value));
        label.append(select);
        this.part("filter-slices").append(label);
        return select;
      });
    }

    listen() {
      const again = () => { this.offset = 0; this.show(); };
      for (const field of this.section.querySelectorAll(".controls select, [data-filter='disagree']")) {
        field.addEventListener("change", again);
      }
      let timer = 0;
      this.filter("text").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(again, 200); });
      this.part("reset").addEventListener("click", () => { this.reset(); again(); });
      this.part("previous").addEventListener("click", () => this.move(-SHOWN));
      this.part("next").addEventListener("click", () => this.move(SHOWN));
      this.part("list").addEventListener("keydown", (event) => {
        if (event.target.closest("pre, details") || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key === "ArrowRight") this.move(SHOWN);
        if (event.key === "ArrowLeft") this.move(-SHOWN);
      });
    }

    reset() {
      for (const select of this.section.querySelectorAll(".controls select")) select.selectedIndex = 0;
      this.filter("disagree").checked = false;
      this.filter("text").value = "";
    }

    async move(step) {
      const offset = this.offset + step;
      if (offset < 0 || offset >= this.found.length) return;
      this.offset = offset;
      await this.show();
      this.section.scrollIntoView();
      this.part("list").focus({ preventScroll: true });
    }

    page(number) {
      if (!this.pages.has(number)) {
        this.pages.set(number, new Promise((resolve, reject) => {
          this.waiting.set(number, resolve);
          const loader = element("script");
          loader.src = `data/${encodeURIComponent(this.index.task)}-${number}.js`;
          loader.addEventListener("error", () => reject(new Error(`page ${number} of the samples is missing`)));
          document.head.append(loader);
        }));
      }
      return this.pages.get(number);
    }

    async sample(position) {
      const { pageSize } = this.index;
      return (await this.page(Math.floor(position / pageSize)))[position % pageSize];
    }

    answered(codes, wanted, dominant) {
      const rows = this.filter("row").value;
      const chosen = rows === "" ? codes : [codes[Number(rows)]];
      return chosen.some((code) => {
        if (wanted === "right") return dominant >= 0 && code === dominant;
        if (wanted === "wrong") return dominant >= 0 && code !== dominant && code !== -4;
        if (wanted === "none") return code <= -1 && code >= -3;
        if (wanted.startsWith("label ")) return code === Number(wanted.slice(6));
        return CODES[code] === wanted;
      });
    }

    matches([, dominant, cuts, codes]) {
      const emotion = this.filter("emotion").value;
      if (emotion !== "" && dominant !== Number(emotion)) return false;
      if (this.slices.some((select, i) => select.value !== "" && cuts[i] !== Number(select.value))) return false;
      const wanted = this.filter("answer").value;
      if (wanted !== "" && !this.answered(codes, wanted, dominant)) return false;
      if (!this.filter("disagree").checked) return true;
      const labels = codes.filter((code, i) => this.index.rows[i].kind === "model" && (code >= 0 || code === -5));
      return new Set(labels).size > 1;
    }

    async searched(positions, query) {
      const found = [];
      for (const position of positions) {
        if (!this.texts.has(position)) {
          const sample = await this.sample(position);
          this.texts.set(position, [sample.id, sample.title, sample.context, ...Object.values(sample.meta), ...sample.annotations.flat(),
            ...sample.outcomes.flatMap((outcome) => (outcome ? [outcome.emotion ?? "", outcome.text, outcome.raw] : [])),
          ].join("\n").toLowerCase());
        }
        if (this.texts.get(position).includes(query)) found.push(position);
      }
      return found;
    }

    // A later call overtakes an earlier one that still waits for pages.
    async show() {
      const turn = ++this.turn;
      const query = this.filter("text").value.trim().toLowerCase();
      let found = [...this.index.entries.keys()].filter((position) => this.matches(this.index.entries[position]));
      try {
        if (query) {
          this.part("status").textContent = "Searching …";
          found = await this.searched(found, query);
        }
        if (turn !== this.turn) return;
        this.found = found;
        const positions = found.slice(this.offset, this.offset + SHOWN);
        const samples = await Promise.all(positions.map((position) => this.sample(position)));
        if (turn === this.turn) this.draw(samples);
      } catch (error) {
        this.part("status").textContent = `The samples cannot be shown: ${error.message}.`;
      }
    }

    draw(samples) {
      const total = this.index.entries.length;
      const number = this.found.length;
      this.part("status").textContent = number === total
        ? `${total} ${total === 1 ? "painting" : "paintings"}` : `${number} of ${total} paintings match`;
      this.section.dataset.count = number;
      this.part("list").replaceChildren(...samples.map((sample) => article(sample, this.index)));
      this.part("pager").hidden = number <= SHOWN;
      this.part("previous").disabled = this.offset === 0;
      this.part("next").disabled = this.offset + SHOWN >= number;
      this.part("where").textContent = `${this.offset + 1}–${Math.min(this.offset + SHOWN, number)} of ${number}`;
    }

    async open(id) {
      const position = this.index.entries.findIndex((entry) => entry[0] === id);
      if (position < 0) return false;
      this.reset();
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

  window.harnessIndex = (index) => {
    const section = [...document.querySelectorAll("[data-samples]")].find((one) => one.dataset.samples === index.task);
    browsers.set(index.task, new Browser(section, index));
  };

  window.harnessData = ({ task, page, samples }) => browsers.get(task).waiting.get(page)(samples);

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  // #sample=TASK/ID, or #sample=ID for the first task that has it.
  async function follow() {
    if (!location.hash.startsWith("#sample=")) return;
    const [first, ...rest] = location.hash.slice("#sample=".length).split("/").map(decoded);
    const asked = browsers.get(first);
    const id = asked ? rest.join("/") : [first, ...rest].join("/");
    for (const browser of asked ? [asked] : browsers.values()) {
      if (await browser.open(id)) return;
    }
  }

  window.addEventListener("hashchange", follow);
  document.addEventListener("DOMContentLoaded", async () => {
    await Promise.all([...browsers.values()].map((browser) => browser.show()));
    await follow();
  });
})();
