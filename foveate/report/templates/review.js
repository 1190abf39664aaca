(function () {
  "use strict";
  var button = document.getElementById("save"), say = document.getElementById("said");
  function quoted(text) {
    if (/^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text)) { text = "'" + text; }
    return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }
  function rows() {
    return Array.prototype.map.call(document.querySelectorAll("select[data-path]"), function (s) {
      return [s.dataset.path, s.dataset.label, s.dataset.suggested, s.value];
    }).filter(function (row) { return row[3]; });
  }
  function tell() { say.textContent = rows().length + " decided"; }
  document.addEventListener("change", tell);
  if (button) {
    button.addEventListener("click", function () {
      var text = [["path", "label", "suggested", "decision"]].concat(rows()).map(function (row) {
        return row.map(quoted).join(",");
      }).join("\r\n") + "\r\n";
      var link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.download = "decisions.csv";
      link.click();
    });
  }
}());
