import { createAnswer } from "./answer.js";
import { pageCsrf, send, sendPatiently } from "./api.js";
import { disable, find, isDisabled } from "./controls.js";
import { createCountdown } from "./countdown.js";
import { handIn } from "./handin.js";
import { createNote } from "./note.js";
import { createRenderer } from "./render.js";
import { pageState } from "./resync.js";
import { createFollower } from "./scroll.js";
import { createSheet } from "./sheet.js";
import { whenShown } from "./shown.js";
import { announce } from "./status.js";
import { follow, generationStream } from "./stream.js";
import { text } from "./strings.js";

/** @param {HTMLElement} root */
function run(root) {
  const { reportUrl = "/", professionId, canAnswer, secondsLeft, status, timeLimitMinutes } = root.dataset;
  const current = `/api/tasks/profession/${professionId}/current`;
  const sheet = createSheet(root);
  const note = createNote(root, rewrite);
  const answer = createAnswer(find(root, "[data-answer-form]"), submit);
  const countdown = createCountdown(find(root, "[data-clock]"), {
    onSleep: resync,
    onEnd: () => note.show("info", text("timeUp")),
  });
  const follower = createFollower(sheet.question);
  const question = createRenderer(sheet.question, follower.keepUp);
  const report = createRenderer(sheet.report);
  let patience = new AbortController();
  /** @type {{close: () => void} | null} */
  let stream = null;
  /** The answer that was accepted while its task still stands on the page. @type {string | null} */
  let accepted = null;

  /** @param {import("./stream.js").StreamEvent} event */
  function onEvent({ type, data }) {
    if (type === "metadata") begin(data);
    else if (type === "token") {
      sheet.setState("writing");
      question.append(data.token);
    } else if (type === "report") growReport(data.token);
    else if (type === "reset") restart();
    else if (type === "done") {
      sheet.tellSource(data);
      ready(data.full_text, data.seconds_left);
    } else if (type === "completed") location.assign(reportUrl);
    else if (type === "error") fail(data);
  }

  /** @param {import("./api.js").TaskData} task */
  function begin(task) {
    const next = String(task.id) !== root.dataset.taskId;
    if (next) sheet.putAway(accepted ?? "");
    accepted = null;
    question.reset();
    sheet.describe(task);
    sheet.setState("waiting");
    countdown.show(task.time_limit_minutes);
    answer.setReady(false);
    if (!next) return;
    announce(text("writing"));
    answer.open(String(task.id));
    follower.rest();
    sheet.comeToTop();
  }

  /** @param {string} token */
  function growReport(token) {
    if (sheet.report.hidden) {
      sheet.putAway(accepted ?? "");
      sheet.beginReport();
      note.show("ok", text("reportWriting"));
      sheet.comeToTop();
    }
    report.append(token);
  }

  function restart() {
    if (!sheet.report.hidden) return report.reset();
    if (accepted !== null) return;
    question.reset();
    sheet.setState("waiting");
  }

  /** @param {string} whole  @param {number | null} left seconds */
  async function ready(whole, left) {
    const id = root.dataset.taskId;
    countdown.start(left);
    await question.finish(whole);
    if (id !== root.dataset.taskId) return;
    sheet.setState("ready");
    answer.setReady(true);
    note.settle(text("ready"));
    announce(text("ready"));
  }

  /** @param {{code: string, message: string, retryable: boolean}} error */
  function fail(error) {
    answer.setSending(false);
    if (!sheet.report.hidden) location.assign(reportUrl);
    else if (error.code === "cancelled") {
      sheet.setState("cancelled");
      note.show("info", text("stopped"), text("writeAgain"));
      resync();
    } else {
      sheet.setState("failed");
      note.show("error", error.message || text("failed"), error.retryable === false ? "" : text("writeAgain"));
    }
  }

  /** Asks the server how things stand: after a sleep, and after a stop. */
  async function resync() {
    const state = await pageState();
    if (!state || state.taskId !== root.dataset.taskId || sheet.isBusy() || accepted !== null) return;
    answer.setReady(state.canAnswer);
    if (state.canAnswer) countdown.start(state.secondsLeft);
  }

  /** Asks for the text anew: what was stopped is kept until somebody does. */
  async function rewrite() {
    try {
      await send(`/api/simulations/${root.dataset.simulationId}/rewrite`, { method: "POST", csrf: pageCsrf() });
    } catch (error) {
      return note.fail(error, text("writeAgain"), rewrite);
    }
    write();
  }

  /** Opens the current task's text, which starts it if nobody writes it yet. */
  function write() {
    stream?.close();
    patience.abort();
    if (accepted === null) question.reset();
    answer.setReady(false);
    countdown.stop();
    sheet.setState("waiting");
    note.replace(text("writing"));
    // An earlier run has no current task: its text is looked at, and nothing is started for it.
    const own = root.dataset.isCurrent ? `${current}/stream` : generationStream(root.dataset.generationId ?? "");
    stream = follow(own, { onEvent, onGiveUp: writePlainly });
  }

  async function writePlainly() {
    if (!sheet.report.hidden) return location.assign(reportUrl);
    // Where no stream gets through, the text of an earlier run is begun and shown as for those without JavaScript.
    if (!root.dataset.isCurrent) return location.replace(`${location.pathname}?again`);
    patience = new AbortController();
    const { signal } = patience;
    note.show("info", text("slow"));
    try {
      showWhole(await sendPatiently(current, signal));
    } catch (error) {
      if (signal.aborted) return;
      sheet.setState("failed");
      note.fail(error, text("writeAgain"), write);
    }
  }

  /** @param {any} task the plain answer */
  function showWhole(task) {
    if (task.completed) return location.assign(reportUrl);
    begin(task);
    ready(task.question, task.seconds_left);
  }

  /** @param {string} value */
  async function submit(value) {
    answer.setSending(true);
    note.show("info", text("sending"));
    try {
      stream = await handIn(
        { taskId: root.dataset.taskId ?? "", answer: value, csrf: pageCsrf() },
        {
          onAccepted() {
            accepted = value;
            answer.forget();
            answer.setReady(false);
            countdown.stop();
            note.show("ok", text("accepted"));
          },
          onEvent,
          onSlow: () => note.show("info", text("slow")),
          onWhole: (result) => showWhole(result.completed ? result : result.next_task),
          onLost: writePlainly,
        },
      );
    } catch (error) {
      answer.setSending(false);
      note.fail(error, text("tryAgain"), () => submit(answer.value));
    }
  }

  sheet.stop.addEventListener("click", async () => {
    if (isDisabled(sheet.stop)) return;
    disable(sheet.stop, true);
    try {
      await send(`/api/generations/${root.dataset.generationId}/cancel`, { method: "POST", csrf: pageCsrf() });
    } catch (error) {
      disable(sheet.stop, false);
      note.fail(error);
    }
  });

  answer.open(root.dataset.taskId ?? "");
  countdown.show(timeLimitMinutes ? Number(timeLimitMinutes) : null);
  if (status === "pending" || status === "running") write();
  else if (canAnswer === "yes") {
    answer.setReady(true);
    countdown.start(secondsLeft ? Number(secondsLeft) : null);
  }
}

const root = document.querySelector("[data-task-page]");
if (root instanceof HTMLElement) whenShown(() => run(root));
