import { pageCsrf, sendPatiently } from "../../web/js/api.js";
import { find } from "../../web/js/controls.js";
import { createRenderer } from "../../web/js/render.js";
import { whenShown } from "../../web/js/shown.js";
import { announce } from "../../web/js/status.js";
import { follow, generationStream } from "../../web/js/stream.js";
import { text } from "../../web/js/strings.js";
import { createAnswer } from "./answer.js";
import { createCountdown } from "./countdown.js";
import { createFollower } from "./follower.js";
import { handIn } from "./handin.js";
import { createNotice } from "./notice.js";
import { pageState } from "./pagestate.js";
import { askForAnother, wireStop } from "./stop.js";
import { createTaskView } from "./taskview.js";

/** @param {HTMLElement} root */
function run(root) {
  const { reportUrl = "/", professionId, canAnswer, secondsLeft, status, timeLimitMinutes } = root.dataset;
  const current = `/api/tasks/profession/${professionId}/current`;
  const taskView = createTaskView(root);
  const notice = createNotice(root, rewrite);
  const answer = createAnswer(find(root, "[data-answer-form]"), submit, () => notice.show("warning", text("blankAnswer")));
  const countdown = createCountdown(find(root, "[data-clock]"), {
    onSleep: resync,
    onEnd: () => notice.show("info", text("timeUp")),
  });
  const follower = createFollower(taskView.question);
  const question = createRenderer(taskView.question, follower.keepUp);
  let patience = new AbortController();
  let stream = /** @type {{close: () => void} | null} */ (null);

  /** @param {import("../../web/js/stream.js").StreamEvent} event */
  function onEvent({ type, data }) {
    if (type === "metadata") begin(data);
    else if (type === "token") {
      taskView.setState("writing");
      question.append(data.token);
    } else if (type === "reset") {
      question.reset();
      taskView.setState("waiting");
    } else if (type === "done") {
      taskView.tellSource(data);
      ready(data.full_text, data.seconds_left);
    } else if (type === "report" || type === "completed") location.assign(reportUrl);
    else if (type === "error") fail(data);
  }

  /** @param {import("../../web/js/api.js").TaskData} task */
  function begin(task) {
    // This one was answered elsewhere, in another tab perhaps: the page of the next one is another page.
    if (String(task.id) !== root.dataset.taskId) return location.reload();
    question.reset();
    taskView.describe(task);
    taskView.setState("waiting");
    countdown.show(task.time_limit_minutes);
    answer.setReady(false);
  }

  /** @param {string} whole  @param {number | null} left seconds */
  async function ready(whole, left) {
    const id = root.dataset.taskId;
    countdown.start(left);
    await question.finish(whole);
    if (id !== root.dataset.taskId) return;
    taskView.setState("ready");
    answer.setReady(true);
    notice.settle(text("ready"));
    announce(text("ready"));
  }

  /** @param {{code: string, message: string, retryable: boolean}} error */
  function fail(error) {
    answer.setSending(false);
    if (error.code === "cancelled") {
      taskView.setState("cancelled");
      notice.show("info", text("stopped"), text("writeAgain"));
      resync();
    } else {
      taskView.setState("failed");
      notice.show("error", error.message || text("failed"), error.retryable === false ? "" : text("writeAgain"));
    }
  }

  /** Asks the server how things stand: after a sleep, and after a stop. */
  async function resync() {
    const state = await pageState();
    if (!state || state.taskId !== root.dataset.taskId || taskView.isBusy()) return;
    answer.setReady(state.canAnswer);
    if (state.canAnswer) countdown.start(state.secondsLeft);
  }

  /** Asks for the text anew: what was stopped is kept until somebody does. */
  function rewrite() {
    askForAnother(root.dataset.simulationId ?? "").then(write, (error) => notice.fail(error, text("writeAgain"), rewrite));
  }

  /** Opens the current task's text, which starts it if nobody writes it yet. */
  function write() {
    stream?.close();
    patience.abort();
    question.reset();
    answer.setReady(false);
    countdown.stop();
    taskView.setState("waiting");
    notice.replace(text("writing"));
    // An earlier run has no current task: its text is looked at, and nothing is started for it.
    const address = root.dataset.isCurrent ? `${current}/stream` : generationStream(root.dataset.generationId ?? "");
    stream = follow(address, { onEvent, onGiveUp: writePlainly });
  }

  async function writePlainly() {
    // Where no stream gets through, the text of an earlier run is begun and shown as for those without JavaScript.
    if (!root.dataset.isCurrent) return location.replace(`${location.pathname}?again`);
    patience = new AbortController();
    const { signal } = patience;
    notice.show("info", text("slow"));
    try {
      showWhole(await sendPatiently(current, signal));
    } catch (error) {
      if (signal.aborted) return;
      taskView.setState("failed");
      notice.fail(error, text("writeAgain"), write);
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
    const taskId = root.dataset.taskId ?? "";
    answer.setSending(true);
    notice.show("info", text("sending"));
    try {
      await handIn({ taskId, answer: value, csrf: pageCsrf() }, () => notice.show("info", text("slow")));
      answer.forget();
      countdown.stop();
      notice.show("ok", text("accepted"));
      location.assign(`/tasks/${taskId}/debrief`);
    } catch (error) {
      answer.setSending(false);
      notice.fail(error, text("tryAgain"), () => submit(answer.value));
    }
  }

  wireStop(taskView.stop, () => root.dataset.generationId ?? "", notice.fail);
  answer.open(root.dataset.taskId ?? "");
  countdown.show(timeLimitMinutes ? Number(timeLimitMinutes) : null);
  if (status === "pending" || status === "running") write();
  else if (canAnswer === "yes") {
    answer.setReady(true);
    countdown.start(secondsLeft ? Number(secondsLeft) : null);
  }
}

const page = document.querySelector("[data-task-page]");
if (page instanceof HTMLElement) whenShown(() => run(page));
