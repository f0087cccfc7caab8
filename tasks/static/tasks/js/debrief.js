import { sendPatiently } from "../../web/js/api.js";
import { find } from "../../web/js/controls.js";
import { whenShown } from "../../web/js/shown.js";
import { announce } from "../../web/js/status.js";
import { follow } from "../../web/js/stream.js";
import { text } from "../../web/js/strings.js";
import { createPassages } from "./passages.js";

/**
 * @typedef {{criterion: string, title: string, points: number, most: number, level: string, quotation: string,
 *   start: number | null, end: number | null, reason: string}} MarkData
 * @typedef {{title: string, value: number, unit: string, good: string, change: number, reason: string}} ChangeData
 */

const LOOK_AGAIN_MS = 3000;

/** @param {Element} parent  @param {string} selector  @param {string} words empty: it is hidden */
function fill(parent, selector, words) {
  const element = find(parent, selector);
  element.textContent = words;
  element.hidden = !words;
}

/** @param {HTMLElement} root */
function followMarks(root) {
  const address = `/api/tasks/${root.dataset.taskId}/assessment`;
  const passages = createPassages(find(root, "[data-own-answer]"));
  /** @type {HTMLElement[]} */
  const items = [...root.querySelectorAll("[data-criterion]")].filter((item) => item instanceof HTMLElement);
  let points = 0;

  /** @param {MarkData} mark */
  function show(mark) {
    const item = items.find(({ dataset }) => dataset.criterion === mark.criterion);
    if (!item || "marked" in item.dataset) return;
    item.dataset.marked = "";
    find(item, "[data-mark-points]").textContent = String(mark.points);
    fill(item, "[data-mark-reason]", mark.reason);
    fill(item, "[data-mark-quotation]", mark.quotation);
    find(item, "[data-mark-level]").textContent = mark.level;
    find(item, "[data-mark]").hidden = false;
    find(item, "[data-mark-waiting]").hidden = true;
    passages.add(mark.start, mark.end, item.dataset.number ?? "");
    points += mark.points;
    announce(text("marked", { title: mark.title, points: mark.points, most: mark.most }));
  }

  function withdraw() {
    points = 0;
    passages.clear();
    for (const item of items) {
      delete item.dataset.marked;
      find(item, "[data-mark-points]").textContent = "–";
      find(item, "[data-mark]").hidden = true;
      find(item, "[data-mark-waiting]").hidden = false;
    }
  }

  /** @param {ChangeData} change */
  function changeItem(change) {
    /** @type {HTMLTemplateElement} */
    const template = find(root, "[data-change-template]");
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    const amount = find(copy, "[data-change-amount]");
    const isGood = change.good === "up" ? change.change > 0 : change.change < 0;
    find(copy, "[data-change-title]").textContent = change.title;
    find(copy, "[data-change-value]").textContent = [change.value, change.unit].filter(Boolean).join(" ");
    amount.textContent = `(${change.change > 0 ? "+" : ""}${change.change})`;
    amount.dataset.way = change.change === 0 ? "same" : isGood ? "good" : "bad";
    find(copy, "[data-change-reason]").textContent = text("because", { reason: change.reason });
    return copy;
  }

  /** @param {{status: string, marks: MarkData[], state_changes: ChangeData[], next_time: string}} whole */
  function finish(whole) {
    // What there is instead of marks, such as the form to mark oneself, comes with the page.
    if (whole.status === "not_marked") return location.reload();
    for (const mark of whole.marks) show(mark);
    root.dataset.status = whole.status;
    find(root, "[data-points]").textContent = String(points);
    find(root, "[data-total]").hidden = false;
    find(root, "[data-verdict]").textContent = text("markedByModel");
    find(root, "[data-changes-list]").replaceChildren(...whole.state_changes.map(changeItem));
    find(root, "[data-changes]").hidden = whole.state_changes.length === 0;
    fill(root, "[data-next-time-text]", whole.next_time);
    find(root, "[data-next-time]").hidden = !whole.next_time;
    find(root, "[data-review]").hidden = false;
    announce(text("allMarked"));
  }

  async function ask() {
    for (;;) {
      const whole = await sendPatiently(address);
      if (whole.status !== "pending") return finish(whole);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  follow(`${address}/stream`, {
    onGiveUp: () => ask().catch(() => location.reload()),
    onEvent({ type, data }) {
      if (type === "mark") show(data);
      else if (type === "reset") withdraw();
      else if (type === "assessed") finish(data);
      else if (type === "error") location.reload();
    },
  });
}

const root = document.querySelector("[data-debrief-page]");
if (root instanceof HTMLElement && root.dataset.status === "pending") whenShown(() => followMarks(root));
