import { announce } from "../../web/js/status.js";
import { store, recall } from "../../web/js/storage.js";
import { text } from "../../web/js/strings.js";

/** How far wall clock and monotonic clock may drift apart before the machine is taken to have slept. */
const DRIFT_MS = 1500;
const HIDDEN_KEY = "clock-hidden";

/** @param {number} seconds */
function format(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** @param {number} limit seconds  @returns {[number, string][]} */
function warnings(limit) {
  return [
    [limit / 4, "quarterLeft"],
    [60, "minuteLeft"],
    [20, "secondsLeft"],
    [0, "timeUp"],
  ];
}

/**
 * The clock of a task. The server's `seconds_left` is the truth; between two words of the server it is counted on
 * performance.now(), which a changed computer clock does not touch.
 * @param {HTMLElement} box holds [data-countdown] and [data-clock-toggle]
 * @param {{onSleep: () => void, onEnd: () => void}} events onSleep: ask the server for the time again
 */
export function createCountdown(box, { onSleep, onEnd }) {
  const display = /** @type {HTMLElement} */ (box.querySelector("[data-countdown]"));
  const toggle = box.querySelector("[data-clock-toggle]");
  const label = box.querySelector("[data-clock-label]");
  let deadline = 0;
  let limit = 0;
  let before = Infinity;
  let timer = 0;
  let skew = 0;

  const left = () => (deadline - performance.now()) / 1000;

  function tick() {
    clearTimeout(timer);
    const now = left();
    if (Math.abs(Date.now() - performance.now() - skew) > DRIFT_MS) {
      skew = Date.now() - performance.now();
      onSleep();
    }
    display.textContent = format(now);
    box.dataset.level = now <= 0 ? "up" : now <= 60 ? "low" : "";
    if (label) label.textContent = text(now <= 0 ? "clockUp" : "clockLeft");
    for (const [seconds, key] of warnings(limit)) {
      if (before > seconds && now <= seconds && (now > seconds - 10 || seconds === 0)) announce(text(key));
    }
    if (before > 0 && now <= 0) onEnd();
    before = now;
    if (now > 0) timer = setTimeout(tick, 1000 * (now - Math.ceil(now) + 1) + 5);
  }

  /** @param {boolean} hidden */
  function setHidden(hidden) {
    display.hidden = hidden;
    if (toggle) toggle.textContent = text(hidden ? "showClock" : "hideClock");
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
  }

  toggle?.addEventListener("click", () => {
    setHidden(!display.hidden);
    store("localStorage", HIDDEN_KEY, display.hidden ? "yes" : "");
  });
  toggle?.removeAttribute("hidden");
  setHidden(recall("localStorage", HIDDEN_KEY) === "yes");
  for (const name of ["visibilitychange", "pageshow"]) {
    window.addEventListener(name, () => timer && tick(), true);
  }

  return {
    stop,

    /**
     * Shows the limit of a task whose clock does not run yet.
     * @param {number | null} minutes null: no limit
     */
    show(minutes) {
      stop();
      limit = (minutes ?? 0) * 60;
      before = Infinity;
      box.dataset.level = "";
      if (label) label.textContent = text("clockWaiting");
      box.hidden = minutes === null;
      display.textContent = format(limit);
    },

    /** @param {number | null | undefined} secondsLeft null: no limit */
    start(secondsLeft) {
      stop();
      box.hidden = secondsLeft === null || secondsLeft === undefined;
      if (secondsLeft === null || secondsLeft === undefined) return;
      deadline = performance.now() + secondsLeft * 1000;
      skew = Date.now() - performance.now();
      limit = Math.max(limit, secondsLeft);
      before = Math.min(before, secondsLeft);
      tick();
    },
  };
}
