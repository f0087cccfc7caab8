import { pageCsrf, send } from "../../web/js/api.js";
import { disable, isDisabled } from "../../web/js/controls.js";

/**
 * The button that stops the text being written. What was written is kept until its learner asks for another.
 * @param {HTMLElement} button
 * @param {() => string} generationId of the text that is on the page now
 * @param {(error: unknown) => void} onFailure
 */
export function wireStop(button, generationId, onFailure) {
  button.addEventListener("click", async () => {
    if (isDisabled(button)) return;
    disable(button, true);
    try {
      await send(`/api/generations/${generationId()}/cancel`, { method: "POST", csrf: pageCsrf() });
    } catch (error) {
      disable(button, false);
      onFailure(error);
    }
  });
}

/** @param {string} simulationId whose current text is to be written again */
export const askForAnother = (simulationId) =>
  send(`/api/simulations/${simulationId}/rewrite`, { method: "POST", csrf: pageCsrf() });
