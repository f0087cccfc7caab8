/** Storage that may be full or forbidden: then nothing is kept, and nothing breaks. @typedef {"localStorage" | "sessionStorage"} Place */

/** @param {Place} place  @param {string} key */
export function recall(place, key) {
  try {
    return window[place].getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** @param {Place} place  @param {string} key  @param {string} value empty: forget it */
export function store(place, key, value) {
  try {
    if (value) window[place].setItem(key, value);
    else window[place].removeItem(key);
  } catch {
    // What was to be kept is still on the page.
  }
}
