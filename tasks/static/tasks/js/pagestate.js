/**
 * How this page would look if it were loaded now. Reading a page starts nothing, unlike asking for the current task.
 * @returns {Promise<{taskId: string, canAnswer: boolean, secondsLeft: number | null} | null>} null if the page cannot be read
 */
export async function pageState() {
  try {
    const response = await fetch(location.pathname, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const root = page.querySelector("[data-task-page]");
    if (!(root instanceof HTMLElement)) return null;
    const { taskId = "", canAnswer, secondsLeft } = root.dataset;
    return { taskId, canAnswer: canAnswer === "yes", secondsLeft: secondsLeft ? Number(secondsLeft) : null };
  } catch {
    return null;
  }
}
