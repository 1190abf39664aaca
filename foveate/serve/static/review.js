(function () {
  "use strict";
  function $(id) { return document.getElementById(id); }
  var rows = [], classes = [], at = 0, undo = [], chain = Promise.resolve(), polling = null, urls = {};
  var given = /[#&]token=([^&]*)/.exec(location.hash);
  if (given) {
    sessionStorage.setItem("token", decodeURIComponent(given[1]));
    history.replaceState(null, "", location.pathname);
  }
  function headers() {
    var token = sessionStorage.getItem("token");
    return token ? { "Authorization": "Bearer " + token, "X-Foveate": "1" } : { "X-Foveate": "1" };
  }
  function say(text, bad) { $("say").textContent = text; $("say").className = bad ? "bad" : ""; }

  function load() {
    fetch("/review/table", { headers: headers() }).then(function (answer) {
      $("ask").hidden = answer.status !== 401;
      if (answer.status === 401) { say("This server asks for a token.", true); return; }
      return answer.json().then(function (found) {
        rows = found.rows; classes = found.classes;
        $("title").textContent = "Review of " + found.title;
        $("again").hidden = !found.can_train;
        at = Math.max(0, rows.findIndex(function (row) { return !row.decision; }));
        keys(); show(); say("");
        if (found.can_train) { poll(); }
      });
    }).catch(function () { say("The server does not answer.", true); });
  }
  function button(key, label, act) {
    var made = document.createElement("button"), mark = document.createElement("kbd");
    made.type = "button"; mark.textContent = key;
    made.append(mark, label); made.onclick = act;
    $("keys").append(made);
    return made;
  }
  function keys() {
    $("keys").textContent = "";
    classes.forEach(function (name, i) {
      button(i < 9 ? String(i + 1) : "", name, function () { give(name); }).dataset.label = name;
    });
    button("x", "drop this picture", function () { decide("drop", ""); }).dataset.decision = "drop";
  }
  function picture(row) {
    if (!urls[row.path]) {
      urls[row.path] = fetch("/review/picture?path=" + encodeURIComponent(row.path), { headers: headers() }).then(function (answer) {
        return answer.ok ? answer.blob() : null;
      }).then(function (blob) { return blob ? URL.createObjectURL(blob) : ""; });
    }
    return urls[row.path];
  }
  function show() {
    var row = rows[at], decided = rows.filter(function (r) { return r.decision; }).length;
    $("count").textContent = decided + " of " + rows.length + " decided";
    $("done").value = rows.length ? decided / rows.length : 1;
    if (!row) { say("Nothing to look at."); return; }
    picture(row).then(function (url) { if (rows[at] === row || rows[at].path === row.path) { $("shown").src = url; $("shown").alt = row.path; } });
    if (rows[at + 1]) { picture(rows[at + 1]); }
    $("label").textContent = row.label || "no label";
    $("why").textContent = row.why;
    $("path").textContent = row.path;
    Array.prototype.forEach.call($("keys").children, function (made) {
      var on = made.dataset.decision ? row.decision === "drop" : row.decision === "relabel" ? row.new_label === made.dataset.label : row.decision === "keep" && row.label === made.dataset.label;
      made.setAttribute("aria-pressed", on);
    });
  }
  function go(i) { at = Math.min(Math.max(i, 0), rows.length - 1); show(); }
  function open() {
    for (var i = 1; i <= rows.length; i += 1) {
      if (!rows[(at + i) % rows.length].decision) { go((at + i) % rows.length); return; }
    }
    say("All are decided.");
  }
  function give(name) { decide(name === rows[at].label ? "keep" : "relabel", name === rows[at].label ? "" : name); }
  function decide(decision, label) {
    var i = at, row = rows[i];
    if (!row) { return; }
    undo.push({ i: i, decision: row.decision, label: row.new_label });
    send(i, decision, label);
    if (at < rows.length - 1) { go(at + 1); }
  }
  function takeBack() {
    var last = undo.pop();
    if (!last) { say("Nothing to undo."); return; }
    go(last.i);
    send(last.i, last.decision, last.label);
  }
  // one after another, so that each knows what the one before has made of the row
  function send(i, decision, label) {
    chain = chain.then(function () {
      var row = rows[i];
      return fetch("/review/decision", {
        method: "POST", headers: Object.assign({ "Content-Type": "application/json" }, headers()),
        body: JSON.stringify({ path: row.path, was: row.decision, was_label: row.new_label, decision: decision, new_label: label })
      }).then(function (answer) {
        return answer.json().then(function (value) {
          if (answer.status === 409) { rows[i] = value.row; undo = undo.filter(function (u) { return u.i !== i; }); say("Somebody else decided about " + row.path + " meanwhile: look again.", true); go(i); return; }
          if (!answer.ok) { throw new Error(value.error.message); }
          rows[i] = value; say("Saved."); show();
        });
      });
    }).catch(function (error) { say("Not saved: " + error.message, true); go(i); });
  }

  function poll() {
    return fetch("/review/train", { headers: headers() }).then(function (answer) { return answer.json(); }).then(function (found) {
      var words = { idle: "", running: "It trains.", done: "Done.", failed: "It ended with code " + found.code + "." };
      $("state").textContent = words[found.state]; $("state").className = found.state === "failed" ? "bad" : "";
      $("lines").textContent = found.lines.join("\n"); $("lines").hidden = !found.lines.length;
      $("train").disabled = found.state === "running";
      clearTimeout(polling);
      if (found.state === "running") { polling = setTimeout(poll, 700); }
    }).catch(function () { polling = setTimeout(poll, 3000); });
  }
  $("train").onclick = function () {
    chain = chain.then(function () { return fetch("/review/train", { method: "POST", headers: headers() }); }).then(poll);
  };
  $("back").onclick = function () { go(at - 1); };
  $("forth").onclick = function () { go(at + 1); };
  $("undo").onclick = takeBack;
  $("open").onclick = open;
  $("ask").onsubmit = function (event) { event.preventDefault(); sessionStorage.setItem("token", $("token").value.trim()); $("token").value = ""; load(); };
  document.addEventListener("keydown", function (event) {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey || !rows.length) { return; }
    var key = event.key;
    if (/^[1-9]$/.test(key) && classes[key - 1] !== undefined) { give(classes[key - 1]); }
    else if (key === "Enter" && event.target.tagName !== "BUTTON") { decide("keep", ""); }
    else if (key === "x") { decide("drop", ""); }
    else if (key === "u") { takeBack(); }
    else if (key === "n") { open(); }
    else if (key === "ArrowRight") { go(at + 1); }
    else if (key === "ArrowLeft") { go(at - 1); }
    else { return; }
    event.preventDefault();
  });
  load();
}());
