import { ApiError, send, sendPatiently } from "../../web/js/api.js";
import { find } from "../../web/js/controls.js";
import { createRenderer } from "../../web/js/render.js";
import { whenShown } from "../../web/js/shown.js";
import { announce } from "../../web/js/status.js";
import { follow, generationStream } from "../../web/js/stream.js";
import { text } from "../../web/js/strings.js";
import { createFollower } from "./follower.js";
import { wirePrint } from "./print.js";

/** @param {HTMLElement} root */
function followReport(root) {
  /** @type {HTMLElement} */
  const target = find(root, "[data-report]");
  const message = find(root, "[data-note]");
  /** @type {HTMLElement} */
  const box = find(root, "[data-note-box]");
  /** @type {HTMLElement} */
  const retry = find(root, "[data-retry]");
  const id = root.dataset.generationId ?? "";
  const follower = createFollower(target);
  const renderer = createRenderer(target, follower.keepUp);
  let written = "";

  /** @param {string} kind  @param {string} words  @param {boolean} again */
  function say(kind, words, again) {
    box.hidden = false;
    box.dataset.kind = kind;
    message.textContent = words;
    retry.hidden = !again;
    announce(words);
  }

  /** @param {string} whole */
  async function finish(whole) {
    await renderer.finish(whole);
    target.removeAttribute("aria-busy");
    box.hidden = true;
    announce(text("reportReady"));
  }

  /** @param {string} words */
  function fail(words) {
    target.removeAttribute("aria-busy");
    say("error", words, true);
  }

  async function ask() {
    say("info", text("slow"), false);
    for (;;) {
      const stored = await sendPatiently(`/api/generations/${id}`);
      if (stored.status === "completed") return finish(stored.text);
      if (stored.status === "failed" || stored.status === "cancelled") return fail(text("reportFailed"));
      // Where no stream gets through, it is begun as for those without JavaScript.
      if (stored.status === "pending") await send(`${location.pathname}?again`, { accept: "text/html" });
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }

  const plain = () => ask().catch((error) => fail(error instanceof ApiError ? error.message : text("reportFailed")));

  announce(text("reportGrowing"));
  follow(generationStream(id), {
    onGiveUp: plain,
    onEvent({ type, data }) {
      if (type === "report" || type === "token") {
        written += data.token;
        renderer.append(data.token);
      } else if (type === "reset") {
        written = "";
        renderer.reset();
      } else if (type === "done" || type === "completed") {
        finish(data.full_text ?? written);
      } else if (type === "error") {
        fail(data.message || text("reportFailed"));
      }
    },
  });
}

const root = document.querySelector("[data-report-page]");
if (root instanceof HTMLElement) {
  const button = root.querySelector("[data-print]");
  if (button instanceof HTMLElement) wirePrint(button);
  if (root.dataset.status === "pending" || root.dataset.status === "running") whenShown(() => followReport(root));
}
