// The overview is live, and lists have a box that chooses all keys. All pages work without this.
"use strict";

function live(button) {
  const part = document.getElementById("live");
  let source = null;
  function start() {
    source = new EventSource(button.dataset.live);
    source.addEventListener("overview", (event) => {
      // A link that has the focus would lose it.
      if (!part.contains(document.activeElement)) part.innerHTML = event.data;
    });
  }
  function stop() {
    if (source) source.close();
    source = null;
  }
  function show(paused) {
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Resume" : "Pause";
  }
  button.addEventListener("click", () => {
    const pause = source !== null;
    if (pause) stop(); else start();
    show(pause);
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => {
    if (event.persisted && button.getAttribute("aria-pressed") === "false") start();
  });
  button.hidden = false;
  start();
}

function pickAll(box) {
  const boxes = () => box.form.querySelectorAll("input[name=target]");
  box.hidden = false;
  box.addEventListener("change", () => boxes().forEach((b) => { b.checked = box.checked; }));
}

const pause = document.getElementById("pause");
if (pause) live(pause);
const pick = document.getElementById("pick-all");
if (pick) pickAll(pick);
