import { ApiError, sendPatiently } from "../../web/js/api.js";
import { find } from "../../web/js/controls.js";
import { createRenderer } from "../../web/js/render.js";
import { announce } from "../../web/js/status.js";
import { follow, generationStream } from "../../web/js/stream.js";
import { text } from "../../web/js/strings.js";
import { createFigures } from "./figures.js";

/** Stands in the addresses of the template for the generation's id. */
const NO_ID = "00000000-0000-0000-0000-000000000000";
const ASK_AGAIN_MS = 3000;

/** @typedef {import("../../web/js/stream.js").StreamEvent} StreamEvent */

/**
 * One column: a text by one model, from the wait for it to its end, with the connection it goes on by after a break.
 * @param {HTMLTemplateElement} template
 * @param {{number: number, model: string, onEnd: () => void}} options
 */
export function createVariant(template, { number, model, onEnd }) {
  const root = /** @type {HTMLElement} */ (template.content.cloneNode(true)).firstElementChild;
  if (!(root instanceof HTMLElement)) throw new Error("The template of a column is empty");
  const element = root;
  const words = find(element, "[data-text]");
  const figures = createFigures(element);
  const renderer = createRenderer(words);
  let id = "";
  let cursor = "";
  let over = false;
  /** @type {{close: () => void} | null} */
  let stream = null;

  find(element, "[data-number]").textContent = String(number);
  find(element, "[data-model]").textContent = model;
  show("waiting", text("variantWaiting"));

  /** @param {string} name  @param {string} sentence */
  function show(name, sentence) {
    element.dataset.state = name;
    find(element, "[data-state-line]").textContent = sentence;
  }

  /** @param {string} sentence */
  function tell(sentence) {
    announce(text("variantNews", { number, model, news: sentence }));
  }

  function writing() {
    if (element.dataset.state !== "again") show("writing", text("variantWriting"));
  }

  function beginAgain() {
    renderer.reset();
    figures.reset();
    show("again", text("variantAgain"));
    tell(text("variantAgain"));
  }

  /** @param {string} name  @param {string} sentence */
  function end(name, sentence) {
    over = true;
    stream?.close();
    figures.stop();
    words.removeAttribute("aria-busy");
    show(name, sentence);
    tell(sentence);
    onEnd();
  }

  /** @param {{full_text: string} & import("./figures.js").Account} account */
  async function finish(account) {
    over = true;
    figures.settle(account);
    await renderer.finish(account.full_text);
    end("done", text("variantDone"));
    find(element, "[data-keep]").hidden = false;
  }

  /** @param {string} [sentence] */
  function fail(sentence) {
    if (!over) end("failed", sentence || text("failed"));
  }

  /** @param {string} generationId */
  function learnId(generationId) {
    id = generationId;
    for (const name of ["href", "action"]) {
      for (const node of element.querySelectorAll(`[${name}*="${NO_ID}"]`)) {
        node.setAttribute(name, node.getAttribute(name)?.replace(NO_ID, id) ?? "");
      }
    }
    find(element, "[data-log]").hidden = false;
  }

  /** @param {StreamEvent} event  @param {string} at */
  function onEvent({ type, data }, at) {
    if (over) return;
    cursor = at || cursor;
    if (!id && data.generation_id) learnId(data.generation_id);
    if (type === "token") {
      writing();
      figures.grow(data.token);
      renderer.append(data.token);
    } else if (type === "reset") {
      beginAgain();
    } else if (type === "done") {
      finish(data);
    } else if (type === "variantError" || type === "error") {
      fail(data.message);
    }
  }

  /** Streaming failed, perhaps with the whole server: ask for the row until somebody answers, and try again. */
  async function ask() {
    try {
      const stored = await sendPatiently(`/api/generations/${id}`);
      if (over) return;
      if (stored.status === "completed") {
        const attempt = stored.attempts.findLast((/** @type {any} */ one) => one.outcome === "completed");
        await finish({ ...attempt, full_text: stored.text });
      } else if (stored.status === "failed" || stored.status === "cancelled") {
        fail();
      } else {
        setTimeout(goOn, ASK_AGAIN_MS);
      }
    } catch (error) {
      fail(error instanceof ApiError ? error.message : "");
    }
  }

  function goOn() {
    stream = follow(generationStream(id), { onEvent, onGiveUp: ask }, cursor);
  }

  return {
    element,
    onEvent,

    /** The connection that all columns share is gone: go on alone from the last event seen. */
    resume() {
      if (over || stream) return;
      if (!id) return fail(text("unreachable"));
      show("lost", text("variantLost"));
      goOn();
    },

    /** Takes the column from the page; its text goes on at the server. */
    remove() {
      over = true;
      stream?.close();
      figures.stop();
      element.remove();
    },
  };
}
