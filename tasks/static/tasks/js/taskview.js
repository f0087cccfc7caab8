import { conceal, find, reveal } from "../../web/js/controls.js";
import { text } from "../../web/js/strings.js";

/**
 * The task on the page: its words, its place in the run, and what becomes of it when it is done.
 * @param {HTMLElement} root
 */
export function createTaskView(root) {
  /** @type {HTMLElement} */
  const question = find(root, "[data-question]");
  /** @type {HTMLElement} */
  const report = find(root, "[data-report]");
  const title = find(root, "[data-title]");
  /** @type {HTMLElement} */
  const source = find(root, "[data-source]");
  /** @type {HTMLElement} */
  const stop = find(root, "[data-stop]");
  /** @type {HTMLElement} */
  const earlier = find(root, "[data-earlier]");
  let order = Number(root.dataset.order);

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

  /** @param {string} answer */
  function putAway(answer) {
    /** @type {HTMLTemplateElement} */
    const template = find(root, "[data-earlier-template]");
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    find(copy, "[data-earlier-title]").textContent = text("earlierTitle", { order, title: title.textContent.trim() });
    find(copy, "[data-earlier-question]").append(...question.childNodes);
    find(copy, "[data-earlier-answer]").textContent = answer;
    find(earlier, "[data-earlier-list]").append(copy);
    earlier.hidden = false;
  }

  /** @param {import("../../web/js/api.js").SourceData} data */
  function tellSource({ source: who, authored_because: because, was_cut: wasCut }) {
    const authored = because === "budget" ? "sourceBudget" : because === "no_candidate" ? "sourceNoCandidate" : "sourceAuthored";
    source.textContent = text(who === "authored" ? authored : wasCut ? "sourceCut" : "sourceModel");
  }

  return {
    question,
    report,
    stop,
    tellSource,
    setState,
    putAway,
    isBusy: () => question.hasAttribute("aria-busy"),

    /** @param {import("../../web/js/api.js").TaskData} task */
    describe(task) {
      const old = root.dataset.taskId;
      order = task.order;
      root.dataset.taskId = String(task.id);
      root.dataset.generationId = task.generation_id;
      for (const form of root.querySelectorAll("form")) {
        const action = form.getAttribute("action") ?? "";
        form.setAttribute("action", action.replace(`/tasks/${old}/`, `/tasks/${task.id}/`));
      }
      title.textContent = task.title;
      document.title = document.title.replace(/^[^·]*/, `${task.title} `);
      tellSource(task);
      question.lang = task.language || question.lang;
      find(root, "[data-progress]").textContent = text("progress", { order: task.order, total: task.total });
      const bar = root.querySelector("progress");
      if (bar) {
        bar.max = task.total;
        bar.value = task.order;
      }
    },

    /** The last answer is in: the report takes the place of the task. */
    beginReport() {
      if (!report.hidden) return;
      title.textContent = text("reportTitle");
      source.textContent = "";
      question.hidden = true;
      report.hidden = false;
      report.setAttribute("aria-busy", "true");
    },

    /**
     * Brings the beginning of the text into view if it is out of it, and keeps it there while the text grows: browsers would hold
     * the focused box still, which on a phone pushes the text out at the top. From the first key on, the box counts again.
     */
    comeToTop() {
      const page = document.documentElement;
      page.dataset.reads = "";
      root.addEventListener("input", () => delete page.dataset.reads, { once: true });
      const { top, bottom } = title.getBoundingClientRect();
      title.scrollIntoView({ block: top < 0 || bottom > window.innerHeight ? "start" : "nearest" });
    },
  };
}
