"use strict";
// The player: one clock, in seconds, which the recording drives where there is one. Without script the page is a
// text with times and the browser's own controls.
(() => {
  const STEP = 5; // seconds an arrow key moves
  const PATIENCE = 4000; // milliseconds after people scrolled before the page follows the sound again

  const find = (selector) => document.querySelector(selector);
  const audio = find("audio");
  const wave = find("#wave"), cursor = find("#cursor"), played = find("#played rect");
  const play = find("#play"), shown = find("#clock b");
  const duration = Number(document.body.dataset.duration);
  const units = [...document.querySelectorAll("#text .unit[data-start]")];
  const inOrder = units.map((unit) => [Number(unit.dataset.start), Number(unit.dataset.end), unit]);
  inOrder.sort((a, b) => a[0] - b[0]);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let time = 0, current = null, scrolled = -PATIENCE;

  function clock(seconds) {
    const s = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
    const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
  }

  // The last unit that has begun, where it hasn't ended or nothing follows it at once.
  function unitAt(seconds) {
    let low = 0, high = inOrder.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (inOrder[middle][0] <= seconds) low = middle + 1; else high = middle;
    }
    return low && seconds < inOrder[low - 1][1] + 0.3 ? inOrder[low - 1][2] : null;
  }

  function mark(unit) {
    if (unit === current) return;
    for (const element of document.querySelectorAll(".now")) element.classList.remove("now");
    current = unit;
    if (!unit) return;
    const segment = unit.closest(".segment");
    unit.classList.add("now");
    segment.classList.add("now");
    if (audio && !audio.paused && performance.now() - scrolled > PATIENCE) follow(unit);
  }

  function follow(unit) {
    const box = unit.getBoundingClientRect(), top = find(".player").getBoundingClientRect().bottom;
    if (box.top > top + 8 && box.bottom < innerHeight - 40) return;
    unit.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
  }

  function show() {
    const share = duration ? Math.min(1, time / duration) * 1000 : 0;
    cursor.setAttribute("x1", share);
    cursor.setAttribute("x2", share);
    played.setAttribute("width", share);
    shown.textContent = clock(time);
    wave.setAttribute("aria-valuenow", time.toFixed(1));
    wave.setAttribute("aria-valuetext", `${clock(time)} of ${clock(duration)}`);
    mark(unitAt(time));
  }

  function seek(seconds) {
    time = Math.min(duration, Math.max(0, seconds));
    if (audio) audio.currentTime = time;
    show();
  }

  function listen(seconds) {
    seek(seconds);
    scrolled = -PATIENCE;
    if (audio) audio.play().catch(() => {});
    else if (current) follow(current);
  }

  function toggle() {
    if (!audio) return;
    if (audio.paused) audio.play().catch(() => {}); else audio.pause();
  }

  function tick() {
    time = audio.currentTime;
    show();
    if (!audio.paused) requestAnimationFrame(tick);
  }

  function setUpPlayer() {
    find(".controls").hidden = false;
    if (!audio) {
      play.hidden = true;
      find(".speed").hidden = true;
      return;
    }
    audio.controls = false;
    play.addEventListener("click", toggle);
    find("#speed").addEventListener("change", (event) => { audio.playbackRate = Number(event.target.value); });
    for (const name of ["play", "pause", "ended"]) {
      audio.addEventListener(name, () => {
        play.setAttribute("aria-pressed", String(!audio.paused));
        play.lastElementChild.textContent = audio.paused ? "Play" : "Pause";
        tick();
      });
    }
    audio.addEventListener("seeked", () => { if (audio.paused) tick(); });
    audio.addEventListener("error", () => {
      play.disabled = true;
      play.lastElementChild.textContent = "No sound";
    });
  }

  function setUpWave() {
    const facts = { role: "slider", tabindex: 0, "aria-label": "Position in the recording", "aria-valuemin": 0 };
    for (const [name, value] of Object.entries(facts)) wave.setAttribute(name, value);
    wave.setAttribute("aria-valuemax", duration.toFixed(1));
    const point = (event) => {
      const box = wave.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * duration);
    };
    wave.addEventListener("pointerdown", (event) => {
      wave.setPointerCapture(event.pointerId);
      point(event);
    });
    wave.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  }

  function setUpText() {
    const text = find("#text");
    if (units.length) units[0].tabIndex = 0;
    text.addEventListener("click", (event) => {
      const unit = event.target.closest(".unit"), button = event.target.closest("[data-seek]");
      if (button) listen(Number(button.dataset.seek));
      else if (unit && getSelection().isCollapsed) listen(Number(unit.dataset.start));
    });
    text.addEventListener("mouseover", (event) => {
      const unit = event.target.closest(".unit");
      if (unit) unit.title = clock(Number(unit.dataset.start)) + (unit.dataset.share ? ` · ${unit.dataset.share} %` : "");
    });
    find("#shade").addEventListener("change", (event) => {
      document.body.classList.toggle("plain", !event.target.checked);
    });
  }

  // One unit can be reached with Tab; from it arrows lead to the others.
  function focusUnit(from, to) {
    if (!to) return;
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }

  function besides(unit, step) {
    return units[units.indexOf(unit) + step];
  }

  function inSegment(unit, sibling) {
    let segment = unit.closest(".segment")[sibling];
    while (segment && !segment.querySelector(".unit[data-start]")) segment = segment[sibling];
    return segment && segment.querySelector(".unit[data-start]");
  }

  const UNIT_KEYS = {
    ArrowLeft: (unit) => focusUnit(unit, besides(unit, -1)),
    ArrowRight: (unit) => focusUnit(unit, besides(unit, 1)),
    ArrowUp: (unit) => focusUnit(unit, inSegment(unit, "previousElementSibling")),
    ArrowDown: (unit) => focusUnit(unit, inSegment(unit, "nextElementSibling")),
    Enter: (unit) => listen(Number(unit.dataset.start)),
    " ": toggle,
  };
  const PAGE_KEYS = {
    ArrowLeft: () => seek(time - STEP),
    ArrowRight: () => seek(time + STEP),
    " ": toggle,
  };
  const WAVE_KEYS = {
    ...PAGE_KEYS,
    ArrowDown: PAGE_KEYS.ArrowLeft,
    ArrowUp: PAGE_KEYS.ArrowRight,
    Home: () => seek(0),
    End: () => seek(duration),
  };

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = event.target, unit = at.closest("#text .unit");
    if (at.closest("select, input, summary, a") || (at.closest("button") && event.key === " ")) return;
    const keys = unit ? UNIT_KEYS : at === wave ? WAVE_KEYS : PAGE_KEYS;
    if (!Object.hasOwn(keys, event.key) || (event.key === " " && !audio)) return;
    event.preventDefault();
    keys[event.key](unit);
  }

  setUpPlayer();
  setUpWave();
  setUpText();
  document.addEventListener("keydown", press);
  for (const name of ["wheel", "touchmove"]) {
    addEventListener(name, () => { scrolled = performance.now(); }, { passive: true });
  }
  show();
})();
