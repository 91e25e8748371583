"use strict";
// Theme switch, column groups, sorting and the selects that choose one of several prepared tables.

(() => {
  const root = document.documentElement;
  const THEME_KEY = "harness-report-theme";

  function isDark() {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function remembered() {
    try { return localStorage.getItem(THEME_KEY); } catch { return null; }
  }

  function remember(theme) {
    try { localStorage.setItem(THEME_KEY, theme); } catch { /* private windows keep nothing */ }
  }

  function setUpTheme() {
    const button = document.getElementById("theme");
    const stored = remembered();
    if (stored === "dark" || stored === "light") root.dataset.theme = stored;
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      name();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
    name();
    button.hidden = false;
  }

  // Ranked rows first, then those marked †, then rows without the number; ties keep their order.
  function sortTable(header, ascending) {
    const table = header.closest("table");
    const column = [...header.parentElement.children].indexOf(header);
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.dataset.ranked);
      const keyed = rows.map((row) => {
        const text = row.cells[column].dataset.value;
        return { row, missing: text === undefined, unranked: row.dataset.ranked === "no", value: Number(text) };
      });
      keyed.sort((a, b) =>
        a.missing - b.missing || (a.missing ? 0 : a.unranked - b.unranked || (ascending ? a.value - b.value : b.value - a.value)));
      for (const { row } of keyed) body.append(row);
    }
  }

  function setUpSorting() {
    for (const header of document.querySelectorAll("table.sortable th[data-metric]")) {
      header.querySelector("button").addEventListener("click", () => {
        const current = header.getAttribute("aria-sort");
        sortTable(header, current ? current === "descending" : header.dataset.best === "low");
      });
    }
  }

  function setUpColumns() {
    for (const box of document.querySelectorAll("input[data-toggle-group]")) {
      const table = box.closest("fieldset").nextElementSibling.querySelector("table");
      box.addEventListener("change", () => {
        for (const cell of table.querySelectorAll("[data-group]")) {
          if (cell.dataset.group === box.dataset.toggleGroup) cell.hidden = !box.checked;
        }
      });
    }
    for (const box of document.querySelectorAll("input[data-toggle-published]")) {
      const body = box.closest("fieldset").nextElementSibling.querySelector("tbody.published");
      box.addEventListener("change", () => { body.hidden = !box.checked; });
    }
  }

  function setUpSwitches() {
    for (const section of document.querySelectorAll("[data-switch]")) {
      const fields = [...section.querySelectorAll("select[data-field]")];
      const variants = [...section.querySelectorAll("[data-variant]")];
      const show = () => {
        let found = false;
        for (const variant of variants) {
          variant.hidden = !fields.every((field) => variant.dataset[field.dataset.field] === field.value);
          found ||= !variant.hidden;
        }
        section.querySelector("[data-nothing]").hidden = found;
      };
      for (const field of fields) field.addEventListener("change", show);
    }
  }

  setUpTheme();
  setUpSorting();
  setUpColumns();
  setUpSwitches();
})();
