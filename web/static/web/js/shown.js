/**
 * Runs an action when the page is shown: at once, or when a page that the browser prepared ahead of time is opened. Until then
 * the server begins nothing for it. What the page offers to those without its script is removed when the action has run.
 * @param {() => void} action
 */
export function whenShown(action) {
  const begin = () => {
    action();
    document.querySelector("[data-unless-script]")?.remove();
  };
  if ("prerendering" in document && document.prerendering) {
    document.addEventListener("prerenderingchange", begin, { once: true });
  } else {
    begin();
  }
}
