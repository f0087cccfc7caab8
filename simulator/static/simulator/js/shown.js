/**
 * Runs an action when the page is shown: at once, or when a page that the browser prepared ahead of time is opened. Until then
 * the server begins nothing for it.
 * @param {() => void} action
 */
export function whenShown(action) {
  if ("prerendering" in document && document.prerendering) {
    document.addEventListener("prerenderingchange", action, { once: true });
  } else {
    action();
  }
}
