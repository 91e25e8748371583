"use strict";
// The filters of one sample browser: what can be chosen, which images match, and the choice as part of the address.

(() => {
  const { element } = window.harnessCards;
  const CODES = { refused: -1, unparsed: -2, failed: -3 };
  const OTHER_LABEL = -5;
  const SPEAKS = { own: 1, other: 0 };
  const ANSWERS = [
    ["right", "as most people"], ["wrong", "unlike most people"], ["none", "no answer at all"],
    ["refused", "refused"], ["unparsed", "no label found"], ["failed", "failed"],
  ];

  function option(select, value, text) {
    const made = element("option", "", text);
    made.value = value;
    select.append(made);
  }

  function answerTest(wanted, labels) {
    if (wanted === "right") return (code, dominant) => dominant >= 0 && code === dominant;
    if (wanted === "wrong") return (code, dominant) => dominant >= 0 && code !== dominant && code !== -4;
    if (wanted === "none") return (code) => code <= -1 && code >= -3;
    const label = labels.findIndex((one) => wanted === `is ${one}`);
    return (code) => code === (label >= 0 ? label : CODES[wanted]);
  }

  class Filters {
    constructor(section, index, changed) {
      this.section = section;
      this.index = index;
      this.fields = new Map([...section.querySelectorAll("[data-filter]")].map((one) => [one.dataset.filter, one]));
      this.fill();
      for (const [name, field] of this.fields) if (name !== "text") field.addEventListener("change", changed);
      let timer = 0;
      this.fields.get("text").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(changed, 250); });
    }

    // Values say what they choose ("is awe"), so that an address stays true when labels are added.
    fill() {
      const { consistent, labels, rows, slices } = this.index;
      this.fields.get("consistency").parentElement.hidden = consistent.length === 0;
      for (const label of labels) option(this.fields.get("emotion"), `is ${label}`, label);
      option(this.fields.get("emotion"), "none", "no majority emotion");
      option(this.fields.get("row"), "", "any row");
      for (const { name } of rows) option(this.fields.get("row"), `is ${name}`, name);
      for (const [value, text] of ANSWERS) option(this.fields.get("answer"), value, text);
      for (const label of labels) option(this.fields.get("answer"), `is ${label}`, `the label ${label}`);
      for (const { key, values } of slices) this.addSlice(key, values);
    }

    addSlice(key, values) {
      const label = element("label", "", `${key} `);
      const select = element("select");
      select.autocomplete = "off";
      option(select, "", "any");
      for (const value of values) option(select, `is ${value}`, value);
      label.append(select);
      this.section.querySelector("[data-filter-slices]").append(label);
      this.fields.set(`by ${key}`, select);
    }

    value(name) {
      const field = this.fields.get(name);
      return field.type === "checkbox" ? (field.checked ? "yes" : "") : field.value;
    }

    get query() { return this.value("text").trim().toLowerCase(); }

    reset() { this.choose(new URLSearchParams()); }

    // What is not among the options chooses nothing.
    choose(parameters) {
      for (const [name, field] of this.fields) {
        const wanted = parameters.get(name) ?? "";
        if (field.type === "checkbox") field.checked = wanted === "yes";
        else if (field.type === "search") field.value = wanted;
        else field.selectedIndex = Math.max(0, [...field.options].findIndex((one) => one.value === wanted));
      }
    }

    parameters() {
      const chosen = [...this.fields.keys()].map((name) => [name, this.value(name)]);
      return new URLSearchParams(chosen.filter(([, value]) => value !== ""));
    }

    // Positions of all images that pass everything but the text search.
    matching() {
      const { dominant } = this.index;
      const tests = [...this.emotionTest(), ...this.sliceTests(), ...this.answerTests(), ...this.disagreeTest()];
      return [...dominant.keys()].filter((position) => tests.every((test) => test(position)));
    }

    emotionTest() {
      const { dominant, labels } = this.index;
      const value = this.value("emotion");
      if (value === "") return [];
      const wanted = labels.findIndex((label) => value === `is ${label}`);
      return [(position) => dominant[position] === wanted];
    }

    sliceTests() {
      return this.index.slices.flatMap(({ key, values }, i) => {
        const value = this.value(`by ${key}`);
        const wanted = values.findIndex((one) => value === `is ${one}`);
        return value === "" ? [] : [(position) => this.index.cuts[i][position] === wanted];
      });
    }

    // One and the same row must answer as chosen and explain as chosen.
    answerTests() {
      const { codes, consistent, dominant, labels, rows } = this.index;
      const [wanted, speaks, row] = ["answer", "consistency", "row"].map((name) => this.value(name));
      if (wanted === "" && speaks === "") return [];
      const chosen = [...rows.keys()].filter((i) => row === "" || row === `is ${rows[i].name}`);
      const answers = wanted === "" ? () => true : answerTest(wanted, labels);
      const explains = speaks === "" ? () => true : (i, position) => consistent[i]?.[position] === SPEAKS[speaks];
      return [(position) => chosen.some((i) => answers(codes[i][position], dominant[position]) && explains(i, position))];
    }

    disagreeTest() {
      if (this.value("disagree") === "") return [];
      const models = this.index.codes.filter((_, i) => this.index.rows[i].kind === "model");
      const isLabel = (code) => code >= 0 || code === OTHER_LABEL;
      return [(position) => new Set(models.map((column) => column[position]).filter(isLabel)).size > 1];
    }
  }

  window.harnessFilters = Filters;
})();
