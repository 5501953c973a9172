"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const show = (name) => { root.dataset.theme = name; theme.textContent = name === "dark" ? "Light" : "Dark"; };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  show(remembered() || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", (event) => { if (!remembered()) show(event.matches ? "dark" : "light"); });
  theme.hidden = false;
  theme.addEventListener("click", () => {
    show(root.dataset.theme === "dark" ? "light" : "dark");
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a page from a file may keep nothing */ }
  });

  const value = (row, place) => {
    const text = row.cells[place].dataset.sort ?? row.cells[place].textContent.trim();
    const number = text.trim() === "" ? NaN : Number(text === "inf" ? Infinity : text);
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? (a === b ? 0 : a - b) : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const button of document.querySelectorAll("table.sortable thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => (rising ? 1 : -1) * order(value(a, head.cellIndex), value(b, head.cellIndex)));
      body.append(...rows);
    });
  }

  const tip = document.getElementById("tip");
  const say = (mark) => {
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const above = at.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 8}px`;
  };
  const hush = () => { tip.hidden = true; };
  for (const mark of document.querySelectorAll(".tip")) {
    mark.addEventListener("pointerenter", () => say(mark));
    mark.addEventListener("pointerleave", hush);
    mark.addEventListener("focus", () => say(mark));
    mark.addEventListener("blur", hush);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
  addEventListener("scroll", hush, { passive: true });

  if (navigator.clipboard) for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentNode.querySelector("pre").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
