// The provider's consent page: in a popup, or in this tab where popups are blocked. The form was posted to the attempt, so
// the address that opens holds a one-time code and nothing else. How it ended is asked from the server, so a closed window,
// a lost opener or a reload of this page changes nothing.

const POLL_MS = 1000;
const framed = window.top !== window;
const handheld = () => matchMedia("(pointer: coarse)").matches && innerWidth < 800;

// Must run inside the click itself, or the browser blocks it.
function openPopup() {
  if (handheld() && !framed) return null;
  const [width, height] = [Math.min(1024, screen.availWidth - 40), Math.min(800, screen.availHeight - 40)];
  const left = Math.max(0, Math.round((window.screenX || 0) + (window.outerWidth - width) / 2));
  const top = Math.max(0, Math.round((window.screenY || 0) + (window.outerHeight - height) / 2));
  try {
    return window.open("about:blank", "mooring-connect", `popup,width=${width},height=${height},left=${left},top=${top}`);
  } catch {
    return null;
  }
}

async function startConsent(app, flow) {
  const { connector, account, integration, values, submit, rest, refuse } = flow;
  let popup = openPopup();
  if (popup?.closed) popup = null; // some blockers close it at once
  const names = { ...app.names, name: connector.name };
  app.busy(submit, true, app.t("opening", names));
  const address = location.href.split("#")[0];
  const here = app.hosted ? `${app.base}/embedded/integrations` : address.length < 1800 ? address : address.split("?")[0];
  const body = { integration_id: integration, credentials: values };
  if (account) body.account_id = account.id;
  let attempt;
  try {
    try {
      attempt = await call(app, "/connection_attempts", "POST", popup || framed ? body : { ...body, return_url: here });
    } catch (refusal) {
      // The page is on no registered origin: the flow ends on a page of the hub's own instead.
      if (refusal.body.errorCode !== "RedirectNotAllowedError") throw refusal;
      attempt = await call(app, "/connection_attempts", "POST", body);
    }
  } catch (refusal) {
    popup?.close();
    app.busy(submit, false);
    rest();
    return refuse(refusal);
  }
  memory.set("attempt", { id: attempt.id, base: app.base, key: connector.key, integration, account: account?.id });
  const waiting = { connector, account, integration, values, attempt: attempt.id, popup };
  if (popup) {
    popup.location.replace(attempt.launch_url);
    app.replace("waiting", waiting);
  } else if (framed) app.replace("waiting", { ...waiting, link: attempt.launch_url });
  else {
    app.say(app.t("redirecting", names));
    location.assign(attempt.launch_url);
  }
}

function waitingView(app, flow) {
  const { connector, account, attempt, popup, link } = flow;
  const names = { ...app.names, name: connector.name };
  const text = h("p", {}, app.t(link ? "blockedText" : "waitingText", names));
  const title = app.heading(app.t(link ? "blockedTitle" : "waitingTitle", names));
  const again = () => {
    call(app, `/connection_attempts/${attempt}`, "DELETE").catch(() => {});
    memory.set("attempt", null);
    app.replace("form", { ...flow, popup: null, link: null });
  };
  const actions = h("div", { class: "actions" });
  const usual = () => {
    const first = link
      ? h("a", { class: "button primary", href: link, target: "_blank", rel: "noreferrer", onclick: () => setTimeout(() => actions.firstChild.remove()) }, app.t("openTab", names), icon("out", 18))
      : popup && button(app.t("showWindow"), () => popup.focus(), "primary");
    actions.replaceChildren(...[first, button(app.t("cancel"), again)].filter(Boolean));
  };
  const closed = () => {
    title.textContent = app.t("closedTitle");
    title.dataset.asked = "closed";
    text.textContent = app.t("closedText", names);
    app.say(app.t("closedTitle"));
    actions.replaceChildren(button(app.t("startAgain"), again, "primary"), button(app.t("keepWaiting"), usual));
  };
  usual();
  if (!popup && !link) closed();
  watch(app, flow, closed);
  return [
    h("div", { class: "lead center" }, h("div", { class: "pair" }, appMark(app), h("span", { class: "soft" }, icon("swap")), logo(connector.logo_url, 56))),
    h("div", { class: "center" }, title, text, h("div", { class: "pulse", "aria-hidden": "true" }, h("i"), h("i"), h("i"))),
    actions,
  ];
}

function appMark(app) {
  const { logo_url, name } = app.data.app;
  return logo_url ? logo(logo_url, 56) : h("span", { class: "mono", "aria-hidden": "true" }, name.slice(0, 1).toUpperCase());
}

