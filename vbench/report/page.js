"use strict";
// Sorts a table by a column: by the number a cell shows where it has one, else by its text.
const order = new Intl.Collator("en", { numeric: true });
function key(row, column) {
  const cell = row.cells[column];
  return { value: "value" in cell.dataset ? Number(cell.dataset.value) : null, text: cell.textContent };
}
function compare(a, b) {
  if (a.value !== null && b.value !== null) return a.value - b.value;
  if (a.value !== null || b.value !== null) return a.value === null ? 1 : -1;
  return order.compare(a.text, b.text);
}
function sort(heading) {
  const table = heading.closest("table");
  const body = table.tBodies[0];
  const up = heading.getAttribute("aria-sort") !== "ascending";
  const rows = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
  rows.sort((a, b) => (up ? 1 : -1) * compare(a[0], b[0]));
  body.append(...rows.map(([, row]) => row));
  for (const each of table.querySelectorAll("th")) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
}
for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.querySelectorAll("th")) {
    heading.setAttribute("aria-sort", "none");
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sort(heading));
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(heading); });
  }
}
// Hints at what a box hides: that it is wide, and that there is more to the right.
function hint(box) {
  const rest = box.scrollWidth - box.clientWidth;
  box.classList.toggle("wide", rest > 1);
  box.classList.toggle("more", rest - box.scrollLeft > 1);
}
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => hint(entry.target)));
for (const box of document.querySelectorAll(".scroll")) {
  box.addEventListener("scroll", () => hint(box), { passive: true });
  sizes.observe(box);
}
// Shows the samples behind a figure: #samples=SERIES, so that a link to them can be kept.
const data = JSON.parse(document.getElementById("data").textContent);
const dialog = document.getElementById("samples");
function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}
function line(name, texts) {
  const row = element("tr");
  row.append(...texts.map((text) => element(name, text)));
  return row;
}
function show() {
  const hash = decodeURIComponent(location.hash);
  const series = hash.startsWith("#samples=") && data[hash.slice("#samples=".length)];
  if (!series) return;
  const table = element("table");
  table.createTHead().append(line("th", series.headings));
  table.createTBody().append(...series.rows.map((row) => line("td", row)));
  const scroll = element("div");
  scroll.className = "scroll";
  scroll.append(table);
  document.getElementById("samples-body").replaceChildren(
    element("h3", series.name), element("p", series.about), scroll);
  if (!dialog.open) dialog.showModal();
}
dialog.addEventListener("close", () => history.replaceState(null, "", "#"));
addEventListener("hashchange", show);
show();
