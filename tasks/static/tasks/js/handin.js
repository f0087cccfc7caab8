import { ApiError, sendForJson } from "../../web/js/api.js";
import { loadParser, read } from "../../web/js/stream.js";

const TRIES = 2;
const RETRY_MS = 1500;

/**
 * Hands in an answer: streamed, and after two failed tries through the plain endpoint. Asking twice is harmless, the server gives
 * the same result for the same answer. What follows is held until the learner goes on from the debrief.
 * @param {{taskId: string, answer: string, csrf: string}} submission
 * @param {() => void} onSlow the plain endpoint is being asked
 * @returns {Promise<void>} when the server has the answer; raises ApiError if it was not taken
 */
export async function handIn({ taskId, answer, csrf }, onSlow) {
  const url = `/api/tasks/${taskId}/submit`;
  const request = { body: { answer }, csrf };
  const createParser = await loadParser();
  for (let attempt = 0; createParser && attempt < TRIES; attempt += 1) {
    if (attempt) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    let accepted = false;
    try {
      await read(`${url}/stream?hold=1`, request, () => (accepted = true), createParser);
    } catch (error) {
      // A break behind the first event, or of the connection: the answer is stored, or is sent once more.
      if (!accepted && error instanceof ApiError && !error.transient) throw error;
    }
    if (accepted) return;
  }
  onSlow();
  await sendForJson(url, { method: "POST", ...request });
}
