/** Pixels by which the end of the text may lie below the window and still count as being read. */
const SLACK = 48;

/**
 * Keeps the end of a growing text in view, but only for a reader who has scrolled there; whoever reads the beginning, or
 * scrolls back, is left alone.
 * @param {HTMLElement} target
 */
export function createFollower(target) {
  let following = false;
  let byHand = false;

  const below = () => target.getBoundingClientRect().bottom - window.innerHeight;

  for (const type of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    window.addEventListener(type, () => (byHand = true), { passive: true });
  }
  window.addEventListener(
    "scroll",
    () => {
      following = byHand && target.getAttribute("aria-busy") === "true" && window.scrollY > 0 && below() <= SLACK;
    },
    { passive: true },
  );

  return {
    keepUp() {
      if (!following) return;
      const distance = below();
      if (distance > 0) window.scrollBy({ top: distance + SLACK / 2, behavior: "instant" });
    },
  };
}
