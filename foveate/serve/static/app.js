(function () {
  "use strict";
  var TOP = 5, AT_ONCE = 3, TRIES = 6;
  function $(id) { return document.getElementById(id); }
  var rows = [], chosen = -1, models = [], stream = null, waiting = [], running = 0;

  // the token comes behind the #, which no server sees, and leaves the address at once
  var given = /[#&]token=([^&]*)/.exec(location.hash);
  if (given) {
    sessionStorage.setItem("token", decodeURIComponent(given[1]));
    history.replaceState(null, "", location.pathname + location.search);
  }
  function headers() {
    var token = sessionStorage.getItem("token");
    return token ? { "Authorization": "Bearer " + token, "X-Foveate": "1" } : { "X-Foveate": "1" };
  }
  function say(text, bad) { $("say").textContent = text; $("say").className = bad ? "bad" : ""; }
  function percent(p) { return (100 * p).toFixed(1) + " %"; }

  function load() {
    return fetch("/model", { headers: headers() }).then(function (answer) {
      $("ask").hidden = answer.status !== 401;
      if (answer.status === 401) { say("This server asks for a token.", true); return null; }
      return answer.json();
    }).then(function (found) {
      if (!found) { return; }
      models = found.models;
      models.forEach(function (m) { $("model").add(new Option(m.name, m.name)); });
      $("which").hidden = models.length < 2;
      say(""); about();
    }).catch(function () { say("The server does not answer.", true); });
  }
  function model() { return models.filter(function (m) { return m.name === $("model").value; })[0] || models[0]; }
  function about() {
    var m = model();
    if (!m) { return; }
    $("title").textContent = m.name;
    document.title = m.name + " - foveate";
    $("card").textContent = m.card || m.classes.length + " classes: " + m.classes.join(", ");
  }

  function add(files) {
    Array.prototype.forEach.call(files, function (file) {
      var row = { file: file, name: file.name || "picture", url: URL.createObjectURL(file), answer: null, error: "" };
      rows.push(row); waiting.push(row); line(row);
    });
    if (files.length) { choose(rows.length - files.length); }
    next();
  }
  function next() {
    while (running < AT_ONCE && waiting.length) { ask(waiting.shift(), 1); }
    var open = waiting.length + running;
    say(open ? open + (open === 1 ? " picture" : " pictures") + " to go" : "");
  }
  function ask(row, attempt) {
    running += 1;
    send(row, "top=" + TOP).then(function (entry) {
      if (entry.error) { row.error = entry.error.message; } else { row.answer = entry; }
    }).catch(function (error) {
      if (error.retry && attempt < TRIES) {
        setTimeout(function () { ask(row, attempt + 1); }, 1000 * error.retry * (0.7 + 0.6 * Math.random()));
        return;
      }
      row.error = error.message;
    }).then(function () { running -= 1; line(row); if (rows[chosen] === row) { show(); } next(); });
  }
  function send(row, query) {
    var form = new FormData();
    form.append("file", row.file, row.name);
    if (model()) { query += "&model=" + encodeURIComponent(model().name); }
    return fetch("/predict?" + query, { method: "POST", headers: headers(), body: form }).then(function (answer) {
      return answer.json().then(function (value) {
        if (answer.ok) { return value.predictions[0]; }
        var error = new Error(value.error.message);
        error.retry = answer.status === 503 ? Number(answer.headers.get("Retry-After") || 1) : 0;
        if (answer.status === 401) { $("ask").hidden = false; }
        throw error;
      });
    });
  }

  function text(tag, value, name) {
    var made = document.createElement(tag);
    made.textContent = value;
    if (name) { made.className = name; }
    return made;
  }
  function labelOf(row) {
    if (row.error) { return row.error; }
    if (!row.answer) { return "..."; }
    return row.answer.unknown ? "none of these" : row.answer.label;
  }
  function line(row) {
    var made = document.createElement("tr"), first = document.createElement("td"), image = document.createElement("img");
    image.src = row.url; image.alt = "";
    image.onerror = function () { image.hidden = true; };
    first.append(image, row.name);
    made.append(first, text("td", labelOf(row), row.error ? "bad" : ""));
    made.append(text("td", row.answer ? percent(row.answer.probability) : "", "n"));
    made.append(text("td", row.answer && row.answer.set ? row.answer.set.join(", ") : "", "wide"));
    made.tabIndex = 0;
    made.onclick = function () { choose(rows.indexOf(row)); };
    made.onkeydown = function (event) { if (event.key === "Enter") { made.onclick(); } };
    if (row.line) { made.setAttribute("aria-selected", row.line.getAttribute("aria-selected")); row.line.replaceWith(made); } else { $("rows").append(made); }
    row.line = made;
    $("many").hidden = rows.length < 2;
  }
  function choose(i) {
    if (!rows[i]) { return; }
    chosen = i;
    rows.forEach(function (row, j) { row.line.setAttribute("aria-selected", i === j); });
    show();
  }
  function show() {
    var row = rows[chosen], answer = row.answer;
    $("one").hidden = false;
    if ($("shown").src !== row.url) { $("shown").src = row.url; $("shown").alt = row.name; }
    $("label").textContent = labelOf(row);
    $("label").className = row.error ? "bad" : "";
    $("bars").textContent = ""; $("note").textContent = "";
    $("heat").hidden = !answer; $("map").hidden = true;
    $("heat").textContent = "Show where it looks";
    if (!answer) { return; }
    if (answer.unknown) {
      $("note").textContent = "The picture is unlike those that this model knows. The nearest class is " + answer.label + ".";
    } else if (answer.set && answer.set.length > 1) {
      $("note").textContent = "In 95 % of such pictures it is one of: " + answer.set.join(", ") + ".";
    }
    answer.top.forEach(function (one) {
      var bar = text("div", "", "bar"), value = document.createElement("progress"), name = text("span", one.label);
      value.max = 1; value.value = one.probability;
      value.setAttribute("aria-label", one.label);
      name.title = one.label;
      bar.append(name, value, text("span", percent(one.probability), "n"));
      $("bars").append(bar);
    });
  }

  function heat() {
    var row = rows[chosen];
    if (!row || !row.answer) { return; }
    if (!$("map").hidden) { $("map").hidden = true; $("heat").textContent = "Show where it looks"; return; }
    if (row.answer.heat) { paint(row); return; }
    $("heat").disabled = true; say("Covering it piece by piece ...");
    send(row, "heat=1").then(function (entry) {
      if (entry.heat) { row.answer.heat = entry.heat; say(""); if (rows[chosen] === row) { paint(row); } }
    }).catch(function (error) { say(error.message, true); }).then(function () { $("heat").disabled = false; });
  }
  function paint(row) {
    var values = row.answer.heat.values, box = row.answer.heat.box, n = values.length;
    var canvas = $("map"), context, image, i, j, most = 1e-9, v, w = $("shown").clientWidth, h = $("shown").clientHeight;
    values.forEach(function (line) { line.forEach(function (value) { most = Math.max(most, value); }); });
    canvas.width = canvas.height = n;
    context = canvas.getContext("2d"); image = context.createImageData(n, n);
    for (i = 0; i < n; i += 1) {
      for (j = 0; j < n; j += 1) {
        v = values[i][j] / most;
        image.data.set([255, Math.round(220 * v), 0, Math.round(255 * v)], 4 * (i * n + j));
      }
    }
    context.putImageData(image, 0, 0);
    canvas.style.left = 100 * box[0] + "%"; canvas.style.top = box[1] * h + "px";
    canvas.style.width = box[2] * w + "px"; canvas.style.height = box[3] * h + "px";
    canvas.hidden = false;
    $("heat").textContent = "Hide where it looks";
    $("note").textContent = most < 0.01 ? "Covering any one piece hardly changes the answer." : "Yellow: covering it lowers the probability by up to " + percent(most) + ".";
  }

  function quoted(value) {
    value = String(value);
    if (/^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(value)) { value = "'" + value; }
    return /[",\r\n]/.test(value) ? '"' + value.replace(/"/g, '""') + '"' : value;
  }
  function csv() {
    var lines = [["name", "label", "probability", "unknown", "set", "error"]].concat(rows.map(function (row) {
      var a = row.answer;
      return a ? [row.name, a.label, a.probability, a.unknown === null ? "" : a.unknown, (a.set || []).join("; "), ""] : [row.name, "", "", "", "", row.error];
    }));
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map(function (l) { return l.map(quoted).join(","); }).join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "predictions.csv";
    link.click();
  }

  function closeCamera() {
    if (stream) { stream.getTracks().forEach(function (track) { track.stop(); }); stream = null; }
    $("live").hidden = true;
  }
  function camera() {
    if (!navigator.mediaDevices) { say("Browsers give the camera to pages of this machine or of https alone.", true); return; }
    navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).then(function (found) {
      stream = found; $("video").srcObject = found; $("live").hidden = false;
      return $("video").play();
    }).catch(function (error) { say("No camera: " + error.message, true); });
  }
  function shoot() {
    var canvas = document.createElement("canvas"), video = $("video");
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(function (blob) {
      add([new File([blob], "camera-" + new Date().toISOString().slice(11, 19).replace(/:/g, "-") + ".png", { type: "image/png" })]);
    }, "image/png");
  }

  $("choose").onclick = function () { $("file").click(); };
  $("file").onchange = function () { add($("file").files); $("file").value = ""; };
  $("camera").onclick = camera; $("shoot").onclick = shoot; $("off").onclick = closeCamera;
  $("heat").onclick = heat; $("csv").onclick = csv;
  $("clear").onclick = function () {
    rows.forEach(function (row) { URL.revokeObjectURL(row.url); row.line.remove(); });
    rows = []; waiting = []; chosen = -1; $("many").hidden = $("one").hidden = true;
  };
  $("model").onchange = function () { about(); rows.forEach(function (row) { row.answer = null; row.error = ""; waiting.push(row); }); next(); };
  $("ask").onsubmit = function (event) {
    event.preventDefault(); sessionStorage.setItem("token", $("token").value.trim()); $("token").value = ""; load();
  };
  document.addEventListener("dragover", function (event) { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", function (event) { if (!event.relatedTarget) { $("drop").classList.remove("over"); } });
  document.addEventListener("drop", function (event) { event.preventDefault(); $("drop").classList.remove("over"); add(event.dataTransfer.files); });
  document.addEventListener("paste", function (event) { if (event.clipboardData && event.clipboardData.files.length) { add(event.clipboardData.files); } });
  document.addEventListener("keydown", function (event) {
    if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (event.key === "ArrowDown" || event.key === "j") { event.preventDefault(); choose(Math.min(chosen + 1, rows.length - 1)); }
    if (event.key === "ArrowUp" || event.key === "k") { event.preventDefault(); choose(Math.max(chosen - 1, 0)); }
    if (event.key === "h") { heat(); }
    if (event.key === "o") { $("file").click(); }
  });
  window.addEventListener("resize", function () { $("map").hidden = true; $("heat").textContent = "Show where it looks"; });
  load();
}());
