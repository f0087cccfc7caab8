import { announce } from "./status.js";

/** @param {HTMLElement} banner shown while the browser has no network */
export function watchNetwork(banner) {
  const update = () => {
    banner.hidden = navigator.onLine;
    if (!banner.hidden) announce(banner.textContent.trim());
  };
  window.addEventListener("online", update);
  window.addEventListener("offline", update);
  update();
}
