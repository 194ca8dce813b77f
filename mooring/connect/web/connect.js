// For pages that were built on `@stackone/react-hub`: the global Connect.start() opens the Hub in a dialog.
(() => {
  "use strict";
  const hubUrl = document.currentScript.src.replace(/\/(stackone\/)?connect\.js.*$/, "");
  let ready;
  const load = () =>
    (ready ||= customElements.get("mooring-hub")
      ? Promise.resolve()
      : new Promise((done, failed) => {
          const script = Object.assign(document.createElement("script"), { src: `${hubUrl}/hub.js`, onload: done, onerror: failed });
          document.head.append(script);
        }));

  async function start({ sessionToken, apiUrl, styles, onSuccess, onCancel, onClose } = {}) {
    if (!sessionToken) throw new TypeError("Connect.start needs a sessionToken");
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "Connect");
    Object.assign(dialog.style, { border: "0", padding: "0", background: "transparent", width: "min(40rem, calc(100vw - 1rem))", maxHeight: "calc(100vh - 1rem)" });
    for (const [name, value] of Object.entries((styles && styles.dialog) || {})) dialog.style[name] = value;
    const hub = document.createElement("mooring-hub");
    hub.setAttribute("base-url", apiUrl || hubUrl);
    hub.token = sessionToken;
    let linked = false;
    const end = () => {
      if (dialog.open) dialog.close();
      dialog.remove();
      if (!linked && onCancel) onCancel();
      if (onClose) onClose();
    };
    hub.onSuccess = (account) => {
      linked = true;
      if (onSuccess) onSuccess(account);
    };
    hub.onClose = end;
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end();
    });
    dialog.append(hub);
    document.body.append(dialog);
    dialog.showModal();
    await load();
    return { close: end };
  }
  window.Connect = { start };
})();