async function watch(app, flow, onClosed) {
  const { attempt, popup } = flow;
  const mine = (app.watching = {});
  let wake;
  const hurry = () => wake?.();
  const channel = "BroadcastChannel" in window && new BroadcastChannel("oauth_channel");
  if (channel) channel.onmessage = hurry;
  document.addEventListener("visibilitychange", hurry);
  let gone = 0;
  try {
    while (app.watching === mine) {
      await new Promise((done) => {
        wake = done;
        setTimeout(done, POLL_MS);
      });
      if (app.watching !== mine) return;
      let state;
      try {
        state = await call(app, `/connection_attempts/${attempt}`);
      } catch (refusal) {
        if (refusal.status === 401 && app.watching === mine) return app.fatal(refusal);
        if (refusal.status !== 404) continue; // a moment without network is no end
        state = { status: "expired" };
      }
      if (app.watching !== mine) return;
      if (state.status !== "pending") return ended(app, flow, state);
      // A provider's page may cut the tie to its opener, which looks like a closed window: so this is only a question.
      if (popup?.closed && ++gone === 2) onClosed();
    }
  } finally {
    channel && channel.close();
    document.removeEventListener("visibilitychange", hurry);
  }
}

function ended(app, flow, state) {
  memory.set("attempt", null);
  try {
    flow.popup?.close();
  } catch {}
  if (state.status === "authenticated") {
    const account = { id: state.account.id, provider: state.account.provider || flow.connector.key };
    return app.finish(account, flow.connector, { updated: Boolean(flow.account), missing: state.account.missing_scopes, warning: state.warning, flow });
  }
  if (state.status === "cancelled") return app.replace("form", { ...flow, popup: null });
  app.replace("failed", { ...flow, popup: null, state });
}

function failedView(app, flow) {
  const { connector, state } = flow;
  const names = { ...app.names, name: connector.name };
  const code = state.error?.code || state.status;
  const denied = code === "access_denied";
  const key = denied ? "denied" : state.status === "expired" ? "timeout" : "failed";
  app.emit("error", { code, message: state.error?.description || code });
  const place = h("div");
  if (key === "failed") {
    // Newer hubs say it in words of their own beside the description, which ends with the id of the log's entry.
    const told = state.diagnosis || state.error?.diagnosis;
    const text = state.error?.description || code;
    const body = { message: text, cause: code, requestId: /Reference: ([\w-]{36})/.exec(text)?.[1] };
    if (told) Object.assign(body, { message: `${connector.name}: ${told.for_user}`, hint: told.what_to_do, provider_response: text });
    app.refused(new Refusal(422, body), place, connector, true);
  }
  return [
    h("div", { class: "lead" }, logo(connector.logo_url, 48), h("div", { class: "grow" }, app.heading(app.t(key + "Title", names)))),
    key === "failed" ? place : h("p", {}, app.t(key + "Text", names)),
    h("div", { class: "actions" }, button(app.t("tryAgain"), () => app.replace("form", flow), "primary")),
    key !== "failed" && supportLine(app),
  ];
}

function doneView(app, { connector, missing, updated, warning, flow }) {
  const names = { ...app.names, name: connector.name };
  const partial = missing?.length > 0;
  const actions = [];
  if (partial && flow) actions.push(button(app.t("grant"), () => app.replace("form", { connector, account: app.data.accounts.find((a) => a.id === flow.linked) || flow.account, integration: flow.integration, values: flow.values }), "primary"));
  if (!app.hosted) actions.push(button(app.t(partial ? "later" : "done"), () => app.close(), partial ? "" : "primary"));
  if (app.data.account_id === null && (app.data.connectors.length > 1 || app.data.accounts.length)) actions.push(button(app.t("overview"), () => app.home()));
  return [
    h("div", { class: "center" }, h("div", { class: `seal ${partial ? "warn" : "ok"}` }, icon(partial ? "warn" : "ok", 32)), app.heading(app.t(partial ? "partialTitle" : updated ? "updatedTitle" : "doneTitle", names))),
    partial ? [h("p", { class: "center" }, app.t("partialText", names)), scopeList(app, missing, "close")] : h("p", { class: "center" }, app.t(app.hosted ? "doneTextClose" : "doneText", names)),
    warning?.description && h("p", { class: "note" }, icon("warn"), h("span", {}, app.causeText(warning.code), " ", app.said("span", warning.description))),
    h("div", { class: "actions center" }, ...actions),
  ];
}
