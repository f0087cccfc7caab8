import { ApiError, send } from "./api.js";

/**
 * One frame of the contract: `type` is metadata, token, report, done, completed, held, mark, assessed, reset, reconnect or error.
 * @typedef {{type: string, data: any}} StreamEvent
 *
 * @typedef {object} Listener
 * @property {(event: StreamEvent, cursor: string) => void} onEvent with the position behind the event
 * @property {() => void} onGiveUp streaming failed twice, or the server says that there is nothing more: ask the plain endpoint
 */

const LAST = new Set(["done", "completed", "held", "assessed", "error"]);
const TRIES = 2;
const RETRY_MS = 1500;
/** Comments come every 15 s, but EventSource hides them: after this silence the connection is opened anew, by cursor. */
const SILENCE_MS = 40000;
/** A server that announced its restart is given this many failed tries more. */
const RESTART_GRACE = 4;

/** @param {string} json  @returns {StreamEvent | null} */
function parse(json) {
  try {
    const event = JSON.parse(json);
    return event && typeof event.type === "string" ? { type: event.type, data: event.data ?? {} } : null;
  } catch {
    return null;
  }
}

/** @param {string} url  @param {string} cursor */
function after(url, cursor) {
  return cursor ? `${url}?after=${encodeURIComponent(cursor)}` : url;
}

/** @param {string} generationId */
export function generationStream(generationId) {
  return `/api/generations/${generationId}/stream`;
}

/**
 * Follows a stream by GET. The browser resumes by itself with Last-Event-ID; a connection it has given up is opened once more.
 * @param {string} url
 * @param {Listener} listener
 * @param {string} [cursor] position to go on from
 */
export function follow(url, { onEvent, onGiveUp }, cursor = "") {
  let failures = 0;
  let timer = 0;
  let generationId = "";
  /** @type {EventSource} */
  let source;

  function close() {
    clearTimeout(timer);
    source.close();
  }

  function reopen() {
    source.close();
    open(cursor && generationId ? generationStream(generationId) : url);
  }

  /** @param {() => void} action  @param {number} delay */
  function later(action, delay) {
    clearTimeout(timer);
    timer = setTimeout(action, delay);
  }

  /** @param {string} address */
  function open(address) {
    const resumed = cursor !== "";
    source = new EventSource(after(address, cursor));
    later(reopen, SILENCE_MS);

    source.onmessage = (message) => {
      later(reopen, SILENCE_MS);
      if (message.lastEventId) cursor = message.lastEventId;
      const event = parse(message.data);
      if (!event) return;
      // The break that ends a living stream is no failed try.
      failures = event.type === "reconnect" ? -RESTART_GRACE : -1;
      generationId = event.data.generation_id || generationId;
      if (LAST.has(event.type)) close();
      onEvent(event, cursor);
    };

    source.onerror = () => {
      failures += 1;
      if (failures >= TRIES) {
        close();
        onGiveUp();
      } else if (resumed || source.readyState === EventSource.CLOSED) {
        // With ?after= in its address the browser's own retry would ask with two cursors, the older one in the address.
        source.close();
        later(reopen, RETRY_MS);
      }
    };
  }

  open(url);
  return { close };
}

/**
 * What takes a stream read by POST apart; null if the file for it could not be loaded.
 * @returns {Promise<typeof import("../../vendor/eventsource-parser.js").createParser | null>}
 */
export function loadParser() {
  return import("../../vendor/eventsource-parser.js").then(
    ({ createParser }) => createParser,
    () => null,
  );
}

/**
 * Sends once by POST and reads the answer. Resolves when it ends, for whatever reason; raises ApiError when the server
 * refuses or is not reached, something else when the connection breaks or falls silent.
 * @param {string} url
 * @param {{body: object, csrf: string}} request
 * @param {(event: StreamEvent, cursor: string) => void} onEvent
 * @param {typeof import("../../vendor/eventsource-parser.js").createParser} createParser
 */
export async function read(url, { body, csrf }, onEvent, createParser) {
  const parser = createParser({
    onEvent(message) {
      const event = parse(message.data);
      if (event) onEvent(event, message.id ?? "");
    },
  });
  const abort = new AbortController();
  let timer = 0;
  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), SILENCE_MS);
  };
  watch();
  try {
    const response = await send(url, { method: "POST", body, csrf, accept: "text/event-stream", signal: abort.signal });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = (await reader?.read()) ?? { value: "", done: true };
      if (done) return;
      watch();
      parser.feed(value);
    }
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Sends by POST and follows the answer. After a break it goes on by GET from the cursor; a break before the first event is
 * tried once more, because a repeated request gets the same result.
 * @param {string} url
 * @param {{body: object, csrf: string}} request
 * @param {Listener} listener
 * @returns {Promise<{close: () => void} | null>} what follows by GET, or null if the stream came to its end or was given up;
 *   raises ApiError when the server refuses
 */
export async function post(url, request, { onEvent, onGiveUp }) {
  let cursor = "";
  let generationId = "";
  let lastType = "";

  /** @param {StreamEvent} event  @param {string} id */
  function take(event, id) {
    cursor = id || cursor;
    generationId = event.data.generation_id || generationId;
    lastType = event.type;
    onEvent(event, cursor);
  }

  const createParser = await loadParser();
  for (let attempt = 0; createParser && attempt < TRIES && !lastType; attempt += 1) {
    if (attempt) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    try {
      await read(url, request, take, createParser);
    } catch (error) {
      if (error instanceof ApiError && !error.transient) throw error;
    }
  }

  if (LAST.has(lastType)) return null;
  if (lastType && generationId) return follow(generationStream(generationId), { onEvent, onGiveUp }, cursor);
  onGiveUp();
  return null;
}
