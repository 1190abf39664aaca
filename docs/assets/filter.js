// A line to type in above the first long table of a page: only rows that hold all its words stay, in every table.
(() => {
  const tables = [...document.querySelectorAll("article table")];
  const rows = tables.flatMap((table) => [...table.querySelectorAll("tbody tr")]);
  if (rows.length < 100) return;
  const line = document.createElement("input");
  line.type = "search";
  line.className = "filter";
  line.placeholder = `Filter ${rows.length} rows, for example: resnet 224`;
  line.setAttribute("aria-label", "Filter rows");
  const first = document.querySelector("article h2") || tables[0];
  first.before(line);
  line.addEventListener("input", () => {
    const words = line.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
})();
