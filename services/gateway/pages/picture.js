// A picture that is given: from a file or from another panel, as large as the model wants it, as a data: URL.

import { h, labelled } from "/pages/dom.js";

export function load(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("This file is not an image that the browser reads."));
    image.src = url;
  });
}

export function dataUrlOf(image, width = image.naturalWidth, height = image.naturalHeight) {
  const canvas = h("canvas", { width, height });
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas.toDataURL("image/png");
}

// {element, image, ready, url(width, height)}; `taken` is called with each image that is picked.
export function makePicker(text, { first = null, taken = () => {} } = {}) {
  const shown = h("img", { class: "pixels thumb", alt: "", width: 96, height: 96, hidden: true });
  const picker = {
    image: null,
    url: (width, height) => {
      if (!picker.image) throw new Error(`${text}: choose an image first.`);
      return dataUrlOf(picker.image, width, height);
    },
    async take(url) {
      picker.image = await load(url);
      shown.src = picker.image.src;
      shown.alt = text;
      shown.hidden = false;
      taken(picker.image);
    },
  };
  const input = h("input", {
    type: "file",
    accept: "image/png,image/jpeg,image/webp",
    "data-testid": "picture",
    onchange: async () => {
      const [file] = input.files;
      if (file) await picker.take(URL.createObjectURL(file)).catch(() => (input.value = ""));
    },
  });
  picker.element = h("div", { class: "picture" }, labelled(text, input), shown);
  picker.ready = first ? picker.take(first) : Promise.resolve();
  return picker;
}
