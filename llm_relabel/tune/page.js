"use strict";
// What is ticked becomes the command that does it: the page itself changes nothing.
(() => {
  const command = document.getElementById("command");
  if (!command) return;
  const quoted = (text) => /^[\w.\/-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
  const show = () => {
    const chosen = { accept: [], reject: [] };
    for (const input of document.querySelectorAll(".entry input:checked")) {
      if (input.value in chosen) chosen[input.value].push(input.dataset.label);
    }
    const words = ["llm-relabel", "tune", quoted(command.dataset.job)];
    for (const way of ["accept", "reject"]) {
      for (const name of chosen[way]) words.push("--" + way, quoted(name));
    }
    const none = !chosen.accept.length && !chosen.reject.length;
    command.textContent = none ? "Choose above; the command appears here." : words.join(" ");
  };
  document.addEventListener("change", show);
  document.getElementById("all").addEventListener("click", () => {
    for (const input of document.querySelectorAll(".entry input[value=accept]")) input.checked = true;
    show();
  });
  show();
})();
