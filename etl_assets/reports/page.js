"use strict";

const collator = new Intl.Collator("en", { numeric: true });

function sort(header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");

  const compare = header.classList.contains("number") ? (a, b) => a - b : collator.compare;
  const body = header.closest("table").tBodies[0];
  const keyed = [...body.rows].map((row) => [row.cells[header.cellIndex].dataset.value, row]);
  keyed.sort(([a], [b]) => (a === "") - (b === "") || (ascending ? compare(a, b) : compare(b, a)));
  body.append(...keyed.map(([, row]) => row));
}

function toText(table, separator) {
  const toField = (cell) => {
    let text = cell.dataset.value;
    // The quote stops spreadsheets from evaluating the text as a formula.
    if (!cell.classList.contains("number") && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /["\t\r\n,]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [...table.rows].map((row) => [...row.cells].map(toField).join(separator)).join("\r\n");
}

const actions = {
  async copy(table) {
    await navigator.clipboard.writeText(toText(table, "\t"));
    return "Copied";
  },
  save(table) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", toText(table, ",")], { type: "text/csv" }));
    link.download = `${table.dataset.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    return "Saved";
  },
};

for (const header of document.querySelectorAll("th")) {
  header.querySelector("button").addEventListener("click", () => sort(header));
}
for (const section of document.querySelectorAll("section:has(table)")) {
  section.querySelector(".actions").hidden = false;
  for (const button of section.querySelectorAll("[data-action]")) {
    const action = button.dataset.action;
    button.hidden = action === "copy" && !navigator.clipboard; // secure contexts only: https:, file:, localhost
    button.addEventListener("click", async () => {
      section.querySelector("output").value = await actions[action](section.querySelector("table"));
    });
  }
}
