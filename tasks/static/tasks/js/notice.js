import { ApiError } from "../../web/js/api.js";
import { conceal, find, isDisabled, reveal } from "../../web/js/controls.js";
import { announce } from "../../web/js/status.js";
import { text } from "../../web/js/strings.js";

/**
 * The notice beside the answer box: what was accepted, what went wrong, and the one thing to do about it.
 * @param {HTMLElement} root
 * @param {() => void} onRetry what the retry button does unless a failure says otherwise
 */
export function createNotice(root, onRetry) {
  /** @type {HTMLElement} */
  const box = find(root, "[data-note-box]");
  const message = find(box, "[data-note]");
  /** @type {HTMLAnchorElement} */
  const link = find(box, "[data-note-link]");
  const form = find(box, "[data-retry-form]");
  const button = find(form, "[data-retry]");
  let action = onRetry;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isDisabled(button)) action();
  });

  /**
   * @param {"info" | "ok" | "warning" | "error"} kind
   * @param {string} words
   * @param {string} [label] of the retry button; none: no button
   * @param {() => void} [retry]
   */
  function show(kind, words, label = "", retry = onRetry) {
    box.dataset.kind = kind;
    box.hidden = false;
    message.textContent = words;
    link.hidden = true;
    action = retry;
    if (label) {
      button.textContent = label;
      reveal(button);
    } else {
      conceal(button);
    }
    announce(words);
  }

  /** @param {string} href  @param {string} label */
  function offer(href, label) {
    link.href = href;
    link.textContent = label;
    link.hidden = false;
  }

  return {
    show,

    /**
     * Says what goes on instead of what is no longer so; where nothing was said, the live region alone says it.
     * @param {string} words
     */
    replace(words) {
      if (box.hidden) announce(words);
      else show("info", words);
    },

    /**
     * What went on is over; that an answer was accepted stays to be read.
     * @param {string} words said here if the focus keeps the notice on the page
     */
    settle(words) {
      if (box.dataset.kind === "ok") return;
      message.textContent = words;
      conceal(box);
    },

    /**
     * @param {unknown} error
     * @param {string} [label]
     * @param {() => void} [retry]
     */
    fail(error, label = "", retry = onRetry) {
      if (!(error instanceof ApiError)) {
        reportError(error);
        show("error", text("serverTrouble"), label, retry);
      } else if (error.status === 401 || error.status === 403) {
        show("error", text("sessionEnded"));
        offer(`${root.dataset.loginUrl}?next=${encodeURIComponent(location.pathname)}`, text("logIn"));
      } else if (error.status === 409) {
        show("warning", error.code === "already_submitted" ? text("alreadySubmitted") : error.message);
        offer(location.pathname, text("reload"));
      } else {
        show("error", error.message, error.retryable ? label : "", retry);
      }
    },
  };
}
