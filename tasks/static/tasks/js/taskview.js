import { conceal, find, reveal } from "../../web/js/controls.js";
import { text } from "../../web/js/strings.js";

/**
 * The task on the page: its words, its place in the run, and what becomes of it when it is done.
 * @param {HTMLElement} root
 */
export function createTaskView(root) {
  /** @type {HTMLElement} */
  const question = find(root, "[data-question]");
  const title = find(root, "[data-title]");
  /** @type {HTMLElement} */
  const source = find(root, "[data-source]");
  /** @type {HTMLElement} */
  const stop = find(root, "[data-stop]");

  /** @param {"waiting" | "writing" | "ready" | "failed" | "cancelled"} state */
  function setState(state) {
    if (question.dataset.state === state && question.hasAttribute("aria-busy")) return;
    const busy = state === "waiting" || state === "writing";
    question.dataset.state = state;
    if (busy) {
      question.setAttribute("aria-busy", "true");
      reveal(stop);
    } else {
      question.removeAttribute("aria-busy");
      conceal(stop);
    }
  }

  /** @param {import("../../web/js/api.js").SourceData} data */
  function tellSource({ source: who, authored_because: because, was_cut: wasCut }) {
    const authored = because === "budget" ? "sourceBudget" : because === "no_candidate" ? "sourceNoCandidate" : "sourceAuthored";
    source.textContent = text(who === "authored" ? authored : wasCut ? "sourceCut" : "sourceModel");
  }

  return {
    question,
    stop,
    tellSource,
    setState,
    isBusy: () => question.hasAttribute("aria-busy"),

    /** @param {import("../../web/js/api.js").TaskData} task */
    describe(task) {
      root.dataset.generationId = task.generation_id;
      title.textContent = task.title;
      document.title = document.title.replace(/^[^·]*/, `${task.title} `);
      tellSource(task);
      question.lang = task.language || question.lang;
      find(root, "[data-progress]").textContent = text("progress", { order: task.order, total: task.total });
      const bar = root.querySelector("progress");
      if (bar) {
        bar.max = task.total;
        bar.value = task.order - 1;
      }
    },
  };
}
