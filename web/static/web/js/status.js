const region = document.querySelector("[data-status]");
/** A screen reader needs the region emptied before the same words count as news, and time before the next ones replace them. */
const EMPTY_MS = 100;
const READ_MS = 1000;
/** @type {string[]} */
const queue = [];
let speaking = false;

function speak() {
  const message = queue.shift();
  speaking = message !== undefined;
  if (!region || message === undefined) return;
  region.textContent = "";
  setTimeout(() => {
    region.textContent = message;
    setTimeout(speak, READ_MS);
  }, EMPTY_MS);
}

/**
 * Says something through the page's one polite live region, after what is being said.
 * @param {string} message
 */
export function announce(message) {
  if (queue.at(-1) !== message) queue.push(message);
  if (!speaking) speak();
}
