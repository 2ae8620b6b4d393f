// What panels share: a form beside a result, one request at a time that can be stopped, and what went wrong.

import { post } from "/pages/api.js";
import { button, h } from "/pages/dom.js";
import { makeForm } from "/pages/form.js";
import { writeLink } from "/pages/link.js";
import { makeToolbar } from "/pages/toolbar.js";

const ALWAYS_HIDDEN = ["model", "stream", "user", "response_format", "structured_outputs"];

// `plan`: {label, content, shown, hidden, usual, body(values), show(response, body, bench)}.
// `content` are controls above the form, `usual` are values where the link has none; `body` gives the request, `linked`
// what a link shares beside the form's values.
export function makeWorkbench(context, plan) {
  return new Workbench(context, plan);
}

class Workbench {
  constructor(context, plan) {
    this.context = context;
    this.plan = plan;
    this.stopping = null;
    const hidden = [...(plan.hidden ?? []), ...ALWAYS_HIDDEN.filter((name) => !(plan.shown ?? []).includes(name))];
    this.form = makeForm(context.fields, {
      shown: plan.shown ?? [],
      hidden,
      start: { ...plan.usual, ...context.start },
    });
    this.runButton = h("button", { type: "submit", class: "primary", "data-testid": "run" }, plan.label);
    this.stopButton = button("Stop", () => this.stop(), { "data-testid": "stop", disabled: true });
    this.status = h("p", { class: "status", role: "status", "data-testid": "status" });
    this.error = h("p", { class: "error", role: "alert", "data-testid": "error" });
    this.output = h("div", { class: "output", "data-testid": "output" });
    this.toolbar = makeToolbar();
    const controls = h("div", { class: "run" }, this.runButton, this.stopButton);
    const onsubmit = (event) => {
      event.preventDefault();
      this.run();
    };
    const asked = h(
      "form",
      { class: "ask", onsubmit, novalidate: true, "aria-label": "Request" },
      plan.content ?? [],
      controls,
      this.form.element,
    );
    const answered = h(
      "section",
      { class: "answer", "aria-label": "Result" },
      this.toolbar.element,
      this.status,
      this.error,
      this.output,
    );
    this.answered = answered;
    this.element = h("div", { class: "bench" }, asked, answered);
  }

  say(text) {
    this.status.textContent = text;
  }

  values() {
    return this.form.values();
  }

  stop() {
    this.stopping?.abort();
  }

  fail(error) {
    const place = error.param ? ` (${error.param})` : "";
    this.error.textContent = `${error.message}${place}`;
    this.form.blame(error.param);
  }

  // Asks once; a run that is under way ends first.
  async run(more = {}) {
    this.stop();
    this.error.textContent = "";
    this.form.renewSeed();
    let body;
    try {
      body = { model: this.context.card.id, ...this.values(), ...this.plan.body(this.values()), ...more };
    } catch (error) {
      this.fail(error);
      return;
    }
    await this.attend(async (signal) => {
      this.note(this.context.path, body);
      const response = await post(this.context.path, body, signal);
      await this.plan.show(response, body, this, signal);
    });
  }

  // What the toolbar copies and shares.
  note(path, body) {
    this.toolbar.asked(
      path,
      body,
      writeLink(this.context.card.id, this.context.task, { ...this.values(), ...this.plan.linked?.() }),
    );
  }

  // Runs `work` with the buttons, the time and the errors of a run.
  async attend(work) {
    const stopping = (this.stopping = new AbortController());
    this.busy(true);
    this.reveal();
    const isCold = this.context.card.state !== "ready";
    this.say(isCold ? "Waking the model …" : "Running …");
    const began = performance.now();
    try {
      await work(stopping.signal);
      if (this.stopping === stopping) this.say(`Done in ${((performance.now() - began) / 1000).toFixed(2)} s.`);
    } catch (error) {
      if (stopping.signal.aborted) {
        if (this.stopping === stopping) this.say("Stopped.");
      } else {
        this.say("");
        this.fail(error);
      }
    } finally {
      if (this.stopping === stopping) this.busy(false);
      if (isCold) this.context.refresh().catch(() => {});
    }
  }

  // On a phone the result is below the form: out of sight.
  reveal() {
    if (this.answered.getBoundingClientRect().top > innerHeight * 0.8) this.answered.scrollIntoView({ block: "start" });
  }

  busy(isBusy) {
    this.stopButton.disabled = !isBusy;
    this.output.setAttribute("aria-busy", String(isBusy));
  }
}
