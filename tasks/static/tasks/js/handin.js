import { sendForJson } from "../../web/js/api.js";
import { post } from "../../web/js/stream.js";

/**
 * Hands in an answer: streamed, and after two failed tries through the plain endpoint. Asking twice is harmless, the server gives
 * the same result for the same answer.
 * @param {{taskId: string, answer: string, csrf: string}} submission
 * @param {object} listener
 * @param {() => void} listener.onAccepted once, as soon as the server has the answer
 * @param {(event: import("../../web/js/stream.js").StreamEvent) => void} listener.onEvent
 * @param {() => void} listener.onSlow the plain endpoint is being asked
 * @param {(result: any) => void} listener.onWhole its result
 * @param {() => void} listener.onLost accepted, but what follows can't be streamed
 * @returns {Promise<{close: () => void} | null>} raises ApiError if the answer was not taken
 */
export async function handIn({ taskId, answer, csrf }, { onAccepted, onEvent, onSlow, onWhole, onLost }) {
  const url = `/api/tasks/${taskId}/submit`;
  const body = { answer };
  let accepted = false;
  let plainly = false;

  const stream = await post(
    `${url}/stream`,
    { body, csrf },
    {
      onEvent(event) {
        if (!accepted) onAccepted();
        accepted = true;
        onEvent(event);
      },
      onGiveUp() {
        if (accepted) onLost();
        else plainly = true;
      },
    },
  );
  if (plainly) {
    onSlow();
    const result = await sendForJson(url, { method: "POST", body, csrf });
    onAccepted();
    onWhole(result);
  }
  return stream;
}
