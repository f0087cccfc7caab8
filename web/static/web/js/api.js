import { text } from "./strings.js";

/**
 * Who wrote a text, and why an author did where a model was to: known for certain at the text's end.
 * @typedef {object} SourceData
 * @property {"model" | "authored"} source
 * @property {"" | "no_model" | "no_candidate" | "budget"} [authored_because]
 * @property {boolean} [was_cut] it came to its longest before it came to its end
 */

/**
 * A task as `metadata` and the plain endpoints tell it.
 * @typedef {object} TaskFields
 * @property {number} id
 * @property {number} order
 * @property {number} total
 * @property {string} title
 * @property {number | null} time_limit_minutes
 * @property {number | null} seconds_left
 * @property {string} generation_id
 * @property {string} language
 * @property {string} [question] only in the plain answer: the complete text
 *
 * @typedef {TaskFields & SourceData} TaskData
 */

/** What an error answer (or an `error` event) says, with a message fit for the learner. */
export class ApiError extends Error {
  /**
   * @param {number} status 0: no answer came at all
   * @param {{code?: string, message?: string, retryable?: boolean}} body
   */
  constructor(status, body) {
    super(body.message || text(status === 0 ? "unreachable" : "serverTrouble"));
    this.status = status;
    this.code = body.code ?? "";
    /** The server did not speak for itself: the network or a proxy is in trouble, trying again is right. */
    this.transient = status === 0 || (status >= 500 && !body.code);
    this.retryable = body.retryable ?? (this.transient || status === 429 || status >= 500);
  }
}

/**
 * @param {string} url
 * @param {{method?: string, body?: object, csrf?: string, accept?: string, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} with a status below 400; everything else raises ApiError
 */
export async function send(url, { method = "GET", body, csrf = "", accept = "application/json", signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: accept };
  if (method !== "GET") headers["X-CSRFToken"] = csrf;
  if (body) headers["Content-Type"] = "application/json";
  const ask = () =>
    fetch(url, { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) }).catch(() => {
      throw new ApiError(0, {});
    });
  let response = await ask();
  if (response.ok) return response;
  let problem = await response.json().catch(() => ({}));
  if (problem.code === "csrf_failed") {
    headers["X-CSRFToken"] = await renewCsrf();
    response = await ask();
    if (response.ok) return response;
    problem = await response.json().catch(() => ({}));
  }
  throw new ApiError(response.status, problem);
}

/** @returns {string} the token of the page's forms */
export function pageCsrf() {
  const input = document.querySelector("input[name=csrfmiddlewaretoken]");
  return input?.getAttribute("value") ?? "";
}

/** Logging in or signing up, in any tab, makes the tokens of open pages invalid. */
async function renewCsrf() {
  const { token } = await sendForJson("/account/csrf");
  for (const input of document.querySelectorAll("input[name=csrfmiddlewaretoken]")) input.setAttribute("value", token);
  return token;
}

/**
 * @param {string} url
 * @param {Parameters<typeof send>[1]} [options]
 * @returns {Promise<any>} the parsed JSON
 */
export async function sendForJson(url, options) {
  const response = await send(url, options);
  try {
    return await response.json();
  } catch {
    throw new ApiError(0, {});
  }
}

/**
 * Asks again, more and more slowly, for as long as nobody answers.
 * @param {string} url
 * @param {AbortSignal} [signal]
 */
export async function sendPatiently(url, signal) {
  for (let wait = 2000; ; wait = Math.min(wait * 2, 15000)) {
    try {
      return await sendForJson(url, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || !error.transient || signal?.aborted) throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, wait);
      window.addEventListener("online", resolve, { once: true });
    });
  }
}
