"use strict";
// The table of changes can be searched and sorted; without this script it is simply all there.
(() => {
  const table = document.getElementById("changes");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const told = document.getElementById("found");
  const search = document.getElementById("search");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  document.getElementById("finder").hidden = false;

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, place) => {
      row.hidden = !words.every((word) => texts[place].includes(word));
      count += row.hidden ? 0 : 1;
    });
    told.textContent = `${count} of ${rows.length} shown`;
  };
  search.addEventListener("input", show);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      show();
    }
  });
  show();

  const heads = Array.from(table.tHead.rows[0].cells);
  const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = [...rows].sort((one, other) =>
        key(one, column).localeCompare(key(other, column), undefined, { numeric: true })
      );
      body.append(...(up ? order : order.reverse()));
    });
  });
})();
