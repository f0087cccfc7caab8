import { disable, find, isDisabled } from "../../web/js/controls.js";
import { store, recall } from "../../web/js/storage.js";
import { text } from "../../web/js/strings.js";

/** Letters, digits and signs; neither white space nor what nobody sees. */
const VISIBLE = /[^\p{Z}\p{C}\u115f\u1160\u2800\u3164\uffa0]/u;

/** @param {string} taskId */
const key = (taskId) => `answer:${taskId}`;

/**
 * The answer box. What is typed is kept in sessionStorage per task until the server has accepted it.
 * @param {HTMLFormElement} form
 * @param {(answer: string) => void} onSend
 * @param {() => void} onBlank nothing can be read in the answer; the next time it is sent as it is
 */
export function createAnswer(form, onSend, onBlank) {
  /** @type {HTMLTextAreaElement} */
  const box = find(form, "[data-answer]");
  /** @type {HTMLButtonElement} */
  const button = find(form, "[data-submit]");
  const counter = form.querySelector("[data-counter]");
  const hint = form.querySelector("[data-answer-hint]");
  let taskId = "";
  let ready = false;
  let sending = false;
  let asked = false;

  function update() {
    disable(button, !ready || sending);
    if (sending) button.setAttribute("aria-busy", "true");
    else button.removeAttribute("aria-busy");
    box.readOnly = sending;
    if (hint instanceof HTMLElement) hint.hidden = ready || sending;
  }

  function count() {
    const words = box.value.trim() ? box.value.trim().split(/\s+/).length : 0;
    if (!(counter instanceof HTMLElement)) return;
    const { aim } = counter.dataset;
    counter.textContent = aim ? text("counterWithAim", { words, aim }) : text("counter", { words });
  }

  const save = () => store("sessionStorage", key(taskId), box.value);

  box.addEventListener("input", () => {
    asked = false;
    save();
    count();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isDisabled(button)) return;
    save();
    if (VISIBLE.test(box.value) || asked) onSend(box.value);
    else {
      asked = true;
      onBlank();
    }
  });

  return {
    get value() {
      return box.value;
    },

    /**
     * Makes the box that of another task, with what was typed for it before.
     * @param {string} id
     */
    open(id) {
      // The first task of the page may bring text that the browser or the server put into the box.
      const given = taskId ? "" : box.value;
      taskId = id;
      box.value = recall("sessionStorage", key(id)) || given;
      sending = false;
      count();
      update();
    },

    /** @param {boolean} value the task can be answered now */
    setReady(value) {
      ready = value;
      update();
    },

    /** @param {boolean} value */
    setSending(value) {
      sending = value;
      update();
    },

    /** The server has it. */
    forget() {
      store("sessionStorage", key(taskId), "");
    },
  };
}
