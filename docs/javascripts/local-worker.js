"use strict";
// Browsers start no worker for a page opened from disk. Its script runs in a hidden frame instead, so that search works.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href).href;
      this.ready = new Promise((done) => script.addEventListener("load", done));
      this.post = (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      inside.document.body.append(script);
    }

    postMessage(data) {
      this.ready.then(() => this.post(data));
    }
  };
}
